package main

import (
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestArrange(t *testing.T) {
	t.Parallel()
	a := &app{stdout: io.Discard, stderr: io.Discard}
	for _, c := range []struct {
		in    string
		want  string
		given string // sorted
	}{
		{"status AC1", "status -- AC1", ""},
		{"status AC1 --json", "status --json -- AC1", "json"},
		{"status --json AC1", "status --json -- AC1", "json"},
		{"status AC1 -json", "status -json -- AC1", "json"},
		{"--redis URL status AC1", "status --redis=URL -- AC1", "redis"},
		{"--redis=URL --log-level debug status AC1", "status --redis=URL --log-level=debug -- AC1", "log-level redis"},
		{"status AC1 --redis --json", "status --redis=--json -- AC1", "redis"}, // a value, whatever it looks like
		{"status -- --json", "status -- --json", ""},
		{"hosts a --json b -- --redis c", "hosts --json -- a b --redis c", "json"},
		{"dispatch --run a --host h --run --host", "dispatch --run=a --host=h --run=--host --", "host run"},
		{"dispatch --commands -", "dispatch --commands=- --", "commands"},
		{"hosts -", "hosts -- -", ""},
		{"status AC1 --json --help", "help -- status", ""},
		{"status -h --nonsense", "help -- status", ""},
		{"-h", "help --", ""},
		{"--version", "version --", ""},
		{"--log-level debug --help", "help --", ""},
	} {
		l, err := arrange(a.commands(), append([]string{"muster"}, strings.Fields(c.in)...))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if got := strings.Join(l.args, " "); got != "muster "+c.want {
			t.Errorf("%s: %s, want muster %s", c.in, got, c.want)
		}
		given := []string{}
		for name := range l.given {
			given = append(given, name)
		}
		slices.Sort(given)
		if !reflect.DeepEqual(given, strings.Fields(c.given)) {
			t.Errorf("%s: given %v, want %s", c.in, given, c.given)
		}
	}
}
