package main

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
)

// Each verb has its place in the help, and examples that the parser takes.
func TestEveryVerbHasExamples(t *testing.T) {
	t.Parallel()
	a := &app{stdout: io.Discard, stderr: io.Discard}
	for _, v := range a.commands().Commands {
		if !slices.Contains(categories(), v.Category) {
			t.Errorf("%s: category %q", v.Name, v.Category)
		}
		all := examplesOf(v.Name)
		if len(all) < 1 || len(all) > 4 {
			t.Errorf("%s: %d examples, want 1 to 4", v.Name, len(all))
		}
		for _, e := range all {
			if got := verbOf(t, e.line); got != v.Name {
				t.Errorf("%s: %q is an example of %q", v.Name, e.line, got)
			}
		}
	}
	if n := len(examplesOf("")); n != 3 {
		t.Errorf("%d examples of all, want 3", n)
	}
	for _, e := range examplesOf("") {
		verbOf(t, e.line)
	}
}

// verbOf has the parser read an example, with what it would check of the settings, and
// returns the verb that would run.
func verbOf(t *testing.T, line string) (verb string) {
	t.Helper()
	a := &app{stdout: io.Discard, stderr: io.Discard}
	commands := a.commands()
	l, err := arrange(commands, musterWords(t, line))
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return ""
	}
	a.given, a.defaults = l.given, map[string]any{}
	for _, v := range commands.Commands {
		v.Before = nil
		v.Action = func(c *cli.Context) error {
			verb = c.Command.Name
			if v.ArgsUsage == "" && c.NArg() > 0 {
				return noWords(c)
			}
			if strings.HasPrefix(v.ArgsUsage, "KEY") {
				_, err := oneNumber(c)
				return err
			}
			_, err := a.settings(c, v.Name) // those that have a group
			return err
		}
	}
	if err := commands.RunContext(context.Background(), l.args); err != nil {
		t.Errorf("%s: %v", line, err)
	}
	return verb
}

// musterWords are the words of the one muster in a line of the shell. A line of help has
// no quotes but single ones.
func musterWords(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	word, quoted, begun := "", false, false
	for _, r := range strings.NewReplacer("<(", " ", ")", " ").Replace(line) + " " {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case quoted || r != ' ':
			word, begun = word+string(r), true
		case begun:
			words, word, begun = append(words, word), "", false
		}
	}
	if quoted {
		t.Fatalf("%s: a quote is open", line)
	}
	from := slices.Index(words, "muster")
	if from < 0 {
		t.Fatalf("%s: no muster", line)
	}
	words = words[from:]
	if end := slices.IndexFunc(words, func(w string) bool { return slices.Contains([]string{"|", "<", ">", "&&"}, w) }); end > 0 {
		words = words[:end]
	}
	return words
}

// What help shows fits on a terminal.
func TestHelpIsNarrow(t *testing.T) {
	t.Parallel()
	var names []string
	for _, v := range (&app{}).commands().Commands {
		names = append(names, v.Name)
	}
	for _, words := range append(fields(names), []string{"help"}) {
		var out, errs bytes.Buffer
		if code := run(context.Background(), append([]string{"muster", "help"}, words[1:]...), nil, &out, &errs, nil); code != 0 {
			t.Fatalf("%v: status %d: %s", words, code, &errs)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n >= 100 {
				t.Errorf("%v: %d columns: %s", words, n, line)
			}
			if !visible.Plain(strings.TrimSuffix(line, "\n")) {
				t.Errorf("%v: %q", words, line)
			}
		}
		if len(words) == 1 {
			for _, n := range names {
				if !strings.Contains(out.String(), "\n  "+n+" ") {
					t.Errorf("help does not show %s", n)
				}
			}
		}
	}
}

func fields(names []string) (lists [][]string) {
	for _, n := range names {
		lists = append(lists, []string{"help", n})
	}
	return lists
}

func TestNear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, known, want string }{
		{"staus", "status results", "status"},
		{"sta", "status start-all", "status start-all"},
		{"hots", "host all", "host"}, // swapped
		{"timeout", "command-timeout deadline", "command-timeout"},
		{"retry-after", "retry_after", "retry_after"},
		{"results", "result results", "results result"}, // the closest first
		{"x", "up db", ""},
		{"upload", "up", ""},
		{"", "up", ""},
		{strings.Repeat("up", 100), "up", ""},
	} {
		if got := strings.Join(near(c.name, strings.Fields(c.known)), " "); got != c.want {
			t.Errorf("%q among %s: %q, want %q", c.name, c.known, got, c.want)
		}
	}
}
