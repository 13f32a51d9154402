package listener

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// gate is a hook that lets nothing through to Redis while it is shut, as a network does
// that comes back later.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil while it is open
	held []string      // what has waited, as text
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
	}
	g.shut = nil
}

// holds reports whether something waits at the gate that names a host. Other things wait
// there too, such as the renewal of the lease.
func (g *gate) holds(host string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.held, func(text string) bool { return strings.Contains(text, host) })
}

// passed marks what has come through: the greeting of a new connection, which is a part
// of it, is not held once more.
type passed struct{}

func (g *gate) pass(ctx context.Context, cmds ...redis.Cmder) context.Context {
	if ctx.Value(passed{}) != nil {
		return ctx
	}
	g.mu.Lock()
	shut := g.shut
	if shut != nil {
		g.held = append(g.held, fmt.Sprint(cmds))
	}
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
	return context.WithValue(ctx, passed{}, true)
}

// asleep shuts the gate of a listener until its lease has ended: not before its renewal
// waits there, since one that is through already would begin the lease again.
func (g *gate) asleep(r *running) {
	r.t.Helper()
	g.close()
	redistest.Eventually(r.t, r.ID()+" is about to renew its lease", func() bool { return g.holds(tasks.KeyRebuilding + " " + r.ID()) })
	r.rdb.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: r.ID()})
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return next(g.pass(ctx, cmd), cmd) }
}
func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(g.pass(ctx, cmds...), cmds) }
}

// client is one more client of a Redis.
func client(t testing.TB, rs *redistest.Server, tune ...func(*redis.Options)) *redis.Client {
	o := *rs.Client.Options()
	for _, f := range tune {
		f(&o)
	}
	rdb := redis.NewClient(&o)
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// A host that has moved is never taken off by the listener it was at, whenever that gets
// to know, and whatever of it is still under way to Redis.
func TestMoved(t *testing.T) {
	t.Parallel()
	agent := func(r *running) *host {
		h, w := r.agent("web-1", "i1")
		if w.Refused != "" {
			t.Errorf("refused: %s", w.Refused)
		}
		return h
	}
	hello := func(r *running) *host {
		h := r.dial("127.0.0.1")
		h.say(wire.Hello{ID: "web-1", Instance: "i1", UDP: 7000})
		return h
	}
	for name, move := range map[string]func(a, b *running, g *gate) *host{
		// The new connection is up before the old one is closed.
		"in good order": func(a, b *running, g *gate) *host {
			old := agent(a)
			h := agent(b)
			old.closed()
			return h
		},
		// It is closed first, which its listener can't say yet.
		"the end comes late": func(a, b *running, g *gate) *host {
			old := agent(a)
			g.close()
			old.conn.Close()
			redistest.Eventually(t, "the end is under way", func() bool { return a.connections("web-1") == 0 && g.holds("web-1") })
			return agent(b)
		},
		// It gave up one listener, which had no Redis, before it went to the other.
		"the beginning comes late": func(a, b *running, g *gate) *host {
			g.close()
			old := hello(a)
			redistest.Eventually(t, "it is under way", func() bool { return g.holds("web-1") })
			h := agent(b)
			old.conn.Close()
			return h
		},
		// So too, but what is under way began after the first try.
		"the beginning waits": func(a, b *running, g *gate) *host {
			a.old("127.0.16.1")
			a.on("127.0.16.1")
			g.close()
			a.old("127.0.16.2") // is under way
			redistest.Eventually(t, "another is under way", func() bool { return g.holds("127.0.16.2") })
			old := hello(a)
			redistest.Eventually(t, "it waits", func() bool { return a.connections("web-1") == 1 })
			h := agent(b)
			old.conn.Close()
			a.members.of("web-1").close("the peer has closed it") // who waits for the roll does not look
			return h
		},
		// The listener slept, and others have swept it.
		"the listener slept": func(a, b *running, g *gate) *host {
			old := agent(a)
			g.asleep(a)
			h := agent(b)
			s := tasks.NewSweeper(b.roll, nil, time.Nanosecond)
			redistest.Eventually(t, "a is swept", func() bool {
				swept, err := s.Sweep(ctx)
				return err == nil && slices.Equal(swept, []string{"a"})
			})
			g.open()
			old.closed() // it looks by itself what became of its hosts
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs, g := redistest.Open(t), &gate{}
			mine := client(t, rs)
			mine.AddHook(g)
			a := start(t, rs, Config{ID: "a", Redis: mine, Subscriber: client(t, rs)}, slow, func(s *Server) {
				if s.pace.renew = 50 * time.Millisecond; name != "the beginning waits" {
					s.pace.late = -time.Millisecond // what is under way is late at once
				}
			})
			t.Cleanup(g.open) // before a stops
			b := start(t, rs, Config{ID: "b"}, slow)
			a.hears()
			h := move(a, b, g)
			g.open()
			redistest.Eventually(t, "a has let it go", func() bool {
				return a.connections("web-1") == 0 && !rs.Client.SIsMember(ctx, tasks.KeyAt("a"), "web-1").Val()
			})
			drained, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			a.changes.drain(drained)
			b.changes.drain(drained)
			h.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 1})
			if m := h.hear(); m != (wire.Confirm{Seq: 1}) {
				t.Errorf("heard %#v", m)
			}
			if got := b.place("web-1"); got != "127.0.0.1:7000@b" {
				t.Errorf("it is at %q", got)
			}
			for _, e := range b.events("web-1")[1:] {
				t.Errorf("event %q after it came online", e)
			}
		})
	}
}

