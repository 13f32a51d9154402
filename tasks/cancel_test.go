package tasks_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/musterhq/muster/tasks"
)

func (f fixture) cancel(n tasks.Number, want error) {
	f.Helper()
	if err := f.store.Cancel(f.Context(), n); !errors.Is(err, want) {
		f.Fatalf("cancel %s: %v, want %v", n, err, want)
	}
}

func (f fixture) types(n tasks.Number) []string {
	f.Helper()
	var types []string
	for _, e := range f.events(n) {
		types = append(types, e.Type)
	}
	return types
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.prepare(n, "ab")
	f.awaits(n, "waiting")
	f.enlist(n, "sent sent, acked sent, received sent, working sent, done sent, failed sent, missing sent, offline offline")
	_, err := f.store.Open(t.Context(), n)
	f.must(err)
	f.report(tasks.Reported{}, answer(n, "acked", 1), lists(n, "received", 1, "", "", "ab"), lists(n, "working", 2, "a", "", "ab"),
		lists(n, "done", 3, "", "ab", ""), ended(n, "failed", "a", 1), ended(n, "failed", "b", 0), answer(n, "missing", 2))
	f.cancel(n, nil)
	f.sound(n)
	for host, want := range map[string]tasks.State{
		"waiting": tasks.Cancelled, "sent": tasks.Cancelled, "acked": tasks.Cancelled, "received": tasks.Cancelled, "working": tasks.Cancelled,
		"done": tasks.Done, "failed": tasks.Failed, "missing": tasks.Missing, "offline": tasks.Offline,
	} {
		f.state(n, host, want)
	}
	if l := f.stage(n, tasks.Closed); l.Cancelled.IsZero() || l.Closed.IsZero() {
		t.Fatalf("%+v", l)
	}
	if got := f.types(n); !slices.Equal(got, []string{"task.cancelled", "task.closed"}) {
		t.Fatalf("events %q", got)
	}
	if left := f.waitingFor("waiting"); len(left) != 0 {
		t.Fatalf("still waiting: %v", left)
	}
	f.claim(tasks.NewAgenda(f.rdb, tasks.KeyDue), string(n)) // for workers to tell agents
	before := f.dump(n)
	f.cancel(n, nil)
	f.must(f.store.FinishCancel(t.Context(), n))
	f.same(n, before)
	if got := f.types(n); len(got) != 2 {
		t.Fatalf("events %q", got)
	}

	// Nothing opens again; what is true all the same is told.
	f.report(tasks.Reported{}, answer(n, "missing", 1), lists(n, "offline", 3, "", "ab", ""), lists(n, "working", 3, "", "a", "b"))
	f.state(n, "missing", tasks.Cancelled)
	f.state(n, "offline", tasks.Done)
	f.state(n, "working", tasks.Cancelled)
	f.listsAre(n, "working", "a", "b")
	sets, err := f.store.Find(t.Context(), []tasks.Lookup{{Number: n, Host: "sent"}, {Number: n, Host: "missing"}, {Number: n, Host: "nobody"}})
	f.must(err)
	if sets[0].Found || !sets[0].Cancelled || sets[1].Found || !sets[1].Cancelled || sets[2].Found || sets[2].Cancelled {
		t.Fatalf("found %+v", sets)
	}
	if got, _ := f.count(n, "sent"); got != "" {
		t.Fatalf("sent again: %s", got)
	}
}

// A set can't be cancelled that is not there, or has ended.
func TestCancelTooLate(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.cancel("AC1", tasks.ErrNotFound)
	if len(f.keysOf("AC1")) != 0 {
		t.Fatal("something was written")
	}
	f.set("AC2", "a", "web-1 sent, web-2 offline")
	f.report(tasks.Reported{}, lists("AC2", "web-1", 3, "", "a", ""))
	f.stage("AC2", tasks.Closed)
	before := f.dump("AC2")
	f.cancel("AC2", tasks.ErrClosed)
	f.same("AC2", before)
	f.report(tasks.Reported{}, answer("AC2", "web-2", 1)) // it is at it after all
	f.cancel("AC2", nil)
	f.state("AC2", "web-2", tasks.Cancelled)

	f.set("AC3", "a", "web-1 sent")
	f.past("AC3")
	f.cancel("AC3", tasks.ErrClosed)
	f.state("AC3", "web-1", tasks.Sent)
}

// A set that is being prepared is cancelled too: no host more comes into it.
func TestCancelWhilePrepared(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.prepare(n, "a")
	f.enlist(n, "web-1 sent")
	f.cancel(n, nil)
	ok, err := f.store.Enlist(t.Context(), n, []tasks.Enlisted{{Host: "web-2", State: tasks.Sent}})
	f.must(err)
	if ok {
		t.Fatal("a host came into a cancelled set")
	}
	opened, err := f.store.Open(t.Context(), n)
	f.must(err)
	if opened {
		t.Fatal("it was opened")
	}
	f.state(n, "web-1", tasks.Cancelled)
	f.stage(n, tasks.Closed)
	f.sound(n)
}

// A cancellation whose process died right after its mark is finished by another.
func TestCancelIsFinished(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "a", "web-1 sent, web-2 sent")
	f.must(f.rdb.HSet(t.Context(), tasks.KeyMeta(n), "cancelled_ms", f.now().UnixMilli()).Err())
	f.report(tasks.Reported{}, answer(n, "web-2", 1))
	f.state(n, "web-2", tasks.Cancelled)
	f.must(f.store.FinishCancel(t.Context(), n))
	f.state(n, "web-1", tasks.Cancelled)
	f.stage(n, tasks.Closed)
	f.must(f.store.FinishCancel(t.Context(), n))
	f.sound(n)
	f.closedOnce(n)
	f.set("AC2", "a", "web-1 sent")
	f.must(f.store.FinishCancel(t.Context(), "AC2")) // it was not cancelled
	f.state("AC2", "web-1", tasks.Sent)
}
