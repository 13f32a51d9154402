package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/internal/visible"
)

// completeVerb is what the scripts of muster completion call. It is no verb of the
// program: its words are those of another command line, which may be wrong or unfinished.
const completeVerb = "__complete"

const (
	// completionSpan is how long what is looked for may take: somebody has pressed TAB.
	completionSpan = time.Second
	// completionGrace is how much longer is waited for what was found until then.
	completionGrace = 250 * time.Millisecond
)

// offer is what can stand in the place of the word that is being typed.
type offer struct {
	kind  offered
	words []candidate // of offerWords
}

// offered is the first line of an answer to a shell.
type offered string

const (
	offerWords offered = "words"
	offerFiles offered = "files" // the shell knows best
	offerDirs  offered = "dirs"
)

type candidate struct{ word, about string }

// complete answers a shell:
//
//	muster __complete bash BREAKS LINE       LINE ends where the cursor is
//	muster __complete zsh|fish WORD...       the last one is that which is typed
//
// The answer is a line that says what follows, and a line for each word, with what it
// is behind a tab. Whatever goes wrong, nothing is offered and nothing is said.
func (a *app) complete(ctx context.Context, args []string) {
	ctx, cancel := context.WithTimeout(ctx, completionSpan)
	defer cancel()
	answer := make(chan string, 1)
	go func() { // ends with the process: to open a file, a pipe for one, may take for ever
		var out strings.Builder
		defer func() { answer <- out.String() }()
		if supervise.Safely(func() error { a.answer(ctx, &out, args); return nil }) != nil {
			out.Reset()
		}
	}()
	select {
	case text := <-answer:
		_, _ = io.WriteString(a.stdout, text) // there is nobody to tell
	case <-time.After(completionSpan + completionGrace):
	}
}

// answer writes what complete says.
func (a *app) answer(ctx context.Context, out io.Writer, args []string) {
	if len(args) == 0 {
		return
	}
	shell, words, cut := args[0], args[1:], 0
	if shell == "bash" {
		if len(args) != 3 {
			return
		}
		line := splitLine(args[2], args[1])
		if line.redirect {
			fmt.Fprintln(out, offerFiles)
			return
		}
		words, cut = line.words, line.cut
		words = words[min(len(words), 1):] // the program
	}
	if len(words) == 0 {
		return
	}
	o := a.offer(ctx, words)
	fmt.Fprintln(out, o.kind)
	for _, c := range o.words {
		switch {
		case shell == "bash": // it replaces what follows the last character that parts words
			fmt.Fprintln(out, c.word[min(cut, len(c.word)):])
		case c.about != "":
			fmt.Fprintf(out, "%s\t%s\n", c.word, visible.Line(c.about))
		default:
			fmt.Fprintln(out, c.word)
		}
	}
}

// partial is a command line that ends in the middle.
type partial struct {
	verb    *cli.Command
	values  map[string][]string // of the flags that are complete, nil for the others
	words   []string            // arguments that are complete
	waiting cli.Flag            // whose value is being typed
	behind  bool                // only arguments can follow
	current string
}

// readPartial reads a command line as arrange does, but takes it as it is.
func readPartial(app *cli.App, words []string) partial {
	p := partial{values: map[string][]string{}, current: words[len(words)-1]}
	known := sharedFlags("", "")
	for _, w := range words[:len(words)-1] {
		name, value, joined := flagName(w)
		switch {
		case p.waiting != nil:
			p.take(p.waiting, w)
		case p.behind, name == "" && w != "--" && p.verb != nil:
			p.words = append(p.words, w)
		case w == "--":
			p.behind = true
		case name == "":
			if p.verb = app.Command(w); p.verb == nil {
				p.behind = true // of what follows nothing is known
				p.words = append(p.words, w)
				continue
			}
			known = p.verb.Flags
		default:
			f := findFlag(known, name)
			switch {
			case f == nil:
			case joined || !takesValue(f):
				p.take(f, value)
			default:
				p.waiting = f
			}
		}
	}
	return p
}

