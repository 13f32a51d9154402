package listener

import (
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// leaseOf is how long a listener's lease still runs; below zero if it has ended or is
// none.
func leaseOf(t *testing.T, rdb *redis.Client, listener string) time.Duration {
	t.Helper()
	ends, err := rdb.ZScore(ctx, tasks.KeyListeners, listener).Result()
	if err == redis.Nil {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(int64(ends)).Sub(now)
}

// A listener that stops serves its agents until they have moved, and takes nobody off
// the roll.
func TestStopInGoodOrder(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a, b := start(t, rs, Config{ID: "a", Drain: time.Minute}, slow), start(t, rs, Config{ID: "b"})
	set(t, rs, "AC1", "web-1", "127.0.10.1")
	old := a.old("127.0.10.1")
	agent, _ := a.agent("web-1", "i1")
	gone, _ := a.agent("web-2", "i1")
	a.on("127.0.10.1")
	a.end()
	for _, h := range []*host{agent, gone} {
		if m := h.hear(); m != (wire.Push{Action: wire.ActionMove}) {
			t.Fatalf("heard %#v, want to be asked to move", m)
		}
	}
	redistest.Eventually(t, "nobody is accepted", func() bool {
		conn, err := net.Dial("tcp", a.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	// All goes on meanwhile.
	agent.say(wire.Lookup{Task: "AC1"})
	if m, ok := agent.hear().(wire.Found); !ok || !m.Found {
		t.Errorf("heard %#v for a look-up", m)
	}
	agent.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 4})
	if m := agent.hear(); m != (wire.Confirm{Seq: 4}) {
		t.Errorf("heard %#v for a report", m)
	}
	gone.conn.Close() // it does not move, it goes
	a.off("web-2")
	moved, w := b.agent("web-1", "i1")
	if w.Refused != "" {
		t.Fatalf("refused: %s", w.Refused)
	}
	// Its lease is about to end, and would with no host of it back.
	soon := time.Now().Add(5 * time.Second).UnixMilli()
	rs.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: float64(soon), Member: "a"})
	old.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived}) // in the last moment
	agent.closed()
	a.stop()
	old.closed()
	if got := a.state("AC1", "127.0.10.1"); got != tasks.Acknowledged {
		t.Errorf("the last report of an old client: %s", got)
	}
	if got, want := a.place("127.0.10.1"), "127.0.10.1:6655@a"; got != want {
		t.Errorf("the old client is at %q, want %q", got, want)
	}
	if got, want := a.place("web-1"), "127.0.0.1:7000@b"; got != want {
		t.Errorf("the agent is at %q, want %q", got, want)
	}
	if got := rs.Client.SMembers(ctx, tasks.KeyAt("a")).Val(); !slices.Equal(got, []string{"127.0.10.1"}) {
		t.Errorf("in the set are %q", got)
	}
	if left := leaseOf(t, rs.Client, "a"); left < 6*time.Second {
		t.Errorf("the lease runs for %v, and was to be renewed", left)
	}
	for host, n := range map[string]int{"127.0.10.1": 1, "web-1": 1, "web-2": 2} {
		if got := a.events(host); len(got) != n {
			t.Errorf("%s: events %q, want %d", host, got, n)
		}
	}
	moved.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 5})
	if m := moved.hear(); m != (wire.Confirm{Seq: 5}) {
		t.Errorf("heard %#v", m)
	}
}

// Who has gone nowhere when the time to move is over keeps its place, and gets all
// that it is to get before the end of the connection.
func TestStopWithoutAnotherListener(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a", Drain: time.Millisecond})
	agent, _ := a.agent("web-1", "i1")
	a.stop()
	for {
		body, err := agent.dec.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("read: %v, want the end of the connection", err)
		}
		if m, err := wire.Decode(body, wire.Listener); err != nil || m != (wire.Push{Action: wire.ActionMove}) {
			t.Errorf("heard %#v, %v", m, err)
		}
	}
	if got := a.place("web-1"); got != "127.0.0.1:7000@a" {
		t.Errorf("place %q", got)
	}
	if got := a.events("web-1"); len(got) != 1 {
		t.Errorf("events %q", got)
	}
	if leaseOf(t, rs.Client, "a") <= 0 {
		t.Error("the lease is gone, and the host with it")
	}
}

