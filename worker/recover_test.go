package worker

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// Redis was away for longer than a lease, and is back: a host that was connected
// throughout is not taken for offline before its listener could say so.
func TestListenersAreAwaitedAfterAnOutage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	roll := tasks.NewRoll(f.rdb)
	if _, err := roll.Lease(ctx, "l1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := roll.Apply(ctx, "l1", []tasks.Change{{Kind: tasks.On, Host: "h1", Addr: netip.MustParseAddrPort("127.0.0.1:9"), Client: "json"}}); err != nil {
		t.Fatal(err)
	}
	f.rdb.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "l1"}) // it could not renew it
	sent := &counter{}
	d := f.dispatcher(sent)
	var looks atomic.Int64
	d.recovering = func() bool {
		if looks.Add(1) == 3 {
			if _, err := roll.Lease(ctx, "l1"); err != nil {
				t.Error(err)
			}
		}
		return true
	}
	if err := d.run(ctx, "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["h1"]}`), false); err != nil {
		t.Fatal(err)
	}
	if got := counts(f.ledger("AC1")); got != "sent:1" {
		t.Errorf("ledger %s, want the host sent to", got)
	}
	// When the others have had their time, who has not renewed is dead.
	f.rdb.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "l1"})
	looks.Store(10)
	d.recovering = func() bool { return looks.Add(1) < 15 }
	if err := d.run(ctx, "r2", job(`{"key":"AC2","commands":{"a":1},"hosts":["h1"]}`), false); err != nil {
		t.Fatal(err)
	}
	if got := counts(f.ledger("AC2")); got != "offline:1" {
		t.Errorf("ledger %s, want the host offline", got)
	}
}

// Redis is emptied under a running worker: the group, the name of the queue and the
// scripts are made anew by themselves, and a fleet that is connected is not taken for
// offline before its listener has said again that it is there.
func TestRedisEmptied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.start(Config{})
	f.event("task.sent", f.add("key", "AC1", "commands", `{"a":1}`))
	f.rdb.FlushAll(ctx)
	redistest.Eventually(t, "the worker has joined again", func() bool {
		return f.rdb.Exists(ctx, tasks.KeyRequests).Val() == 1 && f.rdb.SIsMember(ctx, allQueues, tasks.JobQueue).Val()
	})
	id := f.add("key", "AC2", "commands", `{"a":1}`, "hosts", `["h1"]`)
	redistest.Eventually(t, "the job is under way", func() bool { return f.rdb.ZScore(ctx, tasks.KeyJobs, id).Err() == nil })
	f.online("h1", "agent i1", netip.MustParseAddrPort("127.0.0.1:9")) // as its listener does within 5 s
	f.event("task.sent", id)
	if got := counts(f.ledger("AC2")); got != "sent:1" {
		t.Errorf("ledger %s", got)
	}
	f.drained()
}

func TestEmptiedIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e emptied
		start := time.Now()
		e.wait(t.Context())
		if time.Since(start) != 0 {
			t.Error("waited for nothing")
		}
		e.note()
		time.Sleep(time.Second)
		e.wait(t.Context())
		if got := time.Since(start); got != listenersFirst {
			t.Errorf("waited until %v, want %v", got, listenersFirst)
		}
		e.wait(t.Context())
		if got := time.Since(start); got != listenersFirst {
			t.Errorf("waited once more, until %v", got)
		}
	})
}