func (p *partial) take(f cli.Flag, value string) {
	name := f.Names()[0]
	p.values[name] = append(p.values[name], value)
	p.waiting = nil
}

// value is that of a flag that stands once, the last one if it stands again.
func (p partial) value(flag string) (string, bool) {
	if all := p.values[flag]; len(all) > 0 {
		return all[len(all)-1], true
	}
	return "", false
}

// offer finds what can stand in the place of the last word.
func (a *app) offer(ctx context.Context, words []string) offer {
	commands := a.commands()
	p := readPartial(commands, words)
	flags := sharedFlags("", "")
	if p.verb != nil {
		flags = p.verb.Flags
	}
	name, value, joined := flagName(p.current)
	switch {
	case p.waiting != nil:
		return a.offerValue(ctx, p, p.waiting, p.current, "")
	case p.behind && p.verb == nil:
		return offer{kind: offerWords}
	case joined && !p.behind:
		f := findFlag(flags, name)
		if f == nil {
			return offer{kind: offerWords}
		}
		return a.offerValue(ctx, p, f, value, p.current[:len(p.current)-len(value)])
	case strings.HasPrefix(p.current, "-") && !p.behind:
		return beginning(p.current, flagsLeft(p, flags))
	case p.verb == nil:
		return beginning(p.current, verbsOffered(commands))
	}
	return a.offerArgument(ctx, commands, p)
}

// beginning offers those that begin with what was typed.
func beginning(typed string, all []candidate) offer {
	return offer{offerWords, slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.word, typed) })}
}

func verbsOffered(app *cli.App) (all []candidate) {
	for _, v := range app.Commands {
		all = append(all, candidate{v.Name, v.Usage})
	}
	return all
}

// flagsLeft are the flags that can still be given: those that stand there already only if
// they are lists.
func flagsLeft(p partial, flags []cli.Flag) (all []candidate) {
	for _, f := range flags {
		name := f.Names()[0]
		if _, isList := f.(*cli.StringSliceFlag); p.values[name] == nil || isList {
			_, text := flagUsage(f)
			all = append(all, candidate{"--" + name, text})
		}
	}
	if p.verb == nil || p.verb.Name != "help" {
		all = append(all, candidate{"--help", "what there is to say of it"})
	}
	return all
}

// offerValue offers values of a flag, each behind before, which is typed already.
func (a *app) offerValue(ctx context.Context, p partial, f cli.Flag, typed, before string) offer {
	var all []candidate
	switch name := f.Names()[0]; name {
	case "config", "commands", "request", "log-file":
		return offer{kind: offerFiles}
	case "state-dir":
		return offer{kind: offerDirs}
	case "log-level":
		all = candidates("debug", "info", "warn", "error")
	case "log-format":
		all = candidates("text", "json")
	case "offline":
		all = candidates("report", "wait")
	case "host":
		all = a.offerHosts(ctx, p, typed, p.values[name])
	default:
		if !takesValue(f) {
			all = candidates("true", "false")
		}
	}
	o := beginning(typed, all)
	for i := range o.words {
		o.words[i].word = before + o.words[i].word
	}
	return o
}

// offerArgument offers what stands behind a verb without a flag, and its flags where
// nothing can.
func (a *app) offerArgument(ctx context.Context, app *cli.App, p partial) offer {
	var all []candidate
	first := len(p.words) == 0
	switch p.verb.Name {
	case "hosts":
		all = a.offerHosts(ctx, p, p.current, p.words)
	case "status", "results", "verify", "cancel":
		if first {
			all = a.offerNumbers(ctx, p, p.verb.Name == "cancel")
		}
	case "help":
		if first {
			all = verbsOffered(app)
		}
	case "completion":
		if first {
			all = candidates(shells()...)
		}
	}
	if len(all) == 0 && p.current == "" && !p.behind && (p.verb.ArgsUsage == "" || !first) {
		all = flagsLeft(p, p.verb.Flags)
	}
	return beginning(p.current, all)
}

func candidates(words ...string) (all []candidate) {
	for _, w := range words {
		all = append(all, candidate{word: w})
	}
	return all
}
