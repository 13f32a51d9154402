package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

func TestPrepareWritesTheSet(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	r := tasks.Request{
		Key: "AC1", Timeout: 42 * time.Second, Deadline: 90 * time.Second,
		Commands: []tasks.Command{{Line: "uptime", Priority: 10}, {Line: "df -h", Priority: -0.1}, {Line: "w", Priority: 1e300}},
	}
	before := f.now()
	p, err := f.store.Prepare(ctx, "17-0", r)
	f.must(err)
	after := f.now()
	if p.Stage != tasks.Preparing || p.Created.Before(before.Truncate(time.Millisecond)) || p.Created.After(after) ||
		p.Deadline.Sub(p.Created) != 90*time.Second {
		t.Fatalf("prepared %+v between %v and %v", p, before, after)
	}
	set, err := f.rdb.ZRangeWithScores(ctx, "AC1", 0, -1).Result()
	f.must(err)
	if want := (redis.Z{Score: -0.1, Member: "df -h"}); len(set) != 3 || set[0] != want || set[1].Score != 10 || set[2].Score != 1e300 {
		t.Fatalf("the set is %v", set)
	}
	meta, err := f.rdb.HGetAll(ctx, "{AC1}:meta").Result()
	f.must(err)
	want := map[string]string{
		"state": "preparing", "request": "17-0", "timeout_s": "42", "total": "0", "commands": "3", "output_bytes": "0",
		"created_ms":  fmt.Sprint(p.Created.UnixMilli()),
		"deadline_ms": fmt.Sprint(p.Deadline.UnixMilli()),
		"expire_ms":   fmt.Sprint(p.Deadline.Add(keep).UnixMilli()),
	}
	for _, s := range tasks.States() {
		want[string(s)] = "0"
	}
	if !maps.Equal(meta, want) {
		t.Fatalf("meta is\n%v, want\n%v", meta, want)
	}
	score, err := f.rdb.ZScore(ctx, tasks.KeySets, "AC1").Result()
	f.must(err)
	if int64(score) != p.Deadline.UnixMilli() {
		t.Fatalf("the list of sets says %v, want %v", int64(score), p.Deadline.UnixMilli())
	}
	f.dueIn(tasks.KeyDue, "AC1", tasks.DefaultRetryAfter)
	for _, key := range []string{"AC1", "{AC1}:meta"} {
		left, err := f.rdb.PTTL(ctx, key).Result()
		f.must(err)
		if most := 90*time.Second + keep; left > most || left < most-time.Minute {
			t.Fatalf("%s lives for %v more, want %v", key, left, most)
		}
	}
	l, err := f.store.Ledger(ctx, "AC1")
	f.must(err)
	if l.Number != "AC1" || l.Stage != tasks.Preparing || l.Request != "17-0" || l.Timeout != 42*time.Second || l.Commands != 3 ||
		!l.Created.Equal(p.Created) || !l.Deadline.Equal(p.Deadline) || !l.Closed.IsZero() || len(l.Counts) != len(tasks.States()) {
		t.Fatalf("ledger %+v", l)
	}
}

func TestPrepareAgain(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	first, err := f.store.Prepare(ctx, "one", request("AC1", "a", "b"))
	f.must(err)
	before := f.dump("AC1")

	again, err := f.store.Prepare(ctx, "one", request("AC1", "a", "b"))
	f.must(err)
	if again != first {
		t.Fatalf("the same request again: %+v, want %+v", again, first)
	}
	f.same("AC1", before)

	// After a crash before the list of sets was written, the second run writes it.
	f.must(f.rdb.Del(ctx, tasks.KeySets).Err())
	_, err = f.store.Prepare(ctx, "one", request("AC1", "a", "b"))
	f.must(err)
	if _, err := f.rdb.ZScore(ctx, tasks.KeySets, "AC1").Result(); err != nil {
		t.Fatalf("the set is not in the list of sets: %v", err)
	}

	f.must(f.rdb.Del(ctx, tasks.KeySets).Err())
	_, err = f.store.Prepare(ctx, "two", request("AC1", "c"))
	if !errors.Is(err, tasks.ErrInUse) || !strings.Contains(err.Error(), "request one") {
		t.Fatalf("another request for the number: %v", err)
	}
	f.same("AC1", before)
	if n := f.rdb.Exists(ctx, tasks.KeySets).Val(); n != 0 {
		t.Fatal("a refused request wrote to the list of sets")
	}

	f.enlist("AC1", "web-1 sent")
	if _, err := f.store.Open(ctx, "AC1"); err != nil {
		t.Fatal(err)
	}
	again, err = f.store.Prepare(ctx, "one", request("AC1", "a", "b"))
	f.must(err)
	if again.Stage != tasks.Open || again.Deadline != first.Deadline {
		t.Fatalf("the same request when the set is open: %+v", again)
	}
}

