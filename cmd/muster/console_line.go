package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/musterhq/muster/tasks"
)

// consoleLine is what a line of the console says: a verb with its words, or a command
// and the hosts it is for. It is empty for a line that says nothing.
type consoleLine struct {
	verb    string // with its colon
	words   []string
	hosts   []string // none: every host that is online
	command string   // or the name of one
}

// consoleVerbs are those that the session knows.
func consoleVerbs() []string { return []string{":help", ":hosts", ":list", ":results"} }

// isExit reports whether a line leaves the console.
func isExit(text string) bool {
	text = strings.TrimSpace(text)
	return text == "exit()" || text == "exit"
}

func parseLine(text string) (consoleLine, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "" || text[0] == '#':
		return consoleLine{}, nil
	case text[0] == ':':
		words := strings.Fields(text)
		return consoleLine{verb: words[0], words: words[1:]}, nil
	case text[0] != '@':
		return consoleLine{command: text}, nil
	}
	target, command := text[1:], ""
	if i := strings.IndexAny(target, " \t"); i >= 0 {
		target, command = target[:i], strings.TrimSpace(target[i:])
	}
	hosts := strings.Split(target, ",")
	for _, h := range hosts {
		if h == "" {
			return consoleLine{}, misuse("@%s: a host's name is missing (there are no blanks between the names)", target)
		}
		if !tasks.ValidHost(h) {
			return consoleLine{}, misuse("%q is no host id", h)
		}
	}
	if command == "" {
		return consoleLine{}, misuse("what is to run on %s?", someOf(hosts))
	}
	return consoleLine{hosts: hosts, command: command}, nil
}

// lineError says what is wrong with a request that a line has made.
func lineError(err error) error {
	var invalid *tasks.InvalidError
	if errors.As(err, &invalid) {
		return misuse("%s", invalid.Reason)
	}
	return err
}

// near says which verbs and instructions are close to a verb that does not exist.
func (s *session) near(verb string) string {
	close := append(near(verb, consoleVerbs()), near(strings.TrimPrefix(verb, ":"), s.names())...)
	if len(close) == 0 {
		return " (:help shows what there is)"
	}
	return ", near to it: " + someOf(close)
}

// startingWith returns those of names that begin with a prefix, in order.
func startingWith(prefix string, names []string) []string {
	found := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, prefix) })
	slices.Sort(found)
	return slices.Compact(found)
}