// An old client that has connected elsewhere is not taken off either, but who still has
// a connection of it keeps that.
func TestOldClientMoved(t *testing.T) {
	t.Parallel()
	rs, g := redistest.Open(t), &gate{}
	mine := client(t, rs)
	mine.AddHook(g)
	const ip = "127.0.16.3"
	a := start(t, rs, Config{ID: "a", Redis: mine, Subscriber: client(t, rs)}, slow, func(s *Server) { s.pace.renew = 50 * time.Millisecond })
	t.Cleanup(g.open)
	b := start(t, rs, Config{ID: "b"}, slow)
	old := a.old(ip)
	a.on(ip)
	g.asleep(a)
	b.old(ip)
	b.on(ip)
	g.open()
	redistest.Eventually(t, "a has its lease again", func() bool { return leaseOf(t, rs.Client, "a") > 0 })
	old.conn.Close()
	redistest.Eventually(t, "a has let it go", func() bool {
		return a.connections(ip) == 0 && !rs.Client.SIsMember(ctx, tasks.KeyAt("a"), ip).Val()
	})
	b.on(ip)
	if got := b.events(ip); len(got) != 1 {
		t.Errorf("events %q", got)
	}
}

// A message for many hosts reaches those that are agents here, after their welcome, and
// one that is not understood does no harm.
func TestPushes(t *testing.T) {
	t.Parallel()
	rs, g := redistest.Open(t), &gate{}
	mine := client(t, rs)
	mine.AddHook(g)
	a := start(t, rs, Config{ID: "a", Redis: mine, Subscriber: client(t, rs)}, slow)
	t.Cleanup(g.open)
	roll := tasks.NewRoll(rs.Client)
	push := func(action tasks.PushAction, n tasks.Number, hosts ...string) {
		t.Helper()
		if err := roll.Push(ctx, "a", tasks.Push{Action: action, Number: n, Hosts: hosts}); err != nil {
			t.Fatal(err)
		}
	}
	old := a.old("127.0.17.1")
	a.on("127.0.17.1")
	first, _ := a.agent("web-1", "i1")
	second, _ := a.agent("web-2", "i1")
	a.hears()
	for _, payload := range []string{"", "later AC1 web-1", "start XX web-1", "start AC1", "start AC1  web-1", strings.Repeat("x ", 10_000)} {
		rs.Client.Publish(ctx, tasks.ChannelFor("a"), payload)
	}
	push(tasks.PushStart, "AC1", "127.0.17.1", "web-1", "none")
	push(tasks.PushCancel, "AC2", "web-1", "web-2")
	for _, c := range []struct {
		h    *host
		want wire.Push
	}{
		{first, wire.Push{Action: wire.ActionStart, Task: "AC1"}},
		{first, wire.Push{Action: wire.ActionCancel, Task: "AC2"}},
		{second, wire.Push{Action: wire.ActionCancel, Task: "AC2"}},
	} {
		if m := c.h.hear(); m != c.want {
			t.Errorf("heard %#v, want %#v", m, c.want)
		}
	}
	// One that is not yet welcomed hears the welcome first.
	g.close()
	third := a.dial("127.0.0.1")
	third.say(wire.Hello{ID: "web-3", Instance: "i1", UDP: 7000})
	redistest.Eventually(t, "it has said hello", func() bool { return a.connections("web-3") == 1 })
	push(tasks.PushStart, "AC3", "web-3")
	push(tasks.PushStart, "AC3", "web-1")
	if m := first.hear(); m != (wire.Push{Action: wire.ActionStart, Task: "AC3"}) {
		t.Errorf("heard %#v", m)
	}
	g.open()
	if m, ok := third.hear().(wire.Welcome); !ok {
		t.Errorf("heard %#v before the welcome", m)
	}
	if m := third.hear(); m != (wire.Push{Action: wire.ActionStart, Task: "AC3"}) {
		t.Errorf("heard %#v after the welcome", m)
	}
	// Old clients hear nothing, ever.
	old.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, _ := old.conn.Read(make([]byte, 1)); n != 0 {
		t.Error("an old client was sent something")
	}
}

