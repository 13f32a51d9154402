package tasks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/tasks"
)

// opened moves the opening of a set into the past, so that no test waits.
func (f fixture) opened(n tasks.Number, ago time.Duration) {
	f.Helper()
	f.must(f.rdb.HSet(f.Context(), tasks.KeyMeta(n), "sent_ms", f.now().Add(-ago).UnixMilli()).Err())
}

// count counts sends and gives what came out: "send: a b, spent: c".
func (f fixture) count(n tasks.Number, hosts ...string) (string, time.Time) {
	f.Helper()
	a, err := f.store.CountSends(f.Context(), n, hosts)
	f.must(err)
	f.sound(n)
	var parts []string
	for name, list := range map[string][]string{"send": a.Send, "asked": a.Asked, "spent": a.Spent} {
		if len(list) > 0 {
			parts = append(parts, name+": "+strings.Join(list, " "))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", "), a.Next
}

// The times of the sends of one host: 0, 3, 9, 21 and 45 s, spent at 93 s.
func TestSendTimes(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "a", "web-1 sent")
	elapsed := time.Duration(0)
	opened := f.now()
	for _, c := range []struct {
		at   time.Duration
		want string
		next time.Duration
	}{
		{time.Second, "", 3 * time.Second},
		{3 * time.Second, "send: web-1", 9 * time.Second},
		{6 * time.Second, "", 9 * time.Second},
		{9 * time.Second, "send: web-1", 21 * time.Second},
		{21 * time.Second, "send: web-1", 45 * time.Second},
		{40 * time.Second, "", 45 * time.Second},
		{45 * time.Second, "send: web-1", 93 * time.Second},
		{88 * time.Second, "", 93 * time.Second},
		{93 * time.Second, "spent: web-1", 0},
	} {
		f.pass(n, c.at-elapsed, "web-1")
		opened, elapsed = opened.Add(elapsed-c.at), c.at
		got, next := f.count(n, "web-1")
		if got != c.want {
			t.Fatalf("at %v: %q, want %q", c.at, got, c.want)
		}
		if c.next == 0 != next.IsZero() || c.next != 0 && next.Sub(opened.Add(c.next)).Abs() > 2500*time.Millisecond {
			t.Fatalf("at %v: next at %v, want %v", c.at, next.Sub(opened), c.next)
		}
	}
	f.state(n, "web-1", tasks.Sent) // it is still to be recorded
	f.must(f.store.GiveUp(t.Context(), n, []string{"web-1"}))
	f.state(n, "web-1", tasks.Unanswered)
	f.sound(n)
	f.stage(n, tasks.Closed)
	f.closedOnce(n)
	f.must(f.store.GiveUp(t.Context(), n, []string{"web-1"}))
	f.closedOnce(n)
	f.report(tasks.Reported{}, answer(n, "web-1", 1))
	f.state(n, "web-1", tasks.Acknowledged) // heard of after all
}

// pass lets time pass for a set: all that is in the past moves further back.
func (f fixture) pass(n tasks.Number, d time.Duration, hosts ...string) {
	f.Helper()
	ctx := f.Context()
	sent, err := f.rdb.HGet(ctx, tasks.KeyMeta(n), "sent_ms").Int64()
	f.must(err)
	f.must(f.rdb.HSet(ctx, tasks.KeyMeta(n), "sent_ms", sent-d.Milliseconds()).Err())
	for _, h := range hosts {
		var sends, due int64
		var mark string
		text := f.rdb.HGet(ctx, tasks.KeySends(n), h).Val()
		if m, _ := fmt.Sscanf(text, "%d:%d%s", &sends, &due, &mark); m < 2 {
			continue
		}
		f.must(f.rdb.HSet(ctx, tasks.KeySends(n), h, fmt.Sprintf("%d:%d%s", sends, due-d.Milliseconds(), mark)).Err())
	}
}

