package worker

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

// A worker is ready while it takes requests and jobs, and Redis can be worked with.
func TestReady(t *testing.T) {
	t.Parallel()
	f := fixtureOn(t, redistest.OpenReal(t))
	w, err := New(Config{Redis: f.rdb, Log: f.log, Place: "redis://here/0"})
	if err != nil {
		t.Fatal(err)
	}
	if w.Ready(t.Context()) == nil || w.Healthy() == nil {
		t.Error("one that does not run is ready")
	}
	var down atomic.Bool
	w.again = supervise.Pace{First: time.Hour, Most: time.Hour}
	w.fault = func(service string) error {
		if service == "deadlines" && down.Load() {
			panic("killed")
		}
		return nil
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	redistest.Eventually(t, "ready", func() bool { return w.Ready(ctx) == nil && w.Healthy() == nil })
	redistest.Eventually(t, "the log says so", func() bool { return len(f.saidReady()) == 1 })
	if e := f.saidReady()[0]; e.Level != logrus.InfoLevel || e.Data["concurrency"] != 10 || e.Data["redis"] != "redis://here/0" {
		t.Errorf("the log has %v at the level %v", e.Data, e.Level)
	}

	f.redis.Stop()
	redistest.Eventually(t, "Redis is missed", func() bool {
		err := w.Ready(ctx)
		return err != nil && strings.Contains(err.Error(), "no requests are taken") && strings.Contains(err.Error(), "redis can't be worked with")
	})
	if err := w.Healthy(); err != nil {
		t.Errorf("over an outage of Redis: %v", err)
	}
	f.redis.Start()
	redistest.Eventually(t, "ready again", func() bool { return w.Ready(ctx) == nil })
	if n := len(f.saidReady()); n != 1 {
		t.Errorf("the log says %d times that it is ready", n) // the end of an outage has its own line
	}

	down.Store(true)
	redistest.Eventually(t, "a service is down", func() bool {
		err := w.Healthy()
		return err != nil && err.Error() == "worker: does not run: deadlines"
	})
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if w.Ready(t.Context()) == nil || w.Healthy() == nil {
		t.Error("one that has ended is ready")
	}
}

// saidReady is what the log has of a worker's beginning.
func (f *fixture) saidReady() (lines []*logrus.Entry) {
	for _, e := range f.logs.AllEntries() {
		if e.Message == "worker is ready" {
			lines = append(lines, e)
		}
	}
	return lines
}

// partly sends to all but one target of each call.
type partly struct{}

func (partly) Emit(_ []byte, targets []netip.AddrPort) int { return max(0, len(targets)-1) }

// Requests are counted by what became of them, and datagrams by why they were sent.
func TestCounters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	d := f.dispatcher(partly{})
	s := d.stats
	for i, host := range []string{"web-1", "web-2", "web-3"} {
		f.online(host, "agent x", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)}), 7))
	}
	good := job(`{"key":"AC1","commands":{"a":1},"hosts":["web-1","web-2","web-3","10.0.0.7","10.0.0.8"]}`)
	for range 2 { // the second time it is a repetition
		if err := d.run(ctx, "r1", good, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, last := range []bool{false, true} {
		if err := d.run(ctx, "r2", job(`{"key":"AC1","commands":{"a":1}}`), last); err == nil {
			t.Fatal("a number that is in use was taken")
		}
	}
	want := func(what string, count *atomic.Int64, n int64) {
		t.Helper()
		if got := count.Load(); got != n {
			t.Errorf("%d %s, want %d", got, what, n)
		}
	}
	want("accepted", &s.Accepted, 1)
	want("repeated", &s.Repeated, 1)
	want("rejected", &s.Rejected, 2)
	want("first", &s.First, 2)
	want("again", &s.Again, 2)
	want("offline", &s.Offline, 1)
	want("unsent", &s.Unsent, 3)

	if err := d.push(ctx, tasks.PushStart, "AC1", map[string][]string{"l1": {"a", "b"}, "l2": {"c"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.push(ctx, tasks.PushCancel, "AC1", map[string][]string{"l1": {"a"}}); err != nil {
		t.Fatal(err)
	}
	want("started over a connection", &s.PushedStart, 3)
	want("cancelled over a connection", &s.PushedCancel, 1)
}

// A host that comes online is told what waited for it: that is its first datagram.
func TestCountersOfWhatComesLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	d := f.dispatcher(&counter{})
	if err := d.run(ctx, "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["web-1"],"offline":"wait"}`), false); err != nil {
		t.Fatal(err)
	}
	f.online("web-1", "json", netip.MustParseAddrPort("127.0.0.1:7"))
	if _, err := d.arrive(ctx, time.Time{}, "web-1"); err != nil {
		t.Fatal(err)
	}
	if got := d.stats.First.Load(); got != 1 {
		t.Errorf("%d first datagrams, want 1", got)
	}
	if got := d.stats.Accepted.Load(); got != 1 {
		t.Errorf("%d accepted, want 1", got)
	}
}

// A run that fails for now is cut short, and the next one accepts the request.
func TestCountersOfASetback(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w, err := New(Config{Redis: f.rdb, Log: f.log})
	if err != nil {
		t.Fatal(err)
	}
	var failed atomic.Bool
	w.after = func(step string) error {
		if step == "prepare" && failed.CompareAndSwap(false, true) {
			if w.Stats().Running.Load() != 1 {
				t.Errorf("%d dispatches run, want 1", w.Stats().Running.Load())
			}
			return errors.New("not now")
		}
		return nil
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	f.add("key", "AC1", "commands", `{"a":1}`, "hosts", `["web-1"]`)
	redistest.Eventually(t, "the request is accepted", func() bool { return w.Stats().Accepted.Load() == 1 })
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if s := w.Stats(); s.CutShort.Load() != 1 || s.Repeated.Load() != 0 || s.Running.Load() != 0 {
		t.Errorf("%d cut short, %d repeated, %d run", s.CutShort.Load(), s.Repeated.Load(), s.Running.Load())
	}
}

// seen is an Observer.
type seen struct{ closed, offline atomic.Int64 }

func (s *seen) Closed(l tasks.Ledger) {
	s.closed.Add(1)
	s.offline.Add(l.Counts[tasks.Offline])
}

// An observer hears of the end of each set, also of one that muster cancel has closed.
func TestObserved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var o seen
	f.start(Config{Observer: &o})
	f.add("key", "AC1", "commands", `{"a":1}`, "hosts", `["web-1","web-2"]`)
	redistest.Eventually(t, "the end is told", func() bool { return o.closed.Load() == 1 && o.offline.Load() == 2 })

	f.add("key", "AC2", "commands", `{"a":1}`, "hosts", `["web-1"]`, "offline", "wait")
	redistest.Eventually(t, "the second one is open", func() bool {
		l, err := f.store.Ledger(t.Context(), "AC2")
		return err == nil && l.Stage == tasks.Open
	})
	if err := f.store.Cancel(t.Context(), "AC2"); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "its end is told", func() bool { return o.closed.Load() == 2 })
}