// Many messages at once do not cost the subscription.
func TestManyPushes(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a"}, slow)
	h, _ := a.agent("web-1", "i1")
	a.hears()
	roll := tasks.NewRoll(rs.Client)
	hosts := make([]string, 10_000)
	for i := range hosts {
		hosts[i] = fmt.Sprint("h", i)
	}
	hosts[9_999] = "web-1"
	for i := range 20 {
		if err := roll.Push(ctx, "a", tasks.Push{Action: tasks.PushStart, Number: tasks.Number(fmt.Sprint("AC", i)), Hosts: hosts}); err != nil {
			t.Fatal(err)
		}
	}
	if err := roll.Push(ctx, "a", tasks.Push{Action: tasks.PushLook, Hosts: hosts}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if m := h.hear(); m != (wire.Push{Action: wire.ActionStart, Task: fmt.Sprint("AC", i)}) {
			t.Fatalf("heard %#v", m)
		}
	}
}

// A subscription that was broken comes back, and what may have been said meanwhile is
// looked into.
func TestSubscriptionBreaks(t *testing.T) {
	t.Parallel()
	rs := redistest.OpenReal(t)
	a := start(t, rs, Config{ID: "a"}, slow)
	b := start(t, rs, Config{ID: "b"}, slow)
	old, _ := a.agent("web-1", "i1")
	a.old("127.0.18.1")
	a.on("127.0.18.1")
	a.hears()
	for range 3 {
		// While nobody hears it, one host moves and one is taken off.
		rs.Client.HSet(ctx, tasks.KeyOnline, "web-1", "127.0.0.1:7000@b")
		rs.Client.HDel(ctx, tasks.KeyOnline, "127.0.18.1")
		if err := rs.Client.ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		a.on("127.0.18.1")
	}
	old.closed()
	a.hears()
	b.hears()
	moved, _ := a.agent("web-1", "i1")
	roll := tasks.NewRoll(rs.Client)
	if err := roll.Push(ctx, "a", tasks.Push{Action: tasks.PushStart, Number: "AC1", Hosts: []string{"web-1"}}); err != nil {
		t.Fatal(err)
	}
	if m := moved.hear(); m != (wire.Push{Action: wire.ActionStart, Task: "AC1"}) {
		t.Errorf("heard %#v", m)
	}
}