// A number is in use also where only remains of a set are left, or something that is
// no set at all.
func TestPrepareOverRemains(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	for i, make := range []func(key string) error{
		func(key string) error { return f.rdb.Set(ctx, key, "mine", 0).Err() },
		func(key string) error { return f.rdb.HSet(ctx, key, "web-1", "sent").Err() },
	} {
		for _, suffix := range []string{"", "meta", "hosts", "awaiting", "working", "complete", "oncall", "failing", "results"} {
			n := tasks.Number(fmt.Sprintf("AC%d.%s", i, suffix))
			key := string(n)
			if suffix != "" {
				key = "{" + string(n) + "}:" + suffix
			}
			f.must(make(key))
			_, err := f.store.Prepare(ctx, "one", request(n, "a"))
			if !errors.Is(err, tasks.ErrInUse) {
				t.Errorf("%s exists, and Prepare says %v", key, err)
			}
			if keys := f.keysOf(n); len(keys) != 1 {
				t.Errorf("%s exists, and Prepare has written: %v", key, keys)
			}
		}
	}
}

func TestEnlist(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	f.prepare("AC1", "ab")
	f.enlist("AC1", "web-1 sent, web-2 offline, web-1 offline, web-3 waiting, web-4 sent")
	f.sound("AC1")
	want := map[string]tasks.State{"web-1": tasks.Sent, "web-2": tasks.Offline, "web-3": tasks.Waiting, "web-4": tasks.Sent}
	if got := f.states("AC1"); !maps.Equal(got, want) {
		t.Fatalf("states %v, want %v", got, want)
	}
	if l := f.stage("AC1", tasks.Preparing); l.Total != 4 || l.Counts[tasks.Sent] != 2 || l.Counts[tasks.Offline] != 1 || l.Open() != 3 {
		t.Fatalf("ledger %+v", l)
	}
	before := f.dump("AC1")
	f.enlist("AC1", "web-2 sent, web-4 offline, web-3 sent")
	f.same("AC1", before)
	if ok, err := f.store.Enlist(ctx, "AC1", nil); !ok || err != nil {
		t.Fatalf("nobody: %v, %v", ok, err)
	}

	_, err := f.store.Open(ctx, "AC1")
	f.must(err)
	before = f.dump("AC1")
	for _, n := range []tasks.Number{"AC1", "AC-none"} {
		ok, err := f.store.Enlist(ctx, n, []tasks.Enlisted{{Host: "web-9", State: tasks.Sent}})
		if ok || err != nil {
			t.Fatalf("enlisted in %s, which is not being prepared: %v, %v", n, ok, err)
		}
	}
	f.same("AC1", before)
	if keys := f.keysOf("AC-none"); len(keys) != 0 {
		t.Fatalf("written: %v", keys)
	}

	f.prepare("AC2", "a")
	full := make([]tasks.Enlisted, tasks.Chunk)
	for i := range full {
		full[i] = tasks.Enlisted{Host: fmt.Sprintf("host-%d", i), State: tasks.Sent}
	}
	ok, err := f.store.Enlist(ctx, "AC2", full)
	f.must(err)
	if l := f.stage("AC2", tasks.Preparing); !ok || l.Total != tasks.Chunk {
		t.Fatalf("a full chunk: %v, ledger %+v", ok, l)
	}
	f.sound("AC2")
}

func TestOpen(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()

	for i, state := range tasks.States() {
		n := tasks.Number(fmt.Sprint("AC1.", i))
		f.prepare(n, "a")
		f.enlist(n, "web-1 "+string(state))
		opened, err := f.store.Open(ctx, n)
		f.must(err)
		want := tasks.Closed
		if state.Open() {
			want = tasks.Open
		}
		l := f.stage(n, want)
		if !opened || l.Closed.IsZero() == (want == tasks.Closed) {
			t.Fatalf("opened with a host %s: %v, closed %v", state, opened, l.Closed)
		}
		if want == tasks.Closed {
			f.closedOnce(n)
			if now := f.now(); l.Closed.After(now) || now.Sub(l.Closed) > time.Minute {
				t.Fatalf("closed at %v, and it is %v", l.Closed, now)
			}
		} else if all := f.events(n); len(all) != 0 {
			t.Fatalf("events of an open set: %v", all)
		}
		before := f.dump(n)
		opened, err = f.store.Open(ctx, n)
		f.must(err)
		if opened {
			t.Fatal("opened twice")
		}
		f.same(n, before)
	}

	f.prepare("AC2", "a")
	_, err := f.store.Open(ctx, "AC2")
	f.must(err)
	e := f.closedOnce("AC2")
	if e.Total == nil || *e.Total != 0 || e.Request != "request of AC2" || len(e.Counts) != len(tasks.States()) || e.Counts[tasks.Done] != 0 {
		t.Fatalf("a set of nobody: %+v", e)
	}
	f.sound("AC2")

	if _, err := f.store.Open(ctx, "AC-none"); !errors.Is(err, tasks.ErrNotFound) {
		t.Fatalf("open what is not there: %v", err)
	}
	if keys := f.keysOf("AC-none"); len(keys) != 0 {
		t.Fatalf("written: %v", keys)
	}
}

