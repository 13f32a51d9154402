package tasks_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// counting returns a store that counts the sets of which it is told that they are closed.
func (f fixture) counting(rdb *redis.Client, told *sync.Map) *tasks.Store {
	return tasks.NewStore(rdb, tasks.StoreConfig{Keep: keep, OnClosed: func(l tasks.Ledger) {
		n, _ := told.LoadOrStore(l.Number, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		if l.Stage != tasks.Closed || l.Closed.IsZero() || l.Open() > 0 {
			f.Errorf("told of the end of %+v", l)
		}
	}})
}

func (f fixture) toldOnce(told *sync.Map, n tasks.Number) {
	f.Helper()
	count, ok := told.Load(n)
	if !ok || count.(*atomic.Int64).Load() != 1 {
		f.Errorf("the end of %s was told: %v", n, count)
	}
}

// Of all stores that end a set at the same time, one is told that it is closed.
func TestEndIsToldOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	var told sync.Map
	const stores = 6
	for i := range 5 {
		n := tasks.Number(fmt.Sprint("AC", i))
		f.set(n, "a", "web-0 sent, web-1 sent, web-2 sent, web-3 sent, web-4 sent, web-5 sent")
		var all sync.WaitGroup
		for s := range stores {
			store := f.counting(f.rdb, &told)
			all.Go(func() {
				if _, err := store.Report(t.Context(), []tasks.Report{ended(n, fmt.Sprint("web-", s), "a", 0)}); err != nil {
					t.Error(err)
				}
				if _, err := store.Open(t.Context(), n); err != nil { // what a job does that is run again
					t.Error(err)
				}
			})
		}
		all.Wait()
		f.toldOnce(&told, n)
	}
}

// What a store closed that tells nobody, as muster cancel has one, is told by one that
// does when it looks after the set.
func TestEndIsToldBySomebodyElse(t *testing.T) {
	t.Parallel()
	f := open(t)
	var told sync.Map
	a, b := f.counting(f.rdb, &told), f.counting(f.rdb, &told)
	f.set("AC1", "a", "web-1 sent")
	f.cancel("AC1", nil)
	f.set("AC2", "a", "web-1 offline") // closed as it is opened
	f.past("AC2")
	if _, ok := told.Load(tasks.Number("AC1")); ok {
		t.Fatal("told by nobody")
	}
	for _, store := range []*tasks.Store{a, b, a} {
		f.must(store.FinishCancel(t.Context(), "AC1"))
		f.must(store.Expire(t.Context(), "AC2"))
	}
	f.toldOnce(&told, "AC1")
	f.toldOnce(&told, "AC2")
	if got := f.types("AC1"); !slices.Equal(got, []string{"task.cancelled", "task.closed"}) {
		t.Errorf("events %q", got)
	}
	f.closedOnce("AC2")
}

// twice has Redis run each pipeline twice, as the client does when an answer is lost.
type twice struct{ roundTrips }

func (twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := next(ctx, cmds); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

// A lost answer of Redis makes of a counted set none that is not.
func TestEndIsToldThoughAnAnswerIsLost(t *testing.T) {
	t.Parallel()
	f := open(t)
	rdb := redis.NewClient(&redis.Options{Addr: f.srv.Addr, DisableIdentity: true})
	t.Cleanup(func() { rdb.Close() })
	rdb.AddHook(twice{roundTrips{new(atomic.Int64)}})
	var told sync.Map
	f.prepare("AC1", "a")
	f.enlist("AC1", "web-1 offline")
	_, err := f.counting(rdb, &told).Open(t.Context(), "AC1")
	f.must(err)
	f.toldOnce(&told, "AC1")
}

// The first answer of each host is told once, whatever it is, with the time since the
// number was first sent to it.
func TestFirstAnswers(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	var delays []time.Duration
	f.store = tasks.NewStore(f.rdb, tasks.StoreConfig{Keep: keep, OnAnswer: func(d time.Duration) { delays = append(delays, d) }})
	f.set("AC1", "ab", "acked sent, received sent, worked sent, done sent, missing sent, asked sent, late sent, off offline, silent sent, woken waiting")
	const ago = time.Hour
	f.must(f.rdb.HIncrBy(ctx, tasks.KeyMeta("AC1"), "sent_ms", -ago.Milliseconds()).Err())
	first := func(want int, reports ...tasks.Report) {
		t.Helper()
		for range 2 { // the second time it says nothing new
			delays = nil
			if _, err := f.store.Report(ctx, reports); err != nil {
				t.Fatal(err)
			}
			if len(delays) != want {
				t.Fatalf("told %v, want %d", delays, want)
			}
			for _, d := range delays {
				if d < ago {
					t.Fatalf("sent %v ago, told %v", ago, d)
				}
			}
			want = 0
		}
	}
	first(1, answer("AC1", "acked", 1))
	first(0, lists("AC1", "acked", 1, "", "", "ab"), answer("AC1", "stranger", 1), answer("AC2", "acked", 1))
	first(3, lists("AC1", "received", 1, "", "", "ab"), lists("AC1", "worked", 2, "a", "", "ab"), lists("AC1", "done", 3, "", "ab", ""))
	first(1, answer("AC1", "missing", 2))
	first(0, answer("AC1", "asked", 3)) // it has not read it yet
	first(1, answer("AC1", "asked", 1), answer("AC1", "missing", 1))
	f.must(f.rdb.HSet(ctx, tasks.KeyMeta("AC1"), "attempts", 1).Err())
	f.must(f.store.GiveUp(ctx, "AC1", []string{"late"}))
	f.state("AC1", "late", tasks.Unanswered)
	first(2, answer("AC1", "late", 1), answer("AC1", "off", 1))

	// Who was waited for was sent the number when it came online, and not before.
	woken, err := f.store.Wake(ctx, "woken", []tasks.Number{"AC1"})
	if err != nil || len(woken) != 1 {
		t.Fatalf("%v, %v", woken, err)
	}
	f.must(f.rdb.HSet(ctx, tasks.KeyMeta("AC1"), "attempts", 5).Err())
	delays = nil
	f.report(tasks.Reported{Again: []tasks.Number{"AC1"}}, answer("AC1", "woken", 3))
	again, err := f.store.CountSends(ctx, "AC1", []string{"woken"})
	if err != nil || !slices.Equal(again.Asked, []string{"woken"}) {
		t.Fatalf("%+v, %v", again, err)
	}
	f.report(tasks.Reported{}, answer("AC1", "woken", 1))
	if len(delays) != 1 || delays[0] < 0 || delays[0] >= ago {
		t.Fatalf("told %v of a host that was woken just now", delays)
	}
}
