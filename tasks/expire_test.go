package tasks_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

func TestExpire(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	var hosts []string
	for _, state := range tasks.States() {
		if state != tasks.Done && state != tasks.Failed {
			hosts = append(hosts, string(state)+" "+string(state))
		}
	}
	f.set("AC1", "a", strings.Join(hosts, ", "))
	before := f.dump("AC1")
	f.must(f.store.Expire(ctx, "AC1"))
	f.same("AC1", before)
	f.sound("AC1") // what waits is noted as before

	f.past("AC1")
	f.must(f.store.Expire(ctx, "AC1"))
	f.sound("AC1")
	for host, state := range f.states("AC1") {
		want := tasks.State(host)
		if want.Open() {
			want = tasks.Expired
		}
		if state != want {
			t.Errorf("a host in state %s is %s after the deadline, want %s", host, state, want)
		}
	}
	l := f.stage("AC1", tasks.Closed)
	if e := f.closedOnce("AC1"); l.Closed.IsZero() || l.Counts[tasks.Expired] != 6 || e.Counts[tasks.Expired] != 6 || *e.Total != int64(len(hosts)) {
		t.Fatalf("ledger %+v, event %+v", l, e)
	}
	before = f.dump("AC1")
	f.must(f.store.Expire(ctx, "AC1"))
	f.same("AC1", before)
	f.closedOnce("AC1")
}

// Whatever a set was before, at the deadline it is closed and has no open host.
func TestExpireWhateverItWas(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()

	f.prepare("AC1", "a") // its worker died
	f.enlist("AC1", "web-1 sent, web-2 offline")
	f.past("AC1")
	f.must(f.store.Expire(ctx, "AC1"))
	f.stage("AC1", tasks.Closed)
	f.state("AC1", "web-1", tasks.Expired)
	f.closedOnce("AC1")
	if ok, err := f.store.Enlist(ctx, "AC1", []tasks.Enlisted{{Host: "web-3", State: tasks.Sent}}); ok || err != nil {
		t.Fatalf("a slow worker goes on: %v, %v", ok, err)
	}
	if opened, err := f.store.Open(ctx, "AC1"); opened || err != nil {
		t.Fatalf("a slow worker goes on: %v, %v", opened, err)
	}

	f.set("AC2", "ab", "web-1 offline, web-2 missing") // closed, and then one is heard of
	first := f.stage("AC2", tasks.Closed)
	f.report(tasks.Reported{}, lists("AC2", "web-1", 2, "a", "", "ab"))
	f.state("AC2", "web-1", tasks.Working)
	f.past("AC2")
	f.must(f.store.Expire(ctx, "AC2"))
	f.state("AC2", "web-1", tasks.Expired)
	f.sound("AC2")
	if l := f.stage("AC2", tasks.Closed); !l.Closed.Equal(first.Closed) || l.Open() != 0 {
		t.Fatalf("closed at %v and then at %v", first.Closed, l.Closed)
	}
	f.closedOnce("AC2")

	f.prepare("AC3", "a") // thousands, more than one page
	for i := range 5 {
		chunk := make([]tasks.Enlisted, tasks.Chunk)
		for j := range chunk {
			chunk[j] = tasks.Enlisted{Host: fmt.Sprintf("host-%d-%d", i, j), State: tasks.Sent}
		}
		_, err := f.store.Enlist(ctx, "AC3", chunk)
		f.must(err)
	}
	_, err := f.store.Open(ctx, "AC3")
	f.must(err)
	f.past("AC3")
	f.must(f.store.Expire(ctx, "AC3"))
	if l := f.stage("AC3", tasks.Closed); l.Counts[tasks.Expired] != 5*tasks.Chunk {
		t.Fatalf("ledger %+v", l)
	}
	f.sound("AC3")

	f.must(f.rdb.Del(ctx, f.keysOf("AC3")...).Err()) // gone from Redis
	f.must(f.store.Expire(ctx, "AC3"))
	if err := f.rdb.ZScore(ctx, tasks.KeySets, "AC3").Err(); err != redis.Nil {
		t.Fatalf("a set that is gone stands in the list of sets: %v", err)
	}
	if err := f.rdb.ZScore(ctx, tasks.KeySets, "AC2").Err(); err != nil {
		t.Fatalf("a set that is there does not stand in the list of sets: %v", err)
	}
	if keys := f.keysOf("AC3"); len(keys) != 0 {
		t.Fatalf("written: %v", keys)
	}
}

