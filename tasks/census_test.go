package tasks_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

func (f fixture) census(e *tasks.Enumerator) tasks.Census {
	f.Helper()
	c, err := e.Census(f.Context())
	f.must(err)
	if len(c.States) != len(tasks.States()) {
		f.Fatalf("%d states", len(c.States))
	}
	maps.DeleteFunc(c.States, func(_ tasks.State, n int64) bool { return n == 0 })
	return c
}

// A census counts what is not closed, and what is once closed is not read again.
func TestCensus(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	reads := &heads{}
	rdb := redis.NewClient(&redis.Options{Addr: f.srv.Addr, DisableIdentity: true})
	t.Cleanup(func() { rdb.Close() })
	rdb.AddHook(reads)
	e := tasks.NewEnumerator(rdb)
	same := func(what string, got tasks.Census, open int64, states string) {
		t.Helper()
		if text := fmt.Sprint(got.States); got.Open != open || text != states {
			t.Fatalf("%s: %d open, %s, want %d, %s", what, got.Open, text, open, states)
		}
	}
	if c := f.census(e); c.Hosts != 0 || c.Listeners != 0 || c.Open != 0 || c.Requests != 0 || c.Oldest != 0 {
		t.Fatalf("of nothing: %+v", c)
	}
	f.set("AC1", "a", "web-1 sent, web-2 sent, web-3 offline")
	f.prepare("AC2", "a")
	f.enlist("AC2", "web-1 sent")
	f.set("AC3", "a", "web-1 offline")
	same("two open", f.census(e), 2, "map[offline:1 sent:3]")
	if reads.n != 3 {
		t.Fatalf("%d sets read, want 3", reads.n)
	}
	f.report(tasks.Reported{}, ended("AC1", "web-1", "a", 0), answer("AC1", "web-2", 1))
	same("one host is done", f.census(e), 2, "map[acknowledged:1 done:1 offline:1 sent:1]")
	f.report(tasks.Reported{}, ended("AC1", "web-2", "a", 0))
	same("one is closed", f.census(e), 1, "map[sent:1]")
	reads.n = 0
	same("again", f.census(e), 1, "map[sent:1]")
	if reads.n != 1 {
		t.Fatalf("%d sets read again, want the one that is open", reads.n)
	}

	// One past its deadline counts while it is not closed, but not for ever.
	deadline := func(ago time.Duration) {
		f.must(f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: float64(f.now().Add(-ago).UnixMilli()), Member: "AC2"}).Err())
	}
	deadline(time.Minute)
	same("past its deadline", f.census(e), 1, "map[sent:1]")
	deadline(tasks.CensusLate + time.Minute)
	same("long past it", f.census(e), 0, "map[]")

	// A key of somebody else's is no set.
	f.must(f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: float64(f.now().Add(time.Hour).UnixMilli()), Member: "AC9"}).Err())
	f.must(f.rdb.Set(ctx, tasks.KeyMeta("AC9"), "text", 0).Err())
	same("damage", f.census(e), 0, "map[]")

	// A number that is used again is looked at again.
	f.must(f.rdb.Del(ctx, f.keysOf("AC3")...).Err())
	f.set("AC3", "a", "web-7 sent")
	same("used again", f.census(e), 1, "map[sent:1]")
}

// heads counts the sets that are read.
type heads struct {
	roundTrips
	n int
}

func (h *heads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			if c.Name() == "hmget" {
				h.n++
			}
		}
		return next(ctx, cmds)
	}
}

func (h *heads) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func TestCensusOfHostsAndRequests(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	roll := tasks.NewRoll(f.rdb)
	_, err := roll.Lease(ctx, "l1")
	f.must(err)
	f.must(f.rdb.SAdd(ctx, tasks.KeyAt("l1"), "a", "b").Err())
	f.must(f.rdb.SAdd(ctx, tasks.KeyAt("dead"), "c").Err())
	f.must(f.rdb.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "dead"}).Err())
	made := f.now().Add(-time.Hour).UnixMilli()
	f.must(f.rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.KeyRequests, ID: fmt.Sprintf("%d-0", made), Values: []any{"key", "AC1"}}).Err())
	f.must(f.rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.KeyRequests, Values: []any{"key", "AC2"}}).Err())
	c := f.census(tasks.NewEnumerator(f.rdb))
	if c.Hosts != 2 || c.Listeners != 1 || c.Requests != 2 || c.Oldest < time.Hour || c.Oldest > 2*time.Hour {
		t.Fatalf("%+v", c)
	}
	n, oldest, err := tasks.RequestsWaiting(ctx, f.rdb)
	if err != nil || n != 2 || oldest < time.Hour || oldest > 2*time.Hour {
		t.Fatalf("%d wait, the oldest for %v, %v", n, oldest, err)
	}
	f.must(f.rdb.Del(ctx, tasks.KeyRequests).Err())
	if n, oldest, err := tasks.RequestsWaiting(ctx, f.rdb); n != 0 || oldest != 0 || err != nil {
		t.Fatalf("of none: %d wait, the oldest for %v, %v", n, oldest, err)
	}
	f.must(f.rdb.Set(ctx, tasks.KeyRequests, "text", 0).Err())
	if _, _, err := tasks.RequestsWaiting(ctx, f.rdb); err == nil {
		t.Fatal("what is no stream is read")
	}
}

// So many sets that not all are looked at are said to be so many.
func TestCensusHasALimit(t *testing.T) {
	t.Parallel()
	f := open(t)
	at := float64(f.now().Add(time.Hour).UnixMilli())
	_, err := f.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range tasks.CensusSets + 5 {
			p.ZAdd(t.Context(), tasks.KeySets, redis.Z{Score: at + float64(i), Member: fmt.Sprint("AC", i)})
		}
		return nil
	})
	f.must(err)
	f.set("AC1", "a", "web-1 sent")
	f.must(f.rdb.ZAdd(t.Context(), tasks.KeySets, redis.Z{Score: at, Member: "AC1"}).Err())
	if c := f.census(tasks.NewEnumerator(f.rdb)); c.PassedOver != 5 || c.Open != 1 {
		t.Fatalf("%+v", c)
	}
}