// A listener that holds nobody leaves nothing, and waits for nobody: clients that do
// not move are not waited for.
func TestStopOfAnEmptyListener(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a", Drain: time.Hour})
	a.dial("127.0.10.9") // says nothing
	h, _ := a.agent("web-1", "i1")
	h.conn.Close()
	a.off("web-1")
	a.stop()
	if n := rs.Client.Exists(ctx, tasks.KeyOnline, tasks.KeyClients, tasks.KeyAt("a"), tasks.KeyListeners).Val(); n != 0 {
		t.Errorf("%d keys of the roll are left", n)
	}
}

// What the system has taken from a host when the listener stops is read and stored, and
// confirmed, also if there was no room for it before.
func TestStopReadsWhatIsThere(t *testing.T) {
	t.Parallel()
	rs := redistest.OpenReal(t)
	a := start(t, rs, Config{ID: "a", Drain: time.Millisecond}, func(s *Server) { slow(s); s.reports.limit = 0 })
	old, agent := a.old("127.0.10.2"), (*host)(nil)
	agent, _ = a.agent("web-1", "i1")
	a.on("127.0.10.2")
	const sets = 4 // each takes a round of its own, of 20 ms or more
	for i := range sets {
		set(t, rs, tasks.Number(fmt.Sprint("AC", i)), "127.0.10.2", "web-1")
	}
	if err := rs.Client.Do(ctx, "CLIENT", "PAUSE", 60_000, "WRITE").Err(); err != nil {
		t.Fatal(err)
	}
	for i := range sets {
		m := wire.Answer{Task: fmt.Sprint("AC", i), RCC: wire.RCCReceived}
		old.say(m)
		m.Seq = int64(i + 1)
		agent.say(m)
	}
	redistest.Eventually(t, "there is no room", a.reports.full)
	a.end()
	redistest.Eventually(t, "it reads for the last time", a.ending.Load)
	if err := rs.Client.Do(ctx, "CLIENT", "UNPAUSE").Err(); err != nil {
		t.Fatal(err)
	}
	a.stop()
	for i := range sets {
		for _, h := range []string{"127.0.10.2", "web-1"} {
			if got := a.state(tasks.Number(fmt.Sprint("AC", i)), h); got != tasks.Acknowledged {
				t.Errorf("%s: report %d: %s", h, i, got)
			}
		}
	}
	confirmed := int64(0)
	for {
		body, err := agent.dec.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("read: %v", err)
			}
			break
		}
		if m, _ := wire.Decode(body, wire.Listener); reflect.TypeOf(m) == reflect.TypeFor[wire.Confirm]() {
			confirmed = m.(wire.Confirm).Seq
		}
	}
	if confirmed != sets {
		t.Errorf("confirmed up to %d, want %d", confirmed, sets)
	}
}

// What is read and not yet written when the listener stops is written, of each kind.
func TestStopWritesWhatWaits(t *testing.T) {
	t.Parallel()
	const ip = "127.0.10.4"
	waits := func(g *gather[report], n int) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.busy && len(g.items) == n
	}
	for name, c := range map[string]struct {
		say  func(r *running, h *host)
		want func(r *running) bool
	}{
		"reports": {func(r *running, h *host) {
			for i, number := range []string{"AC1", "AC2"} { // the second waits for the first
				h.say(wire.Answer{Task: number, RCC: wire.RCCReceived})
				redistest.Eventually(t, number+" is under way", func() bool { return waits(r.reports, i) })
			}
		}, func(r *running) bool {
			return r.state("AC1", ip) == tasks.Acknowledged && r.state("AC2", ip) == tasks.Acknowledged
		}},
		"changes": {func(r *running, h *host) {
			h.say(wire.Info{Hostname: "pc"})
			redistest.Eventually(t, "it is heard", func() bool { return r.Stats().Infos.Load() == 1 })
			h.conn.Close()
			redistest.Eventually(t, "its end is seen", func() bool { return r.connections(ip) == 0 })
		}, func(r *running) bool { return r.place(ip) == "" && len(r.events(ip)) == 2 }},
	} {
		rs := redistest.OpenReal(t)
		a := start(t, rs, Config{ID: "a", Drain: time.Millisecond}, slow)
		set(t, rs, "AC1", ip)
		set(t, rs, "AC2", ip)
		h := a.old(ip)
		a.on(ip)
		a.hears()
		if err := rs.Client.Do(ctx, "CLIENT", "PAUSE", 60_000, "WRITE").Err(); err != nil {
			t.Fatal(err)
		}
		c.say(a, h)
		a.end()
		channel := tasks.ChannelFor("a")
		redistest.Eventually(t, "all is read, and it serves no more", func() bool {
			return rs.Client.PubSubNumSub(ctx, channel).Val()[channel] == 0
		})
		if err := rs.Client.Do(ctx, "CLIENT", "UNPAUSE").Err(); err != nil {
			t.Fatal(err)
		}
		a.stop()
		if !c.want(a) {
			t.Errorf("%s: not all is written", name)
		}
	}
}