// A process can die between closing a set and recording it: whoever comes next does.
func TestClosingIsRecordedAfterACrash(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	touch := map[tasks.Number]func(n tasks.Number) error{
		"AC1": func(n tasks.Number) error { f.past(n); return f.store.Expire(ctx, n) },
		"AC2": func(n tasks.Number) error { _, err := f.store.Open(ctx, n); return err },
		"AC3": func(n tasks.Number) error {
			_, err := f.store.Report(ctx, []tasks.Report{answer(n, "web-2", 1), answer(n, "web-2", 1)})
			return err
		},
	}
	for n, again := range touch {
		f.set(n, "a", "web-1 offline")
		f.closedOnce(n)
		f.must(f.rdb.HDel(ctx, tasks.KeyMeta(n), "announced").Err())
		f.must(f.rdb.Del(ctx, tasks.KeyEvents).Err())
		closed := f.stage(n, tasks.Closed).Closed
		f.must(again(n))
		f.closedOnce(n)
		f.must(again(n))
		f.closedOnce(n)
		if l := f.stage(n, tasks.Closed); !l.Closed.Equal(closed) {
			t.Fatalf("closed at %v and then at %v", closed, l.Closed)
		}
	}
}

// Where the event can't be recorded the caller hears of it, and may try again.
func TestClosingThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	f.must(f.rdb.Set(ctx, tasks.KeyEvents, "no stream", 0).Err())
	f.prepare("AC1", "a")
	if opened, err := f.store.Open(ctx, "AC1"); !opened || err == nil {
		t.Fatalf("open: %v, %v", opened, err)
	}
	f.prepare("AC2", "a")
	f.enlist("AC2", "web-1 sent")
	_, err := f.store.Open(ctx, "AC2")
	f.must(err)
	got, err := f.store.Report(ctx, []tasks.Report{ended("AC2", "web-1", "a", 0)})
	if err != nil || got.Failed == nil {
		t.Fatalf("report: %+v, %v", got, err)
	}
	f.must(f.rdb.Del(ctx, tasks.KeyEvents).Err())
	_, err = f.store.Open(ctx, "AC1")
	f.must(err)
	f.closedOnce("AC1")
}

// vanish deletes a set as soon as its head has been read.
type vanish struct {
	roundTrips
	after func()
}

func (v vanish) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "hgetall" {
			v.after()
		}
		return err
	}
}

// A set may expire in Redis at any moment; nothing brings a part of it back.
func TestSetsThatVanish(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	gone := redis.NewClient(&redis.Options{Addr: f.srv.Addr, DisableIdentity: true})
	t.Cleanup(func() { gone.Close() })
	f.set("AC1", "a", "web-1 sent")
	f.past("AC1")
	f.set("AC2", "a", "web-1 sent")
	gone.AddHook(vanish{roundTrips{new(atomic.Int64)}, func() {
		f.must(f.rdb.Del(ctx, append(f.keysOf("AC1"), tasks.KeyMeta("AC2"), "AC2", tasks.KeyHosts("AC2"), tasks.KeyAwaiting("AC2"))...).Err())
	}})
	store := tasks.NewStore(gone, tasks.StoreConfig{})
	f.must(store.Expire(ctx, "AC1"))
	got, err := store.Report(ctx, []tasks.Report{answer("AC2", "web-1", 2)})
	if err != nil || got.Failed != nil {
		t.Fatalf("reported %+v, %v", got, err)
	}
	for _, n := range []tasks.Number{"AC1", "AC2"} {
		if keys := f.keysOf(n); len(keys) != 0 {
			t.Errorf("a part of %s is there again: %v", n, keys)
		}
	}
}
