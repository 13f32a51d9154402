package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
)

// mostSuggested is how many names one message may offer.
const mostSuggested = 3

// unknownVerb says that there is no such verb, and which may be meant.
func unknownVerb(app *cli.App, name string) error {
	var known, quoted []string
	for _, v := range app.Commands {
		known = append(known, v.Name)
	}
	for _, n := range near(name, known) {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	if len(quoted) == 0 || len(quoted) > mostSuggested {
		return misuse("unknown verb %s (muster help lists them)", clipped(name))
	}
	return misuse("unknown verb %s: did you mean %s?", clipped(name), oneOf(quoted))
}

// unknownFlag says that a verb has no such flag, which of its own may be meant, and which
// verbs have it.
func unknownFlag(app *cli.App, verb *cli.Command, name string) error {
	var says []string
	meant := dashed(near(name, flagNames(verb.Flags)))
	if len(meant) > 0 && len(meant) <= mostSuggested {
		says = append(says, "did you mean "+oneOf(meant)+"?")
	}
	if others := verbsWith(app, name); len(others) > 0 {
		says = append(says, fmt.Sprintf("--%s is a flag of %s", name, allOf(others)))
	}
	if len(says) == 0 {
		return misuse("unknown flag --%s of %s (muster help %s shows its flags)", shownName(name), verb.Name, verb.Name)
	}
	return misuse("unknown flag --%s of %s: %s", shownName(name), verb.Name, strings.Join(says, " "))
}

// unknownEarly is unknownFlag for what stands in front of the verb.
func unknownEarly(app *cli.App, name string) error {
	if others := verbsWith(app, name); len(others) > 0 {
		return misuse("unknown flag --%s before the verb: it goes behind %s", name, oneOf(others[:min(len(others), mostSuggested)]))
	}
	if meant := dashed(near(name, flagNames(sharedFlags("", "")))); len(meant) > 0 && len(meant) <= mostSuggested {
		return misuse("unknown flag --%s before the verb: did you mean %s?", shownName(name), oneOf(meant))
	}
	return misuse("unknown flag --%s before the verb", shownName(name))
}

// verbsWith are the verbs that have a flag of this very name.
func verbsWith(app *cli.App, flag string) (names []string) {
	for _, v := range app.Commands {
		if findFlag(v.Flags, flag) != nil {
			names = append(names, v.Name)
		}
	}
	return names
}

func flagNames(flags []cli.Flag) (names []string) {
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	return names
}

func dashed(names []string) []string {
	names = slices.Clone(names)
	for i, n := range names {
		names[i] = "--" + n
	}
	return names
}

// shownName is a name as a message may repeat it.
func shownName(name string) string {
	if name == "" || len(name) > 60 || !visible.Plain(name) {
		return clipped(name)
	}
	return name
}