// A peer that does not stop talking does not keep the listener from its end.
func TestStopIsNotTalkedOut(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a"})
	h := a.old("127.0.10.3")
	a.on("127.0.10.3")
	over := make(chan struct{})
	go func() {
		defer close(over)
		beat := wire.EncodeFrame(wire.Heartbeat{})
		for {
			if _, err := h.conn.Write(beat); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	a.stop()
	<-over
	if a.place("127.0.10.3") == "" {
		t.Error("it is off the roll")
	}
}

// A listener that comes again under its id gives the hosts of its predecessor time to
// come back, and takes off the others at once.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	first := start(t, rs, Config{ID: "a", Drain: time.Millisecond}, slow)
	elsewhere := start(t, rs, Config{ID: "b"}, slow)
	const hosts = 60
	for i := range hosts {
		ip := fmt.Sprintf("127.0.14.%d", i+1)
		first.old(ip)
		first.on(ip)
	}
	first.agent("web-1", "i1")
	first.agent("web-2", "i1")
	first.stop()
	// Its steps are many: what stands on the roll without a connection would be struck by
	// them at once.
	begin, err := rs.Client.Time(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	again := start(t, rs, Config{ID: "a"}, quick, func(s *Server) { s.pace.grace = time.Second })
	elsewhere.agent("web-2", "i1")
	back, w := again.agent("web-1", "i1")
	if w.Refused != "" {
		t.Fatalf("refused: %s", w.Refused)
	}
	again.old("127.0.14.1")
	again.off("127.0.14.60")
	redistest.Eventually(t, "the others are off", func() bool { return rs.Client.HLen(ctx, tasks.KeyOnline).Val() == 3 })
	for host, want := range map[string][]string{
		"web-1": {"host.online"}, "web-2": {"host.online"}, "127.0.14.1": {"host.online"},
		"127.0.14.2": {"host.online", "host.offline did not come back"},
	} {
		redistest.Eventually(t, host+" has its events", func() bool { return slices.Equal(again.events(host), want) })
	}
	all, err := tasks.Events(ctx, rs.Client, "0", 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if after := e.Time.Sub(begin); e.Type == "host.offline" && after < time.Second-time.Millisecond {
			t.Errorf("%s was taken off after %v", e.Host, after)
		}
	}
	elsewhere.on("web-2")
	again.on("web-1")
	back.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 1})
	if m := back.hear(); m != (wire.Confirm{Seq: 1}) {
		t.Errorf("heard %#v", m)
	}
}

// Those that have not come back are off in one pass when their time is over, and not in
// the course of the rotation.
func TestTakeOverInOnePass(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	hostsOf(t, rs, "a", 2000) // and then it was killed
	start(t, rs, Config{ID: "a"}, slow, func(s *Server) { s.pace.grace = 50 * time.Millisecond })
	redistest.Eventually(t, "all are off", func() bool {
		return rs.Client.Exists(ctx, tasks.KeyOnline, tasks.KeyAt("a"), tasks.KeyClients).Val() == 0
	})
}

// A listener whose predecessor's lease has ended does not make those hosts online by
// its own.
func TestTakeOverAfterTheLease(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	roll := tasks.NewRoll(rs.Client)
	changes := []tasks.Change{{Kind: tasks.On, Host: "web-1", Client: "agent i1"}}
	if _, _, err := roll.Apply(ctx, "a", changes); err != nil {
		t.Fatal(err)
	}
	rs.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "a"})
	a := start(t, rs, Config{ID: "a"}, slow)
	a.old("127.0.15.1")
	a.on("127.0.15.1")
	if got := a.place("web-1"); got != "" {
		t.Errorf("it is at %q", got)
	}
	if got := a.events("web-1"); len(got) != 2 || !strings.HasPrefix(got[1], "host.offline") {
		t.Errorf("events %q", got)
	}
}
