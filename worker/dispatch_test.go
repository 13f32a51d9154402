package worker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// counter is an emitter that counts what each target is sent.
type counter struct {
	mu   sync.Mutex
	sent map[netip.AddrPort]int
}

func (c *counter) Emit(_ []byte, targets []netip.AddrPort) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		c.sent = map[netip.AddrPort]int{}
	}
	for _, t := range targets {
		c.sent[t]++
	}
	return len(targets)
}

func (c *counter) of(t netip.AddrPort) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[t]
}

// Without a key the number comes from the entry's id.
func TestNumberFromEntry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start(Config{})
	id := f.add("commands", `{"uptime": 1}`)
	if e := f.event("task.accepted", id); string(e.Key) != "AC"+id {
		t.Errorf("number %s of entry %s", e.Key, id)
	}
	f.ledger(tasks.Number("AC" + id))
}

// roster puts 600 hosts on the roll, which are two chunks, old clients and agents in
// turn, and returns the request that names them and where each is.
func (f *fixture) roster(key string) (payload string, old, agents []netip.AddrPort) {
	f.Helper()
	ctx := f.Context()
	var names []string
	_, err := f.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 600 {
			name, client := fmt.Sprintf("h%d", i), "json"
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 6655)
			if i%2 == 0 {
				old = append(old, addr)
			} else {
				client = "agent i"
				agents = append(agents, addr)
			}
			names = append(names, `"`+name+`"`)
			p.HSet(ctx, tasks.KeyOnline, name, tasks.FormatPlace(addr, "l1"))
			p.HSet(ctx, tasks.KeyClients, name, client)
		}
		p.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1e14, Member: "l1"})
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return fmt.Sprintf(`{"key":%q,"commands":{"uptime":1},"hosts":[%s]}`, key, strings.Join(names, ",")), old, agents
}

// A worker dies after each step in turn, and the job is run again: there is one set,
// whole, and nobody is told before that. Old clients are told once at most, and not
// at all by a second run once the set is open; agents are told at least once.
func TestDiesAndRunsAgain(t *testing.T) {
	t.Parallel()
	dead := errors.New("dead")
	for _, c := range []struct {
		step      string
		nth       int
		broadcast bool
		old       int // datagrams an old client has got in the end
		agent     int
	}{
		{"prepare", 1, false, 1, 1},
		{"enlist", 1, false, 1, 1},
		{"enlist", 1, true, 1, 1},
		{"enlist", 2, false, 1, 1},
		{"open", 1, false, 0, 1},
		{"tell", 1, false, 1, 2},
		{"tell", 1, true, 1, 2},
	} {
		t.Run(fmt.Sprintf("%s %d broadcast %v", c.step, c.nth, c.broadcast), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			payload, old, agents := f.roster("AC1")
			if c.broadcast {
				payload = `{"key":"AC1","commands":{"uptime":1}}`
			}
			sent := &counter{}
			d := f.dispatcher(sent)
			seen := 0
			d.after = func(step string) error {
				if step == c.step {
					if seen++; seen == c.nth {
						return dead
					}
				}
				return nil
			}
			if err := d.run(t.Context(), "r1", job(payload), false); !errors.Is(err, dead) {
				t.Fatalf("first run: %v", err)
			}
			if l := f.ledger("AC1"); l.Stage == tasks.Preparing && len(sent.sent) > 0 {
				t.Errorf("%d told while the set is being prepared", len(sent.sent))
			}
			d.after = nil
			for range 2 { // and once more beside, as the queue may
				if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
					t.Fatalf("run again: %v", err)
				}
				c.agent++
			}
			c.agent-- // the first of the two is counted in the table
			for _, a := range old {
				if n := sent.of(a); n != c.old {
					t.Fatalf("old client %v was sent %d datagrams, want %d", a, n, c.old)
				}
			}
			for _, a := range agents {
				if n := sent.of(a); n != c.agent {
					t.Fatalf("agent %v was sent %d datagrams, want %d", a, n, c.agent)
				}
			}
			if l := f.ledger("AC1"); l.Stage != tasks.Open || counts(l) != "sent:600" || l.Request != "r1" {
				t.Errorf("ledger %+v", l)
			}
			f.sound("AC1")
			f.event("task.accepted", "r1")
			f.event("task.sent", "r1")
		})
	}
}

