package main

import (
	"embed"
	"path"

	"github.com/urfave/cli/v2"
)

// The scripts for the shells are small: they call muster back, as muster __complete, and
// hand what it says on to the shell.
//
//go:embed completion
var completionScripts embed.FS // never changes

// shells are those that there is a script for.
func shells() []string { return []string{"bash", "zsh", "fish"} }

func (a *app) completionVerb() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a script with which a shell completes what is typed", ArgsUsage: "bash|zsh|fish",
		Description: `Verbs, flags and their values are completed, host ids from the roll, and task numbers, the newest first. ` +
			`For these two Redis is asked, the one of the line or of the settings; it has one second to answer.

In bash, for each new shell (or as the file ~/.local/share/bash-completion/completions/muster):

    echo 'source <(muster completion bash)' >> ~/.bashrc

In zsh, where .zshrc has "autoload -Uz compinit && compinit" (or as the file _muster in a directory of $fpath):

    echo 'source <(muster completion zsh)' >> ~/.zshrc

In fish:

    muster completion fish > ~/.config/fish/completions/muster.fish`,
		Action: a.completion,
	}
}

func (a *app) completion(c *cli.Context) error {
	if c.NArg() != 1 {
		return misuse("completion takes one shell: %s", oneOf(shells()))
	}
	name := c.Args().First()
	script, err := completionScripts.ReadFile(path.Join("completion", "muster."+name))
	if err != nil {
		if shell := nearest(name, shells()); shell != "" {
			return misuse("there is no completion for %s: did you mean %s?", clipped(name), shell)
		}
		return misuse("there is no completion for %s, want %s", clipped(name), oneOf(shells()))
	}
	p := a.printer(c)
	p.write(script)
	return p.end(statusOK)
}
