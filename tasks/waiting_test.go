package tasks_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/musterhq/muster/tasks"
)

// waits makes a set that waits for hosts.
func (f fixture) waits(n tasks.Number, hosts ...string) {
	f.Helper()
	f.prepare(n, "a")
	f.awaits(n, hosts...)
	_, err := f.store.Open(f.Context(), n)
	f.must(err)
}

func (f fixture) awaits(n tasks.Number, hosts ...string) {
	f.Helper()
	l, err := f.store.Ledger(f.Context(), n)
	f.must(err)
	f.must(f.store.Await(f.Context(), n, l.Deadline, hosts))
	for _, h := range hosts {
		f.enlist(n, h+" waiting")
	}
}

func (f fixture) waitingFor(host string) []string {
	f.Helper()
	var all []string
	f.must(f.store.Awaited(f.Context(), host, func(sets []tasks.Number) error {
		for _, n := range sets {
			all = append(all, string(n))
		}
		return nil
	}))
	slices.Sort(all)
	return slices.Compact(all)
}

func TestWake(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	f.waits("AC1", "web-1", "web-2")
	f.stage("AC1", tasks.Open)
	f.prepare("AC2", "a")
	f.awaits("AC2", "web-1")
	f.waits("AC3", "web-1")
	f.past("AC3")
	f.waits("AC4", "web-1")
	f.must(f.store.Cancel(ctx, "AC4"))
	f.must(f.rdb.SAdd(ctx, tasks.KeyWaiting("web-1"), "AC4", "AC-gone", "AC5").Err())
	f.must(f.rdb.Set(ctx, tasks.KeyMeta("AC5"), "someone else's", 0).Err())
	f.waits("AC6", "web-1")
	f.report(tasks.Reported{}, answer("AC6", "web-1", 1)) // it was told in another way
	if left := f.rdb.PTTL(ctx, tasks.KeyWaiting("web-1")).Val(); left < time.Hour+keep-time.Minute || left > time.Hour+keep {
		t.Fatalf("what waits is kept for %v", left)
	}

	var sets []tasks.Number
	for _, n := range f.waitingFor("web-1") {
		sets = append(sets, tasks.Number(n))
	}
	if len(sets) != 7 {
		t.Fatalf("what waits: %v", sets)
	}
	woken, err := f.store.Wake(ctx, "web-1", sets)
	f.must(err)
	if len(woken) != 1 || woken[0].Number != "AC1" || woken[0].Created.Sub(f.now()).Abs() > time.Minute {
		t.Fatalf("woken %v", woken)
	}
	if left := f.waitingFor("web-1"); !slices.Equal(left, []string{"AC2"}) {
		t.Fatalf("still waiting: %v", left)
	}
	f.state("AC1", "web-1", tasks.Sent)
	f.state("AC1", "web-2", tasks.Waiting)
	f.state("AC2", "web-1", tasks.Waiting)
	f.sound("AC1")
	if again, err := f.store.Wake(ctx, "web-1", sets[:1]); err != nil || len(again) != 0 {
		t.Fatalf("woken twice: %v, %v", again, err)
	}
	// It has a time of its own: the set was opened long ago.
	f.opened("AC1", time.Minute)
	if got, next := f.count("AC1", "web-1"); got != "" || next.Sub(f.now()) < time.Second {
		t.Fatalf("at once: %q, next %v", got, next.Sub(f.now()))
	}
	f.dueIn(tasks.KeyDue, "AC1", tasks.DefaultRetryAfter)
}

// What waits is kept until the last set ends, however they came.
func TestWaitingKeptForTheLast(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	now := f.now()
	for _, c := range []struct{ deadline, want time.Duration }{
		{time.Hour, time.Hour}, {3 * time.Hour, 3 * time.Hour}, {2 * time.Hour, 3 * time.Hour},
	} {
		f.must(f.store.Await(ctx, tasks.Number(fmt.Sprintf("AC%v", c.deadline)), now.Add(c.deadline), []string{"web-1"}))
		if left := f.rdb.PTTL(ctx, tasks.KeyWaiting("web-1")).Val(); left > c.want+keep || left < c.want+keep-time.Minute {
			t.Fatalf("after %v: kept for %v", c.deadline, left)
		}
	}
}

// At the deadline what has not come is expired, and nothing waits any more.
func TestWaitingExpires(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.waits("AC1", "web-1", "web-2")
	f.past("AC1")
	f.must(f.store.Expire(t.Context(), "AC1"))
	f.state("AC1", "web-1", tasks.Expired)
	f.stage("AC1", tasks.Closed)
	if left := f.waitingFor("web-1"); len(left) != 0 {
		t.Fatalf("still waiting: %v", left)
	}
}

// A thousand sets for one host are woken, each once.
func TestWakeMany(t *testing.T) {
	t.Parallel()
	f := open(t)
	var all []tasks.Number
	for i := range 300 {
		n := tasks.Number(fmt.Sprintf("AC%d", i))
		f.waits(n, "web-1")
		all = append(all, n)
	}
	woken, err := f.store.Wake(t.Context(), "web-1", all)
	f.must(err)
	if len(woken) != len(all) || len(f.waitingFor("web-1")) != 0 {
		t.Fatalf("%d woken, %d left", len(woken), len(f.waitingFor("web-1")))
	}
}