// Hosts that have answered are not told again.
func TestAgainTellsThoseAwaited(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	payload, _, agents := f.roster("AC1")
	sent := &counter{}
	d := f.dispatcher(sent)
	if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Report(t.Context(), []tasks.Report{{Number: "AC1", Host: "h1", RCC: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
		t.Fatal(err)
	}
	if a, b := sent.of(agents[0]), sent.of(agents[1]); a != 1 || b != 2 {
		t.Errorf("h1 has answered and was sent %d, h3 has not and was sent %d", a, b)
	}
}

// The same job many times at once: one set, every old client told exactly once.
func TestBesideItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	payload, old, agents := f.roster("AC1")
	sent := &counter{}
	d := f.dispatcher(sent)
	var runs sync.WaitGroup
	for range 8 {
		runs.Go(func() {
			if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	for _, a := range old {
		if n := sent.of(a); n != 1 {
			t.Errorf("old client %v was sent %d datagrams", a, n)
		}
	}
	for _, a := range agents {
		if sent.of(a) == 0 {
			t.Errorf("agent %v was not told", a)
		}
	}
	if l := f.ledger("AC1"); counts(l) != "sent:600" {
		t.Errorf("ledger %+v", l)
	}
	f.sound("AC1")
}

// A run after the end of its set is a success, sends nothing, and announces an end
// that a dead worker has not announced.
func TestRunAfterClosed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sent := &counter{}
	d := f.dispatcher(sent)
	const payload = `{"key":"AC1","commands":{"a":1},"hosts":["10.0.0.5"]}`
	if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
		t.Fatal(err)
	}
	f.rdb.HDel(t.Context(), tasks.KeyMeta("AC1"), "announced")
	f.rdb.Del(t.Context(), tasks.KeyEvents)
	before := len(sent.sent)
	f.online("10.0.0.5", "agent i1", netip.MustParseAddrPort("127.0.0.1:1"))
	if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
		t.Fatal(err)
	}
	if len(sent.sent) != before {
		t.Error("told after the end")
	}
	f.event("task.closed", "r1")
	if l := f.ledger("AC1"); l.Stage != tasks.Closed || counts(l) != "offline:1" {
		t.Errorf("ledger %+v", l)
	}
}

// The end of a set that is closed at once can't be announced for a moment: the run
// that opened it announces it nevertheless, and tells who is to be told.
func TestAnnounceGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sent := &counter{}
	d, failing := f.failing(sent)
	d.after = func(step string) error {
		if step == "enlist" {
			failing.Store(1) // the look at the set that is to be announced; scripts pass
		}
		return nil
	}
	if err := d.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["10.0.0.5"]}`), false); err != nil {
		t.Fatal(err)
	}
	if failing.Load() != 0 {
		t.Fatal("nothing failed")
	}
	f.event("task.closed", "r1")
	if n := sent.of(netip.MustParseAddrPort("10.0.0.5:6655")); n != 1 {
		t.Errorf("%d datagrams", n)
	}
}

// A host that goes offline while the set is written is told all the same where its
// id says how, as it is recorded as sent.
func TestGoesOfflineMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sent := &counter{}
	d := f.dispatcher(sent)
	addr := netip.MustParseAddrPort("10.0.0.5:6655")
	f.online("10.0.0.5", "json", addr)
	f.online("web-1", "json", netip.MustParseAddrPort("10.0.0.6:6655"))
	d.after = func(step string) error {
		if step == "open" {
			return f.rdb.Del(t.Context(), tasks.KeyOnline).Err()
		}
		return nil
	}
	if err := d.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1}}`), false); err != nil {
		t.Fatal(err)
	}
	if len(sent.sent) != 1 || sent.of(addr) != 1 {
		t.Errorf("sent %v", sent.sent)
	}
	if l := f.ledger("AC1"); counts(l) != "sent:2" {
		t.Errorf("ledger %+v", l)
	}
}

