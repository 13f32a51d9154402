# Completion of muster for fish. Either source it,
#
#     muster completion fish | source
#
# or put it where fish looks, as ~/.config/fish/completions/muster.fish. It asks muster
# itself what can follow, so it stays right when muster changes.

function __muster_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -l lines ($program __complete fish $words[2..-1] "$current" 2>/dev/null </dev/null)
    set -l flag (string match -r -- '^--[^=]*=' "$current")
    set -l value (string replace -r -- '^--[^=]*=' '' "$current")
    switch "$lines[1]"
        case files
            for path in (__fish_complete_path "$value")
                printf '%s%s\n' "$flag" "$path"
            end
        case dirs
            for path in (__fish_complete_directories "$value")
                printf '%s%s\n' "$flag" "$path"
            end
        case words
            printf '%s\n' $lines[2..-1]
    end
end

complete -c muster -f -k -a '(__muster_complete)'