// A roll without a listener, where there was one, is believed only after the listeners
// were called and had the time to answer.
func TestRollWithoutListeners(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	to := netip.MustParseAddrPort("127.0.0.1:9")
	d := f.dispatcher(&counter{})
	run := func(n, want string) {
		t.Helper()
		if err := d.run(ctx, "r"+n, job(`{"key":"`+n+`","commands":{"a":1},"hosts":["h1"]}`), false); err != nil {
			t.Fatal(err)
		}
		if got := counts(f.ledger(tasks.Number(n))); got != want {
			t.Fatalf("%s: ledger %s, want %s", n, got, want)
		}
	}
	run("AC1", "offline:1") // there never was one
	f.online("h1", "agent i1", to)
	run("AC2", "sent:1")
	sub := f.rdb.Subscribe(ctx, tasks.ChannelOff)
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	f.rdb.Del(ctx, tasks.KeyOnline, tasks.KeyListeners)
	answered := make(chan error, 1)
	go func() {
		m, err := sub.ReceiveMessage(ctx)
		if err == nil && m.Payload == tasks.EveryHost {
			f.online("h1", "agent i1", to)
		}
		answered <- err
	}()
	run("AC3", "sent:1")
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	f.rdb.Del(ctx, tasks.KeyOnline, tasks.KeyListeners)
	hear := func(want string) {
		t.Helper()
		m, err := sub.ReceiveTimeout(ctx, time.Minute)
		if got, ok := m.(*redis.Message); !ok || got.Payload != want {
			t.Fatalf("heard %v, %v, want %q", m, err, want)
		}
	}
	run("AC4", "offline:1") // nobody answers
	hear(tasks.EveryHost)
	run("AC5", "offline:1") // they are not called, nor waited for, once more
	f.rdb.Publish(ctx, tasks.ChannelOff, "that is all")
	hear("that is all")
}

// A worker that has just started knows of no listener. Redis may have lost its roll a
// moment before, so it calls them, and all that it runs meanwhile waits for the answer.
func TestFirstLookFindsNoListener(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	sub := f.rdb.Subscribe(ctx, tasks.ChannelOff)
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	d := f.dispatcher(&counter{})
	d.answerIn = time.Minute
	var group sync.WaitGroup
	numbers := []string{"AC1", "AC2", "AC3"}
	for _, n := range numbers {
		group.Go(func() {
			if err := d.run(ctx, "r"+n, job(`{"key":"`+n+`","commands":{"a":1},"hosts":["h1","h2"]}`), false); err != nil {
				t.Error(err)
			}
		})
	}
	if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != tasks.EveryHost {
		t.Fatalf("heard %v, %v", m, err)
	}
	f.back("l1", "h1")
	begin := time.Now()
	redistest.Eventually(t, "another listener takes a second longer", func() bool { return time.Since(begin) >= time.Second })
	f.back("l2", "h2")
	group.Wait()
	for _, n := range numbers {
		if got := counts(f.ledger(tasks.Number(n))); got != "sent:2" {
			t.Errorf("%s: ledger %s, want both hosts sent to", n, got)
		}
	}
	if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != tasks.EveryHost {
		t.Fatalf("heard %v, %v of the listener that was back first", m, err)
	}
	// One that has seen a listener calls once when all have stopped, and then believes it.
	d = f.dispatcher(&counter{})
	for _, c := range []struct{ n, want string }{{"AC4", "sent:1"}, {"AC5", "offline:1"}, {"AC6", "offline:1"}} {
		if err := d.run(ctx, "r"+c.n, job(`{"key":"`+c.n+`","commands":{"a":1},"hosts":["h1"]}`), false); err != nil {
			t.Fatal(err)
		}
		if got := counts(f.ledger(tasks.Number(c.n))); got != c.want {
			t.Errorf("%s: ledger %s, want %s", c.n, got, c.want)
		}
		f.rdb.Del(ctx, tasks.KeyOnline, tasks.KeyListeners)
	}
	f.rdb.Publish(ctx, tasks.ChannelOff, "that is all")
	for _, want := range []string{tasks.EveryHost, "that is all"} {
		m, err := sub.ReceiveTimeout(ctx, time.Minute)
		if got, ok := m.(*redis.Message); !ok || got.Payload != want {
			t.Fatalf("heard %v, %v, want %q", m, err, want)
		}
	}
}

// Redis has lost its roll, and one listener is back when a worker starts: it waits until
// the others have had the time, too.
func TestFirstLookFindsSomeListeners(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.back("l1", "h1")
	f.rdb.PExpire(t.Context(), tasks.KeyRebuilding, 12*time.Second)
	looked := make(chan struct{})
	d := f.dispatcher(&counter{})
	d.recovering = sync.OnceValue(func() bool { close(looked); return false })
	done := make(chan error, 1)
	go func() {
		done <- d.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["h1","h2"]}`), false)
	}()
	<-looked
	redistest.Eventually(t, "the worker has looked", func() bool { return d.doubt.saw.Load() })
	f.back("l2", "h2")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := counts(f.ledger("AC1")); got != "sent:2" {
		t.Errorf("ledger %s, want both hosts sent to", got)
	}
}
