package agent

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/wire"
)

func TestBeatAfter(t *testing.T) {
	t.Parallel()
	for share, want := range map[float64]time.Duration{0: 4 * time.Second, 0.5: 5 * time.Second, 0.999999: 6 * time.Second} {
		if got := beatAfter(5*time.Second, share).Round(time.Millisecond); got != want {
			t.Errorf("beatAfter(5s, %v) = %v, want %v", share, got, want)
		}
	}
}

func TestHeartbeatInterval(t *testing.T) {
	t.Parallel()
	for welcome, want := range map[int64]time.Duration{
		0: 7 * time.Second, 250: 250 * time.Millisecond, 1: minHeartbeat, 1 << 53: 24 * time.Hour,
	} {
		if got := heartbeat(7*time.Second, welcome); got != want {
			t.Errorf("heartbeat(7s, %d) = %v, want %v", welcome, got, want)
		}
	}
}

// A minute with nothing to do: the information, then heartbeats at the time that
// the welcome has named, each a little off. A report goes out at once.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := New(testConfig(t, "l:1"))
		if err != nil {
			t.Fatal(err)
		}
		defer release(a)
		far, near := net.Pipe()
		s := newSession(a, near, wire.NewDecoder(near, 0), wire.Welcome{HeartbeatMS: 10_000}, func(wire.Message) {})
		a.start(t.Context(), s)

		frames := wire.NewDecoder(far, 0)
		next := func() wire.Message {
			body, err := frames.Next()
			if err != nil {
				t.Fatal(err)
			}
			m, err := wire.Decode(body, wire.Agent)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		if m, ok := next().(wire.Info); !ok {
			t.Errorf("first %+v, want the information", m)
		}
		gaps := map[time.Duration]bool{}
		last := time.Now()
		for range 20 {
			if m, ok := next().(wire.Heartbeat); !ok {
				t.Fatalf("%+v, want a heartbeat", m)
			}
			gap := time.Since(last)
			if gap < 8*time.Second || gap > 12*time.Second {
				t.Errorf("heartbeat after %v, want 10s give or take a fifth", gap)
			}
			gaps[gap], last = true, time.Now()
		}
		if len(gaps) < 10 {
			t.Errorf("%d different gaps of 20", len(gaps))
		}
		begin := time.Now()
		mustAppend(t, a.journal, answer("AC1"))
		if m, ok := next().(wire.Answer); !ok || time.Since(begin) != 0 {
			t.Errorf("after %v: %+v, want the answer at once", time.Since(begin), m)
		}

		s.stop(context.Canceled)
		if <-s.ended; s.why == nil || a.session.Load() != nil {
			t.Errorf("ended with %v", s.why)
		}
	})
}

// A listener that no longer reads is given up, so that another one can be tried.
func TestListenerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := New(testConfig(t, "l:1"))
		if err != nil {
			t.Fatal(err)
		}
		defer release(a)
		far, near := net.Pipe()
		defer far.Close()
		s := newSession(a, near, wire.NewDecoder(near, 0), wire.Welcome{HeartbeatMS: 10_000}, func(wire.Message) {})
		begin := time.Now()
		a.start(t.Context(), s)
		if <-s.ended; s.why == nil {
			t.Error("ended without a reason")
		}
		if took := time.Since(begin); took != writeTimeout {
			t.Errorf("given up after %v, want %v", took, writeTimeout)
		}
	})
}
