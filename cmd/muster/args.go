package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// line is a command line, put in the order that the flag parser needs.
type line struct {
	args  []string        // program, verb, flags, "--", arguments
	given map[string]bool // the flags that stand in it, as against the environment
}

// errHelp says that help is asked for in place of what the verb does.
var errHelp = errors.New("help")

// arrange puts the flags of a command line before its arguments, so that they may
// stand anywhere: in front of the verb (those that all verbs have), before or after
// the arguments. Behind "--" there are only arguments. What has no name among the
// verb's flags is an error here, because the parser would answer with a page of help.
func arrange(app *cli.App, args []string) (line, error) {
	l := line{args: args[:min(len(args), 1)], given: map[string]bool{}}
	args = args[len(l.args):]

	early, args, err := beforeVerb(app, args)
	if err != nil {
		return line{}, err
	}
	if len(args) == 0 {
		return line{}, misuse("no verb (muster help lists them)")
	}
	verb := app.Command(args[0])
	if verb == nil {
		return line{}, unknownVerb(app, args[0])
	}
	flags, words, err := part(app, verb, append(early, args[1:]...))
	if errors.Is(err, errHelp) {
		l.args = append(l.args, "help", "--", verb.Name)
		return l, nil
	}
	if err != nil {
		return line{}, err
	}
	for _, f := range flags {
		name, _, _ := flagName(f)
		l.given[name] = true
	}
	l.args = append(append(append(l.args, verb.Name), flags...), "--")
	l.args = append(l.args, words...)
	return l, nil
}

// beforeVerb takes the flags in front of the verb. They must be those of every verb.
func beforeVerb(app *cli.App, args []string) (flags, rest []string, err error) {
	for len(args) > 0 {
		name, _, joined := flagName(args[0])
		if name == "" {
			break
		}
		if isHelp(name) {
			return nil, []string{"help"}, nil
		}
		if name == "version" {
			return nil, []string{"version"}, nil
		}
		f := findFlag(sharedFlags("", ""), name)
		if f == nil {
			return nil, nil, unknownEarly(app, name)
		}
		n := 1
		if takesValue(f) && !joined {
			n = 2
		}
		if n > len(args) {
			return nil, nil, misuse("--%s needs a value", name)
		}
		flags, args = append(flags, args[:n]...), args[n:]
	}
	return flags, args, nil
}

// part parts what follows a verb into flags, with their values, and arguments.
func part(app *cli.App, verb *cli.Command, args []string) (flags, words []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return flags, append(words, args[i+1:]...), nil
		}
		name, value, joined := flagName(arg)
		if name == "" {
			words = append(words, arg)
			continue
		}
		if isHelp(name) {
			return nil, nil, errHelp
		}
		f := findFlag(verb.Flags, name)
		switch {
		case f == nil:
			return nil, nil, unknownFlag(app, verb, name)
		case !takesValue(f):
			if joined && value != "true" && value != "false" {
				return nil, nil, misuse("--%s is either there or not, it takes no value %q", name, value)
			}
		case !joined:
			if i++; i == len(args) {
				return nil, nil, misuse("--%s needs a value", name)
			}
			// Joined, so that a value is never taken for a flag.
			value, arg = args[i], arg+"="+args[i]
		}
		if err := checkValue(f, name, value); err != nil {
			return nil, nil, err
		}
		flags = append(flags, arg)
	}
	return flags, words, nil
}

// checkValue says what a number or a duration looks like where the flag parser only
// says that this is none.
func checkValue(f cli.Flag, name, value string) error {
	switch f.(type) {
	case *cli.IntFlag:
		if _, err := strconv.ParseInt(value, 0, 0); err != nil {
			return misuse("--%s %q is no whole number", name, value)
		}
	case *cli.DurationFlag:
		if _, err := time.ParseDuration(value); err != nil {
			return misuse("--%s %q is no duration, want one such as 90s, 5m or 168h", name, value)
		}
	}
	return nil
}

// flagName reads "--name", "-name" and "--name=value". The name is empty for what is
// no flag: a word, "-" and "--".
func flagName(arg string) (name, value string, joined bool) {
	if len(arg) < 2 || arg[0] != '-' || arg == "--" {
		return "", "", false
	}
	name, value, joined = strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
	return name, value, joined
}

func isHelp(name string) bool { return name == "help" || name == "h" }

func findFlag(known []cli.Flag, name string) cli.Flag {
	for _, f := range known {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}