// Only hosts in state sent are told again, of a set that is open, before its deadline.
func TestSendsOnlyToWhoHasNotAnswered(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "ab", "sent sent, acked sent, missing sent, offline offline, waiting waiting, received sent, done sent")
	f.report(tasks.Reported{}, answer(n, "acked", 1), answer(n, "missing", 2),
		lists(n, "received", 1, "", "", "ab"), lists(n, "done", 3, "", "ab", ""))
	f.opened(n, time.Hour)
	all := []string{"sent", "acked", "missing", "offline", "waiting", "received", "done", "stranger"}
	if got, _ := f.count(n, all...); got != "send: sent" {
		t.Fatal(got)
	}
	f.must(f.store.GiveUp(t.Context(), n, all)) // none has used up its sends
	f.state(n, "sent", tasks.Sent)

	f.prepare("AC2", "a")
	f.enlist("AC2", "web-1 sent")
	if got, _ := f.count("AC2", "web-1"); got != "" {
		t.Fatalf("of a set that is being prepared: %s", got)
	}
	f.set("AC3", "a", "web-1 sent")
	f.opened("AC3", time.Hour)
	f.past("AC3")
	a, err := f.store.CountSends(t.Context(), "AC3", []string{"web-1"})
	f.must(err)
	if len(a.Send)+len(a.Spent) > 0 {
		t.Fatalf("after the deadline: %+v", a)
	}
	a, err = f.store.CountSends(t.Context(), "AC-none", []string{"web-1"})
	f.must(err)
	if len(a.Send)+len(a.Spent) > 0 || len(f.keysOf("AC-none")) > 0 {
		t.Fatalf("of no set: %+v", a)
	}
}

// After a long break what was missed is not made up for all at once.
func TestSendsAfterABreak(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "a", "web-1 sent")
	f.opened(n, 30*time.Minute)
	if got, next := f.count(n, "web-1"); got != "send: web-1" || next.Sub(f.now()) < 5*time.Second {
		t.Fatalf("%s, next %v", got, next.Sub(f.now()))
	}
	if got, _ := f.count(n, "web-1"); got != "" {
		t.Fatalf("at once again: %s", got)
	}
}

// RCC 3 has a host sent to at once, and counts as a send. With all sends used up it
// changes nothing.
func TestAsksAgain(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "a", "web-1 sent, web-2 sent")
	ask := func(want int, host string) {
		t.Helper()
		got, err := f.store.Report(t.Context(), []tasks.Report{answer(n, host, 3), answer(n, host, 3)})
		f.must(err)
		if len(got.Again) != want || want > 0 && got.Again[0] != n {
			t.Fatalf("again %v, want %d", got.Again, want)
		}
		f.sound(n)
	}
	for i := 2; i <= tasks.DefaultAttempts; i++ {
		ask(1, "web-1")
		got, next := f.count(n, "web-1", "web-2")
		if got != "asked: web-1" {
			t.Fatalf("send %d: %q", i, got)
		}
		if i == tasks.DefaultAttempts && next.Sub(f.now()) > 3*time.Second {
			t.Fatalf("web-2 is due in %v", next.Sub(f.now()))
		}
		if got, _ := f.count(n, "web-1"); got != "" {
			t.Fatalf("send %d, once more: %q", i, got)
		}
	}
	ask(1, "web-1")
	if got, _ := f.count(n, "web-1"); got != "" {
		t.Fatalf("with all used up: %q", got)
	}
	f.state(n, "web-1", tasks.Sent)
	f.pass(n, 30*time.Second, "web-1")
	if got, _ := f.count(n, "web-1"); got != "" {
		t.Fatalf("30 s after the last: %q", got)
	}
	f.pass(n, 19*time.Second, "web-1")
	if got, _ := f.count(n, "web-1"); got != "spent: web-1" {
		t.Fatalf("49 s after the last: %q", got)
	}
	f.report(tasks.Reported{}, answer(n, "web-2", 1))
	ask(0, "web-2") // it has answered
	if got, _ := f.count(n, "web-2"); got != "" {
		t.Fatalf("after its answer: %q", got)
	}
}

// A reminder makes a set due at once.
func TestRemind(t *testing.T) {
	t.Parallel()
	f := open(t)
	a := tasks.NewAgenda(f.rdb, tasks.KeyDue)
	f.set("AC1", "a", "web-1 sent")
	f.claim(a)
	f.dueIn(tasks.KeyDue, "AC1", tasks.DefaultRetryAfter)
	f.must(f.store.Remind(t.Context(), "AC1"))
	f.claim(a, "AC1")
	f.must(f.store.Remind(t.Context()))
}

// The settings of the worker that opens a set are the set's.
func TestSendSettings(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.store = tasks.NewStore(f.rdb, tasks.StoreConfig{Keep: keep, RetryAfter: time.Minute, Attempts: 1})
	n := tasks.Number("AC1")
	f.set(n, "a", "web-1 sent")
	f.opened(n, 59*time.Second)
	if got, _ := f.count(n, "web-1"); got != "" {
		t.Fatalf("after 59 s: %q", got)
	}
	f.opened(n, time.Minute)
	if got, _ := f.count(n, "web-1"); got != "spent: web-1" {
		t.Fatalf("after a minute: %q", got)
	}
}
