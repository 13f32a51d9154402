package tasks_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// A set is closed once, however many report its end at once.
func TestClosingOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.prepare(n, "a")
	var hosts []tasks.Enlisted
	var reports []tasks.Report
	for i := range 400 {
		hosts = append(hosts, tasks.Enlisted{Host: fmt.Sprint("host-", i), State: tasks.Sent})
		reports = append(reports, ended(n, hosts[i].Host, "a", 0))
	}
	_, err := f.store.Enlist(t.Context(), n, hosts)
	f.must(err)
	_, err = f.store.Open(t.Context(), n)
	f.must(err)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			if _, err := f.store.Report(t.Context(), reports[i*50:(i+1)*50]); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	f.sound(n)
	if l := f.stage(n, tasks.Closed); l.Counts[tasks.Done] != 400 {
		t.Fatalf("ledger %+v", l)
	}
	f.closedOnce(n)
	// Hundreds of late ones in one call, of which each finds the set closed.
	f.must(f.rdb.Del(t.Context(), tasks.KeyEvents).Err())
	f.must(f.rdb.HDel(t.Context(), tasks.KeyMeta(n), "announced").Err())
	_, err = f.store.Report(t.Context(), reports)
	f.must(err)
	f.closedOnce(n)
}

// A thousand commands, lists of thousands of strangers, and batches over every limit.
func TestLargeReports(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := request("AC1")
	var all []string
	for i := range tasks.MaxCommands {
		all = append(all, fmt.Sprintf("command %d", i))
		r.Commands = append(r.Commands, tasks.Command{Line: all[i], Priority: float64(-i)})
	}
	_, err := f.store.Prepare(t.Context(), "one", r)
	f.must(err)
	f.enlist("AC1", "web-1 sent, web-2 sent")
	_, err = f.store.Open(t.Context(), "AC1")
	f.must(err)
	f.report(tasks.Reported{}, tasks.Report{Number: "AC1", Host: "web-1", Phase: 1, Lists: true, OnCall: all})
	f.report(tasks.Reported{}, tasks.Report{Number: "AC1", Host: "web-1", Phase: 3, Lists: true, Complete: all})
	f.state("AC1", "web-1", tasks.Done)

	strange := make([]string, 50_000)
	for i := range strange {
		strange[i] = fmt.Sprint(i)
	}
	f.report(tasks.Reported{PassedOver: len(strange)}, tasks.Report{Number: "AC1", Host: "web-2", Phase: 1, Lists: true, OnCall: strange})

	// 250 reports of one host, in order and over several calls: only in their order do
	// they end in b running.
	f.set("AC2", "ab", "web-1 sent, web-2 sent")
	var reports []tasks.Report
	for range 125 {
		reports = append(reports, tasks.Report{Number: "AC2", Host: "web-1", Phase: 2, Working: "a"}, answer("AC2", "web-1", 1))
	}
	reports = append(reports, ended("AC2", "web-1", "a", 0), tasks.Report{Number: "AC2", Host: "web-1", Phase: 2, Working: "b"})
	big := ended("AC2", "web-2", "a", 0)
	big.Result.Stdout = strings.Repeat("x", 300<<10)
	reports = append([]tasks.Report{big}, reports...)
	f.report(tasks.Reported{}, reports...)
	f.hashIs(tasks.KeyWorking("AC2"), "web-1", "b")
	f.listsAre("AC2", "web-1", "a", "")
	if got := f.results("AC2", "web-2"); len(got) != 1 || len(got[0].Stdout) != 300<<10 {
		t.Fatalf("%d results", len(got))
	}
}

// Someone made a list of one host something else: its report is refused, and no other.
func TestDamagedListRefusesOneHost(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "a", "web-1 sent, web-2 sent, web-3 sent")
	f.set("AC2", "a", "web-1 sent")
	f.must(f.rdb.Set(t.Context(), tasks.KeyCompleteOf(n, "web-2"), "no list", 0).Err())
	got, err := f.store.Report(t.Context(), []tasks.Report{
		ended(n, "web-1", "a", 0), ended(n, "web-2", "a", 0), ended(n, "web-3", "a", 1), ended("AC2", "web-1", "a", 0),
	})
	f.must(err)
	if got.Failed == nil || !strings.Contains(got.Failed.Error(), "web-2 on AC1") || strings.Contains(got.Failed.Error(), "web-3") {
		t.Fatalf("reported %+v", got)
	}
	f.state(n, "web-1", tasks.Done)
	f.state(n, "web-2", tasks.Sent)
	f.state(n, "web-3", tasks.Failed)
	f.sound("AC2")
	f.closedOnce("AC2")
	if len(f.results(n, "web-1")) != 1 || len(f.results(n, "web-3")) != 1 {
		t.Fatal("a result is stored twice or not at all")
	}
}

// roundTrips counts what a client sends.
type roundTrips struct{ n *atomic.Int64 }

func (r roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.n.Add(1)
		return next(ctx, cmd)
	}
}

func (r roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.n.Add(1)
		return next(ctx, cmds)
	}
}

// A batch costs one round trip, whatever it holds, and so do late reports on a set
// that is closed; the end of a set is announced in some more, once.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.set("AC1", "a", "web-1 sent")
	f.set("AC2", "a", "web-1 sent, web-2 sent")
	var sent atomic.Int64
	f.rdb.AddHook(roundTrips{&sent})
	report := func(reports ...tasks.Report) (tasks.Reported, int64) {
		sent.Store(0)
		got, err := f.store.Report(t.Context(), reports)
		f.must(err)
		return got, sent.Load()
	}
	var many []tasks.Report
	for range 300 {
		many = append(many, answer("AC1", "web-1", 1), lists("AC2", "web-1", 1, "", "", "a"), answer("AC3", "web-1", 1))
	}
	report(many[:3]...) // loads the script
	if _, n := report(many...); n != 1 {
		t.Errorf("%d reports of three sets took %d round trips", len(many), n)
	}
	if _, n := report(ended("AC1", "web-1", "a", 0)); n < 2 {
		t.Errorf("the end of a set was announced in %d round trips", n)
	}
	f.closedOnce("AC1")
	got, n := report(ended("AC1", "web-1", "a", 0), answer("AC1", "web-9", 1))
	if n != 1 || got.Strangers != 1 {
		t.Errorf("late reports took %d round trips: %+v", n, got)
	}
}
