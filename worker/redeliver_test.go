package worker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// redeliverer looks after sets, for tests that call it themselves.
func (f *fixture) redeliverer(cfg Config, socket emitter) *redeliverer {
	cfg.Redis, cfg.Log = f.rdb, f.log
	w, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	store := tasks.NewStore(f.rdb, tasks.StoreConfig{Keep: w.cfg.Keep, RetryAfter: w.cfg.RetryAfter, Attempts: w.cfg.Attempts})
	return w.redeliverer(w.dispatcher(store, socket))
}

// due moves a set's opening into the past and looks after it.
func (f *fixture) due(r *redeliverer, n tasks.Number, ago time.Duration) time.Time {
	f.Helper()
	ctx := f.Context()
	now := f.rdb.Time(ctx).Val()
	f.rdb.HSet(ctx, tasks.KeyMeta(n), "sent_ms", now.Add(-ago).UnixMilli())
	f.rdb.Del(ctx, tasks.KeySends(n))
	next, err := r.tend(ctx, now, string(n))
	if err != nil {
		f.Fatal(err)
	}
	f.sound(n)
	return next
}

// hears subscribes to what a listener is told.
func (f *fixture) hears(listener string) func() []string {
	f.Helper()
	sub := f.rdb.Subscribe(f.Context(), tasks.ChannelFor(listener))
	f.Cleanup(func() { sub.Close() })
	if _, err := sub.Receive(f.Context()); err != nil {
		f.Fatal(err)
	}
	return func() []string {
		f.Helper()
		f.rdb.Publish(f.Context(), tasks.ChannelFor(listener), "mark")
		var all []string
		for {
			m, err := sub.ReceiveMessage(f.Context())
			if err != nil {
				f.Fatal(err)
			}
			if m.Payload == "mark" {
				return all
			}
			all = append(all, m.Payload)
		}
	}
}

// Whom a further send goes to: agents that are online, by UDP and over their
// connection; old clients only if they ask for it or with RedeliverOld.
func TestWhoIsToldAgain(t *testing.T) {
	t.Parallel()
	for _, redeliverOld := range []bool{false, true} {
		t.Run(fmt.Sprint(redeliverOld), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			at := func(n int) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(n)}), 7) }
			for i, client := range []string{"agent i1", "agent i2", "agent i3", "json", "json", "text", "text"} {
				f.online(fmt.Sprintf("h%d", i), client, at(i))
			}
			sent := &counter{}
			r := f.redeliverer(Config{RedeliverOld: redeliverOld}, sent)
			hosts := `["h0","h1","h2","h3","h4","h5","h6"]`
			if err := r.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":`+hosts+`}`), false); err != nil {
				t.Fatal(err)
			}
			heard := f.hears("l1")
			if next := f.due(r, "AC1", time.Second); next.IsZero() || len(heard()) > 0 {
				t.Fatalf("before anybody is due: next %v", next)
			}
			f.rdb.HDel(t.Context(), tasks.KeyOnline, "h2") // it went offline
			reports := []tasks.Report{{Number: "AC1", Host: "h1", RCC: 1}}
			if _, err := f.store.Report(t.Context(), reports); err != nil {
				t.Fatal(err)
			}
			next := f.due(r, "AC1", 3*time.Second)
			if in := time.Until(next); in < 4*time.Second || in > 7*time.Second {
				t.Errorf("next in %v, want 6 s", in)
			}
			json := 1
			if redeliverOld {
				json = 2
			}
			for i, want := range []int{2, 1, 1, json, json, 1, 1} {
				if got := sent.of(at(i)); got != want {
					t.Errorf("h%d was sent %d datagrams, want %d", i, got, want)
				}
			}
			if got := heard(); !slices.Equal(got, []string{"start AC1 h0"}) {
				t.Errorf("the listener was told %q", got)
			}

			// Both old clients ask for it; each gets it, whatever the setting.
			reports = []tasks.Report{{Number: "AC1", Host: "h3", RCC: 3}, {Number: "AC1", Host: "h5", RCC: 3}}
			if got, err := f.store.Report(t.Context(), reports); err != nil || len(got.Again) != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			if _, err := r.tend(t.Context(), f.rdb.Time(t.Context()).Val(), "AC1"); err != nil {
				t.Fatal(err)
			}
			for i, want := range []int{2, 1, 1, json + 1, json, 2, 1} {
				if got := sent.of(at(i)); got != want {
					t.Errorf("after RCC 3: h%d was sent %d datagrams, want %d", i, got, want)
				}
			}
		})
	}
}

