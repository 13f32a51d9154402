package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/supervise"
)

// A part of the system that fails is started again; one that can't stay up is the error
// of the whole: one line, and status 1.
func TestPartsAreStartedAgain(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	log := logrus.New()
	log.SetOutput(&lines)
	s := &system{services: supervise.New(log, supervise.Pace{First: time.Millisecond, Most: time.Millisecond})}
	starts := 0
	up := make(chan struct{})
	s.start("worker", func(ctx context.Context) error {
		if starts++; starts < 3 {
			panic("boom\nbang")
		}
		close(up)
		<-ctx.Done()
		return nil
	})
	<-up
	if err := s.err(); err != nil {
		t.Fatal(err)
	}
	// What of itself is given up below is not begun again from above.
	s.start("listener", func(context.Context) error {
		return &supervise.Error{Service: "reports", Times: 6, Err: &supervise.Panic{Value: "boom\nbang"}}
	})
	<-s.services.Failed()
	s.stop()
	if n := strings.Count(lines.String(), "\n"); n != 4 || strings.Count(lines.String(), "service=worker") != 4 {
		t.Errorf("logged:\n%s", lines.String())
	}
	code, text := read(s.err())
	if want := "reports can't stay up, it failed 6 times in a short time, the last time with: panic: boom\nbang"; code != statusFailure || text != want {
		t.Errorf("status %d, %q, want 1, %q", code, text, want)
	}
	if !errors.As(s.err(), new(*supervise.Error)) {
		t.Errorf("%#v", s.err())
	}
}