func TestOpenByOneOfMany(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.prepare("AC1", "a")
	f.enlist("AC1", "web-1 sent")
	var group sync.WaitGroup
	results := make(chan bool, 8)
	for range cap(results) {
		group.Go(func() {
			opened, err := f.store.Open(t.Context(), "AC1")
			if err != nil {
				t.Error(err)
			}
			results <- opened
		})
	}
	group.Wait()
	close(results)
	opened := 0
	for r := range results {
		if r {
			opened++
		}
	}
	if opened != 1 {
		t.Fatalf("%d have opened the set, want 1", opened)
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	at := time.UnixMilli(1_763_840_000_000)
	for i, n := range []string{"AC1", "AC2", "AC3"} {
		f.must(f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: float64(at.Add(time.Duration(i) * time.Millisecond).UnixMilli()), Member: n}).Err())
	}
	for _, c := range []struct {
		after, until time.Duration
		limit        int64
		want         string
		next         time.Duration // 0: that were all
	}{
		{0, 2 * time.Millisecond, 10, "[AC1 AC2 AC3]", 0},
		{time.Millisecond, time.Millisecond, 10, "[AC2]", 0},
		{-time.Hour, time.Hour, 2, "[AC1 AC2]", 2 * time.Millisecond},
		{-time.Hour, time.Hour, 0, "[AC1]", time.Millisecond},
		{-time.Hour, 2 * time.Millisecond, 3, "[AC1 AC2 AC3]", 3 * time.Millisecond},
		{-time.Hour, -time.Millisecond, 10, "[]", 0},
	} {
		got, next, err := f.store.Due(ctx, at.Add(c.after), at.Add(c.until), c.limit)
		f.must(err)
		if fmt.Sprint(got) != c.want || next.IsZero() != (c.next == 0) || c.next != 0 && !next.Equal(at.Add(c.next)) {
			t.Errorf("due from %v to %v, pages of %d: %v, next %v, want %s", c.after, c.until, c.limit, got, next, c.want)
		}
	}
}

// Sets of one deadline are never parted, so no page passes any over or gives it twice.
func TestDueTogether(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	want := map[tasks.Number]bool{}
	for i := range 1100 {
		n := tasks.Number(fmt.Sprint("AC", i))
		score := float64(1_763_840_000_000) + float64(i%2)/2 // what a stranger writes may have a fraction
		if i >= 1090 {
			score += float64(i)
		}
		f.must(f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: score, Member: string(n)}).Err())
		want[n] = true
	}
	seen := map[tasks.Number]bool{}
	from, pages := time.UnixMilli(0), 0
	for more := true; more; pages++ {
		page, next, err := f.store.Due(ctx, from, time.Now(), 4)
		f.must(err)
		for _, n := range page {
			if seen[n] {
				t.Errorf("%s twice", n)
			}
			seen[n] = true
		}
		from, more = next, !next.IsZero()
	}
	if !maps.Equal(seen, want) || pages != 4 {
		t.Errorf("%d sets in %d pages, want %d in 4", len(seen), pages, len(want))
	}
}

// A set is written, and entered where workers find it, in a round trip each. Prepared once
// more it comes due again, also for a worker that is about to strike it.
func TestPrepareIsTwoRoundTrips(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	f.prepare("AC1", "a") // the scripts are known
	var n atomic.Int64
	f.rdb.AddHook(roundTrips{&n})
	prepared, err := f.store.Prepare(ctx, "one", request("AC2", "a"))
	f.must(err)
	if n.Load() != 2 {
		t.Errorf("%d round trips, want 2", n.Load())
	}
	f.ago(tasks.KeyDue, "AC2", time.Second)
	f.must(f.rdb.ZRem(ctx, tasks.KeyDue, "AC1").Err())
	due := tasks.NewAgenda(f.rdb, tasks.KeyDue)
	c := f.claim(due, "AC2")
	f.must(f.rdb.ZRem(ctx, tasks.KeySets, "AC2").Err()) // as if the process had died before
	_, err = f.store.Prepare(ctx, "one", request("AC2", "a"))
	f.must(err)
	f.must(due.Settle(ctx, c, "AC2", time.Time{}))
	f.dueIn(tasks.KeyDue, "AC2", tasks.DefaultRetryAfter)
	if score := f.rdb.ZScore(ctx, tasks.KeySets, "AC2").Val(); int64(score) != prepared.Deadline.UnixMilli() {
		t.Errorf("the list of sets says %v, want %v", int64(score), prepared.Deadline.UnixMilli())
	}
}