// Those that have used up their sends are recorded and ended, with that the set, and
// nothing is left to do.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.online("h1", "agent i1", netip.MustParseAddrPort("127.0.0.1:7"))
	f.online("h2", "json", netip.MustParseAddrPort("127.0.0.2:7"))
	sent := &counter{}
	r := f.redeliverer(Config{Attempts: 1}, sent)
	if err := r.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["h1","h2"]}`), false); err != nil {
		t.Fatal(err)
	}
	if next := f.due(r, "AC1", 4*time.Second); !next.IsZero() {
		t.Errorf("looked after again at %v", next)
	}
	if l := f.ledger("AC1"); counts(l) != "unanswered:2" || l.Stage != tasks.Closed {
		t.Errorf("%s %s", l.Stage, counts(l))
	}
	var hosts []string
	for _, e := range f.events("task.unanswered") {
		hosts = append(hosts, e.Host+" "+string(e.Key)+" "+e.Request)
	}
	slices.Sort(hosts)
	if got := strings.Join(hosts, ", "); got != "h1 AC1 r1, h2 AC1 r1" {
		t.Errorf("events of %s", got)
	}
	if len(f.events("task.closed")) != 1 {
		t.Error("its end is not announced")
	}
	if len(sent.sent) != 2 {
		t.Errorf("%d targets", len(sent.sent))
	}
}

// While listeners have yet to say that they are there, nobody's sends pass.
func TestNoSendsWhileRecovering(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	to := netip.MustParseAddrPort("127.0.0.1:7")
	f.online("h1", "agent i1", to)
	sent := &counter{}
	r := f.redeliverer(Config{}, sent)
	if err := r.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["h1"]}`), false); err != nil {
		t.Fatal(err)
	}
	r.recovering = func() bool { return true }
	f.rdb.ZAdd(t.Context(), tasks.KeyListeners, redis.Z{Score: 1, Member: "l1"})
	if next := f.due(r, "AC1", 3*time.Second); time.Until(next) > time.Second || sent.of(to) != 1 {
		t.Fatalf("next in %v, %d datagrams", time.Until(next), sent.of(to))
	}
	f.online("h1", "agent i1", to)
	f.due(r, "AC1", 3*time.Second)
	if sent.of(to) != 2 {
		t.Fatalf("%d datagrams after it is back, want 2", sent.of(to))
	}
}

// What is nothing to look after any more.
func TestNothingToTend(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.redeliverer(Config{}, &counter{})
	now := f.rdb.Time(t.Context()).Val()
	if next, err := r.tend(t.Context(), now, "AC-none"); err != nil || !next.IsZero() {
		t.Errorf("no set: %v, %v", next, err)
	}
	req := tasks.Request{Key: "AC1", Commands: []tasks.Command{{Line: "a"}}, Deadline: time.Hour, Timeout: time.Minute}
	if _, err := f.store.Prepare(t.Context(), "r1", req); err != nil {
		t.Fatal(err)
	}
	if next, err := r.tend(t.Context(), now, "AC1"); err != nil || next.Sub(now) != preparingAgain {
		t.Errorf("being prepared: %v, %v", next, err)
	}
	if next, err := r.tend(t.Context(), now.Add(2*time.Hour), "AC1"); err != nil || !next.IsZero() {
		t.Errorf("after the deadline: %v, %v", next, err)
	}
	if _, err := f.store.Open(t.Context(), "AC1"); err != nil {
		t.Fatal(err)
	}
	if next, err := r.tend(t.Context(), now, "AC1"); err != nil || !next.IsZero() {
		t.Errorf("closed: %v, %v", next, err)
	}
}

