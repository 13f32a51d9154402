package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// docs/CLI.md has a section for each verb, and in it a row for each flag with its
// variable, and nothing that is not there.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(b), "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		sections[title] = text
	}
	a := &app{stdout: io.Discard, stderr: io.Discard}
	shared := rowsOf(sharedFlags("", ""))
	if got := documented(sections["Flags of every verb"]); !slices.Equal(got, shared) {
		t.Errorf("flags of every verb: documented %v, there are %v", got, shared)
	}
	delete(sections, "Flags of every verb")
	for _, v := range a.commands().Commands {
		if v.Name == "help" {
			continue
		}
		text, ok := sections["muster "+v.Name]
		if !ok {
			t.Errorf("no section on muster %s", v.Name)
		}
		delete(sections, "muster "+v.Name)
		want := slices.DeleteFunc(rowsOf(v.Flags), func(row string) bool { return slices.Contains(shared, row) })
		if got := documented(text); !slices.Equal(got, want) {
			t.Errorf("muster %s: documented %v, there are %v", v.Name, got, want)
		}
	}
	for title := range sections {
		if strings.HasPrefix(title, "muster ") {
			t.Errorf("there is a section on %s, and no such verb", title)
		}
	}
}

var row = regexp.MustCompile("(?m)^\\| `--([a-z-]+)[^`]*` \\| `(MUSTER_[A-Z_]+)`")

func documented(text string) (rows []string) {
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		rows = append(rows, m[1]+" "+m[2])
	}
	slices.Sort(rows)
	return rows
}

func rowsOf(flags []cli.Flag) (rows []string) {
	for _, f := range flags {
		if d, ok := f.(cli.DocGenerationFlag); ok {
			rows = append(rows, f.Names()[0]+" "+strings.Join(d.GetEnvVars(), " "))
		}
	}
	slices.Sort(rows)
	return rows
}
