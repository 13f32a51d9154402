package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/musterhq/muster/tasks"
)

func TestWorst(t *testing.T) {
	t.Parallel()
	order := []status{
		statusFailure, statusUsage, statusRefused, statusCancelled, statusTime, statusCommand, statusAbsent, statusOK,
	}
	for i, first := range order {
		for _, second := range order[i:] {
			if got := worst(second, first); got != first {
				t.Errorf("of %d and %d: %d, want %d", first, second, got, first)
			}
		}
	}
	if got := worst(); got != statusOK {
		t.Errorf("of nothing: %d", got)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status status
		text   string
	}{
		{nil, statusOK, ""},
		{ends(statusOK), statusOK, ""},
		{ends(statusAbsent), statusAbsent, ""},
		{errors.New("broken"), statusFailure, "broken"},
		{misuse("%q", "x"), statusUsage, `"x"`},
		{fmt.Errorf("while: %w", failf(statusRefused, "no")), statusRefused, "while: no"},
		{fmt.Errorf("while: %w", &tasks.InvalidError{Field: "key", Reason: "bad"}), statusUsage, "while: key: bad"},
	} {
		if s, text := read(c.err); s != c.status || text != c.text {
			t.Errorf("%v: %d %q, want %d %q", c.err, s, text, c.status, c.text)
		}
	}
}

// full is a disk that is.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	code := run(context.Background(), []string{"muster", "version"}, nil, full{}, &stderr, nil)
	if code != int(statusFailure) || stderr.String() != "muster: write: no space left\n" {
		t.Errorf("status %d, %q", code, stderr.String())
	}
}

// explosive panics when it is read.
type explosive struct{}

func (explosive) Read([]byte) (int, error) { panic("a fault\nof ours") }

func TestPanicIsOneLine(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	args := []string{"muster", "dispatch", "--request", "-"}
	code := run(context.Background(), args, explosive{}, io.Discard, &stderr, nil)
	if want := "muster: internal error, please report it: a fault\\nof ours\n"; code != 1 || stderr.String() != want {
		t.Errorf("status %d, %q, want %q", code, stderr.String(), want)
	}
}