// A cancelled set is ended, and agents are told over their connections as often as a
// number is sent, also those that have not answered yet.
func TestCancelIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i, client := range []string{"agent i1", "agent i2", "json", "agent i3"} {
		f.online(fmt.Sprintf("h%d", i), client, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i)}), 7))
	}
	sent := &counter{}
	r := f.redeliverer(Config{}, sent)
	if err := r.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["h0","h1","h2","h3","h4"]}`), false); err != nil {
		t.Fatal(err)
	}
	done := tasks.Report{Number: "AC1", Host: "h1", Phase: 3, Lists: true, Complete: []string{"a"}}
	if _, err := f.store.Report(t.Context(), []tasks.Report{done}); err != nil {
		t.Fatal(err)
	}
	heard := f.hears("l1")
	// As if the one who cancels it died right after the mark.
	now := f.rdb.Time(t.Context()).Val()
	f.rdb.HSet(t.Context(), tasks.KeyMeta("AC1"), "cancelled_ms", now.UnixMilli())
	for _, c := range []struct{ at, next time.Duration }{{0, 3 * time.Second}, {3 * time.Second, 9 * time.Second},
		{9100 * time.Millisecond, 21 * time.Second}, {44 * time.Second, 45 * time.Second}, {45 * time.Second, 0}} {
		next, err := r.tend(t.Context(), now.Add(c.at), "AC1")
		if err != nil {
			t.Fatal(err)
		}
		if c.next == 0 != next.IsZero() || c.next != 0 && next.UnixMilli() != now.Add(c.next).UnixMilli() {
			t.Errorf("at %v: next in %v, want %v", c.at, next.Sub(now), c.next)
		}
		got := heard()
		for i := range got {
			words := strings.Fields(got[i])
			slices.Sort(words[2:])
			got[i] = strings.Join(words, " ")
		}
		if !slices.Equal(got, []string{"cancel AC1 h0 h3"}) {
			t.Errorf("at %v the listener was told %q", c.at, got)
		}
	}
	if l := f.ledger("AC1"); counts(l) != "done:1 cancelled:3 offline:1" || l.Stage != tasks.Closed {
		t.Errorf("%s %s", l.Stage, counts(l))
	}
	f.sound("AC1")
	if n := len(sent.sent); n != 4 {
		t.Errorf("%d targets were sent to", n)
	}
}

// A set that is cancelled between its opening and its first datagram is sent to nobody.
func TestCancelledBeforeItIsSent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.online("h1", "agent i1", netip.MustParseAddrPort("127.0.0.1:7"))
	sent := &counter{}
	d := f.dispatcher(sent)
	d.after = func(step string) error {
		if step == "open" {
			return f.store.Cancel(t.Context(), "AC1")
		}
		return nil
	}
	if err := d.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["h1"]}`), false); err != nil {
		t.Fatal(err)
	}
	if len(sent.sent) != 0 || counts(f.ledger("AC1")) != "cancelled:1" {
		t.Errorf("%d sent to, %s", len(sent.sent), counts(f.ledger("AC1")))
	}
}

// The whole way with a running worker: a datagram that is lost is sent again, an old
// client that could not read it gets it again within half a second, one that never
// answers ends, and the agenda is empty then.
func TestWorkerSendsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mute, asks := listen(t), listenOn(t, "127.0.0.2:0")
	f.online("h1", "agent i1", mute.addr)
	f.online("127.0.0.2", "json", asks.addr)
	f.start(Config{RetryAfter: 200 * time.Millisecond, Attempts: 3})
	id := f.add("key", "AC1", "commands", `{"a":1}`, "hosts", `["h1","127.0.0.2"]`)
	f.event("task.sent", id)
	asks.wants("AC1")
	got, err := f.store.Report(t.Context(), []tasks.Report{{Number: "AC1", Host: "127.0.0.2", RCC: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.Remind(t.Context(), got.Again...); err != nil {
		t.Fatal(err)
	}
	f.event("task.closed", id)
	mute.wants("AC1", "AC1", "AC1")
	asks.wants("AC1", "AC1")
	if got := counts(f.ledger("AC1")); got != "unanswered:2" {
		t.Errorf("ledger %s", got)
	}
	redistest.Eventually(t, "nothing is left to do", func() bool {
		return f.rdb.Exists(t.Context(), tasks.KeyDue, tasks.KeyJobs).Val() == 0
	})
}
