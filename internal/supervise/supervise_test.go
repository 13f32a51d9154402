package supervise

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

func logged(hook *logtest.Hook, level logrus.Level) (lines []string) {
	for _, e := range hook.AllEntries() {
		if e.Level == level {
			service, _ := e.Data["service"].(string)
			lines = append(lines, service+": "+e.Message)
		}
	}
	return lines
}

// What fails or panics is started again, later each time, and others do not notice.
func TestStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		log.Level = logrus.DebugLevel
		s := New(log, Pace{})
		g := s.Group(t.Context())
		began := time.Now()
		var starts []time.Duration
		g.Go("weak", func(ctx context.Context) error {
			starts = append(starts, time.Since(began))
			switch len(starts) {
			case 1:
				return errors.New("ouch")
			case 2:
				panic("boom")
			case 3:
				return nil
			case 4:
				return context.Canceled // of another context
			}
			<-ctx.Done()
			return ctx.Err()
		})
		var strong atomic.Int32
		g.Go("strong", func(ctx context.Context) error {
			strong.Add(1)
			<-ctx.Done()
			return nil
		})
		time.Sleep(time.Minute)
		g.Stop()
		want := []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, 1400 * time.Millisecond, 3 * time.Second}
		if len(starts) != len(want) {
			t.Fatalf("started at %v, want %v", starts, want)
		}
		for i := range want {
			if starts[i] != want[i] {
				t.Errorf("started at %v, want %v", starts, want)
			}
		}
		if strong.Load() != 1 || s.Err() != nil {
			t.Errorf("the other one was started %d times, error %v", strong.Load(), s.Err())
		}
		if got := strings.Join(logged(hook, logrus.ErrorLevel), "\n"); got != strings.TrimSpace(strings.Repeat("weak: service failed, it is started again\n", 4)) {
			t.Errorf("errors logged:\n%s", got)
		}
		if got := logged(hook, logrus.DebugLevel); len(got) != 1 || got[0] != "weak: where it panicked" {
			t.Errorf("logged at debug: %q", got)
		}
		for _, e := range hook.AllEntries() {
			if e.Level != logrus.DebugLevel {
				if line, _ := e.String(); strings.Contains(line, "goroutine ") {
					t.Errorf("a stack in %s", line)
				}
			}
		}
	})
}

// While a service does not run, because it waits or was given up, it is known as down.
func TestDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := logtest.NewNullLogger()
		s := New(log, Pace{})
		if err := s.Healthy("all"); err != nil {
			t.Errorf("healthy, of none: %v", err)
		}
		g := s.Group(t.Context())
		again := make(chan bool)
		runs := 0
		g.Go("weak", func(ctx context.Context) error {
			if runs++; runs == 1 {
				return errors.New("ouch")
			}
			close(again)
			<-ctx.Done()
			return nil
		})
		g.Go("hopeless", func(context.Context) error { return Final(errors.New("no")) })
		g.Go("strong", func(ctx context.Context) error { <-ctx.Done(); return nil })
		g.Go("short", func(context.Context) error { return ErrDone })
		synctest.Wait()
		if err := s.Healthy("all"); err == nil || err.Error() != "all: does not run: hopeless, weak" {
			t.Errorf("healthy: %v", err)
		}
		if got := strings.Join(s.Down(), " "); got != "hopeless weak" {
			t.Errorf("down: %s", got)
		}
		<-again
		if got := strings.Join(s.Down(), " "); got != "hopeless" {
			t.Errorf("down when one runs again: %s", got)
		}
		g.Stop()
		if got := strings.Join(s.Down(), " "); got != "hopeless" {
			t.Errorf("down at the end: %s", got)
		}
	})
}

// What fails now and then is never given up, and is not waited with for longer and longer.
func TestRareFailuresAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := logtest.NewNullLogger()
		s := New(log, Pace{})
		g := s.Group(t.Context())
		var starts int
		g.Go("weak", func(ctx context.Context) error {
			starts++
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			return errors.New("ouch")
		})
		time.Sleep(time.Hour)
		g.Stop()
		if starts != 60 || s.Err() != nil {
			t.Errorf("%d starts, error %v", starts, s.Err())
		}
	})
}

// What fails again and again is given up, with the error that says so; the others go on.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := logtest.NewNullLogger()
		s := New(log, Pace{})
		weak, other := s.Group(t.Context()), s.Group(t.Context())
		var starts int
		weak.Go("weak", func(context.Context) error {
			starts++
			panic("boom")
		})
		var ended bool
		other.Go("strong", func(ctx context.Context) error {
			<-ctx.Done()
			ended = true
			return nil
		})
		began := time.Now()
		<-s.Failed()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("given up after %v", took)
		}
		time.Sleep(time.Hour)
		if starts != 6 || ended {
			t.Errorf("%d starts; the other one has ended: %v", starts, ended)
		}
		weak.Stop()
		other.Stop()
		want := "weak can't stay up, it failed 6 times in a short time, the last time with: panic: boom"
		var e *Error
		if err := s.Err(); !errors.As(err, &e) || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if !s.GaveUp("weak") || s.GaveUp("strong") {
			t.Error("the wrong one was given up")
		}
	})
}

// ErrDone ends a service and Final the whole, both without a new start.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		s := New(log, Pace{})
		g := s.Group(t.Context())
		var starts atomic.Int32
		g.Go("short", func(context.Context) error {
			starts.Add(1)
			return ErrDone
		})
		time.Sleep(time.Hour)
		if s.Err() != nil {
			t.Error(s.Err())
		}
		lost := errors.New("lost")
		g.Go("lost", func(context.Context) error {
			starts.Add(1)
			return Final(lost)
		})
		<-s.Failed()
		// As of a supervisor below this one.
		below := &Error{"below", 6, lost}
		g.Go("above", func(context.Context) error {
			starts.Add(1)
			return below
		})
		time.Sleep(time.Hour)
		g.Stop()
		if starts.Load() != 3 || !errors.Is(s.Err(), lost) || s.Err().Error() != "lost" || !s.GaveUp("above") {
			t.Errorf("%d starts, error %v", starts.Load(), s.Err())
		}
		if got := logged(hook, logrus.ErrorLevel); len(got) != 1 || got[0] != "above: service given up" {
			t.Errorf("logged %q", got)
		}
	})
}

// Stop waits for a service however long it takes, and a panic then is not passed over.
func TestStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		s := New(log, Pace{})
		g := s.Group(t.Context())
		var ended bool
		g.Go("slow", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Minute)
			ended = true
			panic("boom")
		})
		time.Sleep(time.Second)
		g.Stop()
		if !ended {
			t.Error("Stop did not wait")
		}
		g.Stop()
		if got := logged(hook, logrus.WarnLevel); len(got) != 1 || got[0] != "slow: service does not end" {
			t.Errorf("warned %q", got)
		}
		if got := logged(hook, logrus.ErrorLevel); len(got) != 1 || got[0] != "slow: service failed while it was to end" {
			t.Errorf("logged %q", got)
		}
	})
}
