package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// set writes an open set with one host, as a worker would.
func (f *fixture) set(n tasks.Number, deadline time.Duration) {
	f.Helper()
	ctx := f.Context()
	r, err := tasks.Request{Key: n, Commands: []tasks.Command{{Line: "a", Priority: 1}}, Deadline: deadline}.Validate()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := f.store.Prepare(ctx, "r-"+string(n), r); err != nil {
		f.Fatal(err)
	}
	if _, err := f.store.Enlist(ctx, n, []tasks.Enlisted{{Host: "web-1", State: tasks.Sent}}); err != nil {
		f.Fatal(err)
	}
	if _, err := f.store.Open(ctx, n); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) closed(n tasks.Number) {
	f.Helper()
	redistest.Eventually(f, string(n)+" is closed", func() bool { return f.ledger(n).Stage == tasks.Closed })
	if l := f.ledger(n); counts(l) != "expired:1" {
		f.Errorf("ledger of %s: %+v", n, l)
	}
	f.sound(n)
}

func (f *fixture) deadlines() *deadlines {
	return &deadlines{rdb: f.rdb, store: f.store, keep: tasks.DefaultKeep, log: f.log, away: watchRedis(f.log).Part("deadlines")}
}

// Who has not answered is expired at the deadline, and the set is closed.
func TestDeadline(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h := listen(t)
	f.online("web-1", "agent i1", h.addr)
	f.start(Config{})
	id := f.add("key", "AC1", "commands", `{"uptime": 1}`, "deadline_s", "1")
	later := f.add("key", "AC2", "commands", `{"uptime": 1}`, "deadline_s", "600")
	f.event("task.sent", id)
	f.event("task.sent", later)
	f.closed("AC1")
	if e := f.event("task.closed", id); e.Counts[tasks.Expired] != 1 || *e.Total != 1 {
		t.Errorf("closed %+v", e)
	}
	if l := f.ledger("AC1"); l.Closed.Before(l.Deadline) {
		t.Errorf("closed at %v, deadline %v", l.Closed, l.Deadline)
	}
	if l := f.ledger("AC2"); l.Stage != tasks.Open {
		t.Errorf("a later one: %+v", l)
	}
	redistest.Eventually(t, "one line about it", func() bool {
		n := 0
		for _, e := range f.logs.AllEntries() {
			if e.Level == logrus.InfoLevel && e.Data["task"] == "AC1" && e.Data["expired"] == int64(1) {
				n++
			}
		}
		return n == 1
	})
}

// A deadline that passed while no worker was there is kept by the next one, also for
// a set whose worker died while it prepared it.
func TestDeadlineBeforeTheWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.set("AC1", time.Second)
	r, _ := tasks.Request{Key: "AC2", Commands: []tasks.Command{{Line: "a", Priority: 1}}, Deadline: time.Second}.Validate()
	p, err := f.store.Prepare(t.Context(), "r2", r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Enlist(t.Context(), "AC2", []tasks.Enlisted{{Host: "web-1", State: tasks.Sent}}); err != nil {
		t.Fatal(err)
	}
	f.rdb.Set(t.Context(), "AC3", "not a set", 0)
	f.rdb.Set(t.Context(), tasks.KeyMeta("AC3"), "not a set", 0)
	f.rdb.ZAdd(t.Context(), tasks.KeySets, redis.Z{Score: 1, Member: "AC3"}) // must not keep the others
	redistest.Eventually(t, "the deadlines pass", func() bool {
		return f.rdb.Time(t.Context()).Val().After(p.Deadline)
	})
	f.start(Config{})
	f.closed("AC1")
	f.closed("AC2")
}

// A set that comes into the list late is found; one that is closed is not looked at
// each second; those that are gone are struck.
func TestDeadlineRounds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	e := f.deadlines()
	if err := e.round(ctx); err != nil {
		t.Fatal(err)
	}
	f.set("AC1", time.Second)
	entered := f.rdb.ZScore(ctx, tasks.KeySets, "AC1").Val()
	f.rdb.ZRem(ctx, tasks.KeySets, "AC1")
	redistest.Eventually(t, "a second passes", func() bool {
		return f.rdb.Time(ctx).Val().UnixMilli() > int64(entered)+1
	})
	if err := e.round(ctx); err != nil {
		t.Fatal(err)
	}
	if l := f.ledger("AC1"); l.Stage != tasks.Open {
		t.Fatalf("ledger %+v", l)
	}
	f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: entered, Member: "AC1"})
	if err := e.round(ctx); err != nil {
		t.Fatal(err)
	}
	f.closed("AC1")
	if !e.finished["AC1"] {
		t.Error("it is not known to be finished")
	}

	// Gone before this worker came, and gone under its eyes.
	f.rdb.Del(ctx, tasks.KeyMeta("AC1"))
	f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: 1, Member: "ACgone"})
	e = f.deadlines()
	if err := e.round(ctx); err != nil {
		t.Fatal(err)
	}
	if left := f.rdb.ZRange(ctx, tasks.KeySets, 0, -1).Val(); len(left) != 0 {
		t.Errorf("left in the list: %q", left)
	}
	f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: 1, Member: "ACgone2"})
	if err := e.round(ctx); err != nil {
		t.Fatal(err)
	}
	if n := f.rdb.ZCard(ctx, tasks.KeySets).Val(); n != 1 {
		t.Error("all sets are looked at each round")
	}
	e.struck = e.struck.Add(-strikeMost)
	if err := e.round(ctx); err != nil {
		t.Fatal(err)
	}
	if n := f.rdb.ZCard(ctx, tasks.KeySets).Val(); n != 0 {
		t.Error("a set that is gone stays in the list")
	}
}

// More sets than a page holds, many with the same deadline.
func TestSweepInPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	var members []redis.Z
	for i := range 3*tasks.Chunk + 7 {
		members = append(members, redis.Z{Score: float64(1 + i/400), Member: fmt.Sprintf("AC%d", i)})
	}
	f.rdb.ZAdd(ctx, tasks.KeySets, members...)
	seen := map[tasks.Number]bool{}
	e := f.deadlines()
	err := e.sweep(ctx, time.UnixMilli(0), time.UnixMilli(100), func(n tasks.Number) error {
		seen[n] = true
		return nil
	})
	if err != nil || len(seen) != len(members) {
		t.Errorf("%d of %d sets, %v", len(seen), len(members), err)
	}
	if err := e.round(ctx); err != nil {
		t.Fatal(err)
	}
	if n := f.rdb.ZCard(ctx, tasks.KeySets).Val(); n != 0 {
		t.Errorf("%d sets without keys are left", n)
	}
	// Some pages of them in one millisecond, and what is visited is struck at once.
	for i := range members {
		members[i].Score = 5
	}
	for _, count := range []int{tasks.Chunk, 1100} {
		f.rdb.ZAdd(ctx, tasks.KeySets, members[:count]...)
		f.rdb.ZAdd(ctx, tasks.KeySets, redis.Z{Score: 4, Member: "ACfirst"}, redis.Z{Score: 6, Member: "AClast"})
		visits := map[tasks.Number]int{}
		err := e.sweep(ctx, time.UnixMilli(0), time.UnixMilli(100), func(n tasks.Number) error {
			visits[n]++
			return f.rdb.ZRem(ctx, tasks.KeySets, string(n)).Err()
		})
		if left := f.rdb.ZCard(ctx, tasks.KeySets).Val(); err != nil || left != 0 || len(visits) != count+2 {
			t.Errorf("%d of %d sets of one deadline are visited, %d left, %v", len(visits), count+2, left, err)
		}
	}
}
