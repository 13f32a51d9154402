# Completion of muster for bash. Either source it,
#
#     source <(muster completion bash)
#
# or have it found by the package bash-completion, as the file muster in
# ~/.local/share/bash-completion/completions. It asks muster itself what can follow, so it
# stays right when muster changes.

_muster() {
	local answer kind line
	COMPREPLY=()
	answer=$("${1/#\~\//$HOME/}" __complete bash "$COMP_WORDBREAKS" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null </dev/null) || return 0
	kind=${answer%%$'\n'*}
	case $kind in
	files) compopt -o default 2>/dev/null ;;
	dirs) compopt -o dirnames 2>/dev/null ;;
	words)
		compopt -o nosort 2>/dev/null
		[[ $answer == *$'\n'* ]] || return 0
		while IFS= read -r line; do
			COMPREPLY+=("$line")
		done <<<"${answer#*$'\n'}"
		;;
	esac
	return 0
}

complete -F _muster muster