func TestStoreDefaults(t *testing.T) {
	t.Parallel()
	f := open(t)
	store := tasks.NewStore(f.rdb, tasks.StoreConfig{})
	_, err := store.Prepare(t.Context(), "one", request("AC1", "a"))
	f.must(err)
	left, err := f.rdb.PTTL(t.Context(), "{AC1}:meta").Result()
	f.must(err)
	if most := time.Hour + 7*24*time.Hour; left > most || left < most-time.Minute {
		t.Fatalf("a set lives for %v more, want 7 days from its deadline", left)
	}
}

// Each method says so when Redis can't be reached, and claims nothing.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	rdb.Close()
	store, ctx := tasks.NewStore(rdb, tasks.StoreConfig{}), t.Context()
	roll := tasks.NewRoll(rdb)
	for name, call := range map[string]func() error{
		"Prepare": func() error { _, err := store.Prepare(ctx, "one", request("AC1", "a")); return err },
		"Enlist": func() error {
			_, err := store.Enlist(ctx, "AC1", []tasks.Enlisted{{Host: "web-1", State: tasks.Sent}})
			return err
		},
		"Open":   func() error { _, err := store.Open(ctx, "AC1"); return err },
		"Due":    func() error { _, _, err := store.Due(ctx, time.Time{}, time.Now(), 1); return err },
		"Expire": func() error { return store.Expire(ctx, "AC1") },
		"Report": func() error { _, err := store.Report(ctx, []tasks.Report{answer("AC1", "web-1", 1)}); return err },
		"Ledger": func() error { _, err := store.Ledger(ctx, "AC1"); return err },
		"Hosts":  func() error { return store.Hosts(ctx, "AC1", nil) },
		"Awaiting": func() error {
			return store.Awaiting(ctx, "AC1", nil)
		},
		"Results": func() error { return store.Results(ctx, "AC1", "", nil) },
		"Find":    func() error { _, err := store.Find(ctx, []tasks.Lookup{{Number: "AC1", Host: "web-1"}}); return err },
		"Verify":  func() error { _, err := store.Verify(ctx, "AC1"); return err },
		"Record":  func() error { return tasks.Record(ctx, rdb, tasks.Event{Type: "host.online"}) },
		"Events":  func() error { _, err := tasks.Events(ctx, rdb, "0", 1, 0); return err },
		"LastEvent": func() error {
			_, err := tasks.LastEvent(ctx, rdb)
			return err
		},
		"View": func() error { _, err := roll.View(ctx); return err },
		"Submit": func() error {
			_, err := tasks.NewClient(rdb).Submit(ctx, request("AC1", "a"))
			return err
		},
		"Dispatch": func() error { _, err := tasks.NewClient(rdb).Dispatch(ctx, who("web-1")); return err },
		"Online":   func() error { _, err := tasks.NewClient(rdb).Online(ctx); return err },
		"Wait": func() error {
			_, err := tasks.NewClient(rdb).Wait(ctx, tasks.Dispatched{Number: "AC1", Request: "r"})
			return err
		},
	} {
		err := call()
		var wrong *tasks.InvalidError
		if err == nil || errors.Is(err, tasks.ErrNotFound) || errors.Is(err, tasks.ErrInUse) || errors.As(err, &wrong) {
			t.Errorf("%s without Redis: %v", name, err)
		}
	}
}

// A call whose answer was lost is repeated by the Redis client: its caller is still
// the one that has opened the set, else nobody would tell the old clients.
func TestOpenWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.prepare("AC1", "a")
	f.enlist("AC1", "web-1 sent")
	twice := redis.NewClient(&redis.Options{Addr: f.srv.Addr, DisableIdentity: true})
	defer twice.Close()
	twice.AddHook(repeating{})
	opened, err := tasks.NewStore(twice, tasks.StoreConfig{}).Open(t.Context(), "AC1")
	f.must(err)
	if !opened {
		t.Error("nobody has opened the set")
	}
	opened, err = f.store.Open(t.Context(), "AC1")
	f.must(err)
	if opened {
		t.Error("opened by another call too")
	}
}

// repeating sends every pipeline twice and gives the second answer.
type repeating struct{}

func (repeating) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (repeating) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (repeating) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		_ = next(ctx, cmds) // its answer is lost
		for _, c := range cmds {
			c.SetErr(nil)
		}
		return next(ctx, cmds)
	}
}
