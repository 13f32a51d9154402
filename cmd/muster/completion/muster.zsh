#compdef muster
# Completion of muster for zsh. Either source it, behind compinit,
#
#     source <(muster completion zsh)
#
# or put it where zsh looks for functions, as the file _muster in a directory of $fpath.
# It asks muster itself what can follow, so it stays right when muster changes.

_muster() {
	local program=${words[1]/#\~\//$HOME/}
	local -a lines values shown
	lines=("${(@f)$("$program" __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)}")
	case $lines[1] in
	files | dirs)
		compset -P '--*='
		if [[ $lines[1] == dirs ]]; then _files -/; else _files; fi
		;;
	words)
		shift lines
		values=("${(@)lines%%$'\t'*}")
		shown=("${(@)lines/$'\t'/  -- }")
		if [[ "$values" == "$shown" ]]; then
			compadd -V muster -a values
		else
			compadd -l -V muster -d shown -a values
		fi
		;;
	esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
	_muster "$@"
else
	compdef _muster muster
fi
