package tasks_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

func TestSetsAndLedgers(t *testing.T) {
	t.Parallel()
	f := open(t)
	var want []tasks.Number
	for i := range 7 {
		n := tasks.Number(fmt.Sprint("AC", i))
		want = append(want, n)
		f.set(n, "ab", fmt.Sprintf("web-%d sent, web-x offline", i))
	}
	if n, err := f.store.CountSets(f.Context()); n != 7 || err != nil {
		t.Errorf("%d sets, %v", n, err)
	}
	var got []tasks.Number
	f.must(f.store.Sets(f.Context(), func(page []tasks.Number) error {
		got = append(got, page...)
		return nil
	}))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("sets %v, want %v", got, want)
	}

	// One that is not there, and one whose key is something else, do not spoil the others.
	f.must(f.rdb.Set(f.Context(), tasks.KeyMeta("AC8"), "no hash", 0).Err())
	ledgers, err := f.store.Ledgers(f.Context(), []tasks.Number{"AC3", "AC7", "AC8", "AC5"})
	f.must(err)
	for i, n := range []tasks.Number{"AC3", "AC7", "AC8", "AC5"} {
		l := ledgers[i]
		if l.Number != n {
			t.Fatalf("ledger %d is that of %s, want %s", i, l.Number, n)
		}
		if there := n == "AC3" || n == "AC5"; there != (l.Stage == tasks.Open) || there != (l.Counts[tasks.Sent] == 1) {
			t.Errorf("%s: %+v", n, l)
		}
	}
	one := f.stage("AC3", tasks.Open)
	if fmt.Sprint(one) != fmt.Sprint(ledgers[0]) || one.Retry != tasks.DefaultRetryAfter || one.Sent.Before(one.Created) {
		t.Errorf("one by one %+v, together %+v", one, ledgers[0])
	}
	if none, err := f.store.Ledgers(f.Context(), nil); len(none) != 0 || err != nil {
		t.Errorf("ledgers of no set: %v, %v", none, err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	f := open(t)
	const n = "AC1"
	f.set(n, "abc", "web-1 sent, web-2 sent, web-3 sent, web-4 offline")
	f.twice(ended(n, "web-1", "a", 0), tasks.Report{Number: n, Host: "web-1", Phase: 2, Working: "b"})
	f.must(f.rdb.HSet(f.Context(), tasks.KeySends(n), "web-3", "3:1795574204355!").Err())
	got, err := f.store.Progress(f.Context(), n, []string{"web-3", "web-1", "nobody", "web-4"})
	f.must(err)
	want := []tasks.Progress{
		{Host: "web-3", State: tasks.Sent, Sends: 3},
		{Host: "web-1", State: tasks.Working, Working: "b", Complete: 1},
		{Host: "nobody"},
		{Host: "web-4", State: tasks.Offline},
	}
	if !slices.Equal(got, want) {
		t.Errorf("progress %+v\nwant %+v", got, want)
	}
	commands, err := f.store.Commands(f.Context(), n)
	if err != nil || !slices.Equal(commands, []tasks.Command{{Line: "a", Priority: 3}, {Line: "b", Priority: 2}, {Line: "c", Priority: 1}}) {
		t.Errorf("commands %v, %v", commands, err)
	}
}

// A send that is counted while the progress is read is not taken for one before the answer.
func TestProgressReadsSendsFirst(t *testing.T) {
	t.Parallel()
	f := open(t)
	rdb := redis.NewClient(&redis.Options{Addr: f.srv.Addr, DisableIdentity: true})
	t.Cleanup(func() { rdb.Close() })
	order := &keysRead{}
	rdb.AddHook(order)
	_, err := tasks.NewStore(rdb, tasks.StoreConfig{}).Progress(t.Context(), "AC1", []string{"web-1"})
	f.must(err)
	sends, states := slices.Index(order.keys, tasks.KeySends("AC1")), slices.Index(order.keys, tasks.KeyHosts("AC1"))
	if sends < 0 || states < sends {
		t.Fatalf("read in the order %q", order.keys)
	}
}

// keysRead are the keys of pipelined commands, in their order.
type keysRead struct {
	roundTrips
	keys []string
}

func (k *keysRead) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (k *keysRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			if args := c.Args(); len(args) > 1 {
				k.keys = append(k.keys, fmt.Sprint(args[1]))
			}
		}
		return next(ctx, cmds)
	}
}

func TestResent(t *testing.T) {
	t.Parallel()
	f := open(t)
	const n = "AC1"
	f.set(n, "a", "web-1 sent")
	for i := range 3000 {
		f.must(f.rdb.HSet(f.Context(), tasks.KeySends(n), fmt.Sprint("web-", i), fmt.Sprintf("%d:1795574204355", 1+i%4)).Err())
	}
	f.must(f.rdb.HSet(f.Context(), tasks.KeySends(n), "x", "nonsense", "y", "999999999:1").Err())
	hosts, all, err := f.store.Resent(f.Context(), n, 1_000_000)
	if err != nil || !all || len(hosts) != tasks.MaxAttempts-1 || !slices.Equal(hosts[:4], []int{2251, 1501, 751, 1}) {
		t.Errorf("resent %v, all: %v, %v", hosts, all, err)
	}
	hosts, all, err = f.store.Resent(f.Context(), n, 1000)
	if err != nil || f.srv.Real && (all || hosts[0] > 2000) {
		t.Errorf("of about 1,000: %v, all: %v, %v", hosts, all, err)
	}
	if hosts, all, err := f.store.Resent(f.Context(), "AC2", 10); len(hosts) != 0 || !all || err != nil {
		t.Errorf("of none: %v, %v, %v", hosts, all, err)
	}
}

func TestResultsAt(t *testing.T) {
	t.Parallel()
	f := on(t, redistest.OpenReal(t)) // the embedded one answers XLEN twice for a key of another type
	const n = "AC1"
	f.set(n, "ab", "web-1 sent, web-2 sent")
	f.report(tasks.Reported{}, ended(n, "web-1", "a", 0), ended(n, "web-2", "a", 3), ended(n, "web-2", "b", 0))
	f.must(f.rdb.Set(f.Context(), tasks.KeyResults("AC2"), "no stream", 0).Err())
	ledgers, counts, err := f.store.LedgersAndResults(f.Context(), []tasks.Number{"AC2", n})
	if err != nil || !slices.Equal(counts, []int64{0, 3}) || ledgers[0].Stage != "" || ledgers[1].Counts[tasks.Failed] != 1 {
		t.Errorf("ledgers %+v, results %v, %v", ledgers, counts, err)
	}
	stored := f.results(n, "")
	got, err := f.store.ResultsAt(f.Context(), n, []string{stored[2].ID, "1-1", stored[0].ID})
	if err != nil || !slices.Equal(got, []tasks.Result{stored[2], {}, stored[0]}) {
		t.Errorf("results %+v, %v", got, err)
	}
}

func TestEventsBefore(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range 5 {
		f.must(tasks.Record(f.Context(), f.rdb, tasks.Event{Type: "test", Reason: fmt.Sprint(i)}))
	}
	var got []string
	for before := ""; ; {
		page, err := tasks.EventsBefore(f.Context(), f.rdb, before, 2)
		f.must(err)
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			got, before = append(got, e.Reason), e.ID
			if time.Since(e.Time) > time.Hour {
				t.Errorf("an event of %v", e.Time)
			}
		}
	}
	if !slices.Equal(got, []string{"4", "3", "2", "1", "0"}) {
		t.Errorf("events %v", got)
	}
}
