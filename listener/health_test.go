package listener

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// A listener is ready while it accepts connections and its lease runs, and healthy while
// its services run.
func TestReady(t *testing.T) {
	t.Parallel()
	rs := redistest.OpenReal(t)
	cold, err := New(Config{Redis: rs.Client})
	if err != nil {
		t.Fatal(err)
	}
	if err := cold.Healthy(); err == nil {
		t.Error("one that does not run is healthy")
	}
	if err := cold.Ready(t.Context()); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("one that does not run: %v, want two lines", err)
	}
	var down atomic.Bool
	killed := make(chan struct{})
	r := start(t, rs, Config{}, func(s *Server) {
		s.again = supervise.Pace{First: time.Hour, Most: time.Hour}
		s.fault = func(service string) error {
			if service == "sweep" && down.CompareAndSwap(true, false) {
				close(killed)
				panic("killed")
			}
			return nil
		}
		s.pace.sweep = time.Millisecond
	})
	redistest.Eventually(t, "ready", func() bool { return r.Ready(t.Context()) == nil && r.Healthy() == nil })

	down.Store(true)
	<-killed
	redistest.Eventually(t, "a service is down", func() bool {
		err := r.Healthy()
		return err != nil && err.Error() == "listener: does not run: sweep"
	})
	if err := r.Ready(t.Context()); err != nil {
		t.Errorf("without a sweep: %v", err)
	}

	// A lease that was not renewed in time has ended, whatever Redis would say.
	long := time.Now().Add(-tasks.LeaseTime)
	r.condition.leased.Store(&long)
	if err := r.Ready(t.Context()); err == nil || err.Error() != "listener: its lease in redis does not run" {
		t.Errorf("without a lease: %v", err)
	}
	r.stop()
	now := time.Now()
	r.condition.leased.Store(&now)
	if err := r.Ready(t.Context()); err == nil || err.Error() != "listener: connections are not accepted" || r.Healthy() == nil {
		t.Errorf("one that has ended: %v", err)
	}
}

// The lease is known to run after each renewal.
func TestLeaseIsNoted(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{}, func(s *Server) { s.pace.renew = 5 * time.Millisecond })
	redistest.Eventually(t, "ready", func() bool { return r.Ready(t.Context()) == nil })
	long := time.Now().Add(-tasks.LeaseTime)
	r.condition.leased.Store(&long)
	redistest.Eventually(t, "ready again", func() bool { return r.Ready(t.Context()) == nil })
}

// What comes in is counted by its code, and what is abnormal by its kind.
func TestCounters(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{})
	h, _ := r.agent("web-1", "i1")
	h.say(wire.Heartbeat{})
	h.say(wire.Info{Hostname: "a"})
	h.say(wire.Lookup{Task: "AC1"})
	h.say(wire.Status{Task: "AC1", Phase: 1, Lists: true, Seq: 1})
	h.raw(frame(`{"flag":"ADH99"}`))
	h.say(wire.Answer{Task: "AC1", RCC: 3, Seq: 2})
	s := r.Stats()
	redistest.Eventually(t, "all is counted", func() bool { return s.Answers.Load() == 1 && s.Unreadable.Load() == 1 && s.Stray.Load() == 2 })
	for name, count := range map[string]*atomic.Int64{
		"hellos": &s.Hellos, "heartbeats": &s.Heartbeats, "infos": &s.Infos, "statuses": &s.Statuses,
		"answers": &s.Answers, "look-ups": &s.Lookups, "unknown": &s.Unknown, "connections": &s.Connections,
	} {
		if got := count.Load(); got != 1 {
			t.Errorf("%d %s, want 1", got, name)
		}
	}
	if hosts, open := r.Hosts(), r.OpenConnections(); hosts != 1 || open != 1 {
		t.Errorf("%d hosts, %d connections", hosts, open)
	}
	silent := r.dial("127.0.3.9")
	redistest.Eventually(t, "a connection without a host", func() bool { return r.OpenConnections() == 2 && r.Hosts() == 1 })
	silent.raw(frame(`{"flag":"ADH99"}`))
	silent.closed()
	redistest.Eventually(t, "it is counted by its kind", func() bool { return s.AbnormalBy[wire.KindUnknownCode].Load() == 1 })
	if s.Unknown.Load() != 2 || s.Abnormal.Load() != 1 {
		t.Errorf("%d unknown, %d abnormal", s.Unknown.Load(), s.Abnormal.Load())
	}
}

// seen is an Observer.
type seen struct{ answers, done, closed atomic.Int64 }

func (s *seen) Answered(time.Duration) { s.answers.Add(1) }
func (s *seen) Closed(l tasks.Ledger) {
	s.closed.Add(1)
	s.done.Add(l.Counts[tasks.Done])
}

// An observer hears of first answers and of the ends of sets.
func TestObserved(t *testing.T) {
	t.Parallel()
	var o seen
	r := start(t, redistest.Open(t), Config{Observer: &o})
	h, _ := r.agent("web-1", "i1")
	store := tasks.NewStore(r.rdb, tasks.StoreConfig{})
	request := tasks.Request{Key: "AC1", Deadline: time.Hour, Timeout: time.Minute, Commands: []tasks.Command{{Line: "a", Priority: 1}}}
	if _, err := store.Prepare(t.Context(), "r", request); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Enlist(t.Context(), "AC1", []tasks.Enlisted{{Host: "web-1", State: tasks.Sent}}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), "AC1"); err != nil {
		t.Fatal(err)
	}
	h.say(wire.Answer{Task: "AC1", RCC: 1, Seq: 1})
	h.say(wire.Status{Task: "AC1", Phase: 1, Lists: true, OnCall: []string{"a"}, Seq: 2})
	h.say(wire.Status{Task: "AC1", Phase: 3, Seq: 3, Result: &wire.Result{Command: "a"}})
	redistest.Eventually(t, "the end is told", func() bool { return o.closed.Load() == 1 })
	if o.answers.Load() != 1 || o.done.Load() != 1 {
		t.Errorf("%d answers, %d done", o.answers.Load(), o.done.Load())
	}
}