// Two hosts of one address, which is what a host that comes twice looks like, are
// one datagram.
func TestOneDatagramAnAddress(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sent := &counter{}
	addr := netip.MustParseAddrPort("10.0.0.5:6655")
	f.online("a", "json", addr)
	f.online("b", "json", addr)
	if err := f.dispatcher(sent).run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1}}`), false); err != nil {
		t.Fatal(err)
	}
	if n := sent.of(addr); n != 1 {
		t.Errorf("%d datagrams", n)
	}
}

// Redis fails for a moment while the opener tells: it goes on, and nobody who was
// told is told twice.
func TestTellGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	payload, old, agents := f.roster("AC1")
	sent := &counter{}
	d, failing := f.failing(sent)
	d.after = func(step string) error {
		if step == "open" {
			failing.Store(3) // the head of the set, the event, then one of the pages
		}
		return nil
	}
	if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
		t.Fatal(err)
	}
	for _, a := range append(old, agents...) {
		if n := sent.of(a); n != 1 {
			t.Fatalf("%v was sent %d datagrams", a, n)
		}
	}
}

// failing is a dispatcher on a Redis that fails so many calls that are no pipeline as left
// says.
func (f *fixture) failing(socket emitter) (d *dispatcher, left *atomic.Int32) {
	f.Helper()
	left = new(atomic.Int32)
	rdb := redis.NewClient(&redis.Options{Addr: f.redis.Addr, DisableIdentity: true, MaxRetries: -1})
	f.Cleanup(func() { rdb.Close() })
	rdb.AddHook(failHook{left})
	w, err := New(Config{Redis: rdb, Log: f.log})
	if err != nil {
		f.Fatal(err)
	}
	return w.dispatcher(tasks.NewStore(rdb, tasks.StoreConfig{}), socket), left
}

// failHook fails calls that are no pipeline while its count lasts.
type failHook struct{ left *atomic.Int32 }

func (h failHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h failHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.left.Load() > 0 && h.left.Add(-1) >= 0 {
			cmd.SetErr(errors.New("connection reset"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

func (h failHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// largeHook notes the largest command, in arguments.
type largeHook struct{ most *atomic.Int64 }

func (h largeHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h largeHook) note(cmd redis.Cmder) {
	for n := int64(len(cmd.Args())); ; {
		most := h.most.Load()
		if n <= most || h.most.CompareAndSwap(most, n) {
			return
		}
	}
}

func (h largeHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.note(cmd)
		return next(ctx, cmd)
	}
}

func (h largeHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			h.note(cmd)
		}
		return next(ctx, cmds)
	}
}

// 100,000 hosts, named and as a broadcast: no command is larger than a chunk, so that none
// holds Redis for long.
func TestHundredThousandHosts(t *testing.T) {
	t.Parallel()
	f := fixtureOn(t, redistest.OpenReal(t))
	ctx := t.Context()
	const n = tasks.MaxHosts
	for from := 0; from < n; from += 5000 {
		_, err := f.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := from; i < from+5000; i++ {
				name := fmt.Sprintf("host-%06d", i)
				addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1 + byte(i>>16), byte(i >> 8), byte(i)}), 6655)
				p.HSet(ctx, tasks.KeyOnline, name, tasks.FormatPlace(addr, "l1"))
				p.HSet(ctx, tasks.KeyClients, name, "json")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.rdb.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1e14, Member: "l1"})

	var most atomic.Int64
	rdb := redis.NewClient(&redis.Options{Addr: f.redis.Addr, DisableIdentity: true})
	defer rdb.Close()
	rdb.AddHook(largeHook{&most})
	stop := f.start(Config{Redis: rdb, RetryAfter: time.Hour}) // nobody gives up meanwhile, on a busy machine either
	defer stop()
	named := f.add("key", "ACnamed", "commands", `{"uptime": 1}`, "hosts", manyHosts(n))
	all := f.add("key", "ACall", "commands", `{"uptime": 1}`)
	for key, id := range map[tasks.Number]string{"ACnamed": named, "ACall": all} {
		e := f.event("task.sent", id)
		if l := f.ledger(key); l.Total != n || l.Counts[tasks.Sent] != n {
			t.Errorf("ledger of %s: %+v", key, l)
		}
		// Only Linux has all of 127.0.0.0/8 on its loopback.
		if want := fmt.Sprint(n); e.More["datagrams"] != want && runtime.GOOS == "linux" {
			t.Errorf("%s: %s datagrams, want %s", key, e.More["datagrams"], want)
		}
	}
	if most := most.Load(); most > 2*tasks.Chunk+10 {
		t.Errorf("a command of %d arguments", most)
	}
}
