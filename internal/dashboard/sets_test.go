package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// The index keeps counts by their place in tasks.States.
func TestStatesHaveTheirPlaces(t *testing.T) {
	t.Parallel()
	places := map[tasks.State]int{
		tasks.Waiting: atWaiting, tasks.Sent: atSent, tasks.Acknowledged: atAcknowledged, tasks.Received: atReceived,
		tasks.Working: atWorking, tasks.Done: atDone, tasks.Failed: atFailed, tasks.Cancelled: atCancelled,
		tasks.Expired: atExpired, tasks.Offline: atOffline, tasks.Missing: atMissing, tasks.Unanswered: atUnanswered,
	}
	if len(places) != stateCount || len(tasks.States()) != stateCount {
		t.Fatalf("%d places, %d states", len(places), len(tasks.States()))
	}
	for i, s := range tasks.States() {
		if places[s] != i {
			t.Errorf("%s is at %d, want %d", s, places[s], i)
		}
	}
	inBar := barOrder()
	slices.Sort(inBar)
	states := tasks.States()
	slices.Sort(states)
	if !slices.Equal(inBar, states) {
		t.Errorf("the bar has %v", inBar)
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		counts map[tasks.State]int64
		total  int64
		words  string
	}{
		{map[tasks.State]int64{tasks.Done: 812, tasks.Failed: 3, tasks.Sent: 185}, 1000, "812 done, 3 failed, 185 sent of 1,000"},
		{map[tasks.State]int64{tasks.Done: 99_999, tasks.Failed: 1}, 100_000, "99,999 done, 1 failed of 100,000"},
		{map[tasks.State]int64{tasks.Done: 3}, 3, "3 done"},
		{nil, 0, "no host"},
	} {
		b := barOf(c.counts, c.total)
		if b.Words != c.words {
			t.Errorf("words %q, want %q", b.Words, c.words)
		}
		x := 0
		for _, p := range b.Parts {
			if p.X != x || p.W < 0 || (p.W > 0) != (c.counts[p.State] > 0) || p.W > 0 && p.W < barLeast {
				t.Errorf("%s: %s at %d, %d wide, after %d", c.words, p.State, p.X, p.W, x)
			}
			x += p.W
		}
		if want := barWidth * int(min(c.total, 1)); x != want {
			t.Errorf("%s: %d wide, want %d", c.words, x, want)
		}
	}
}

func TestSetsByOutcome(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1")
	b.report(ended("AC1", "web-1", "a", 0, ""))
	b.set("AC2", "a", "web-1", "offline-1")
	b.report(ended("AC2", "web-1", "a", 1, ""))
	b.set("AC3", "a", "web-1")
	b.must(b.store.Cancel(b.Context(), "AC3"))
	b.set("AC4", "a", "web-1")
	b.past("AC4")
	b.must(b.store.Expire(b.Context(), "AC4"))
	b.set("AC5", "a", "web-1")
	b.set("AC6", "a")
	b.prepare(tasks.Request{Key: "AC7", Commands: []tasks.Command{{Line: "a", Priority: 1}}, Timeout: time.Minute, Deadline: time.Hour})
	b.index()
	for query, want := range map[string]string{
		"":                "AC7 AC6 AC5 AC4 AC3 AC2 AC1",
		"?show=running":   "AC7 AC5",
		"?show=done":      "AC6 AC1",
		"?show=failed":    "AC2",
		"?show=unreached": "AC2",
		"?show=cancelled": "AC3",
		"?show=expired":   "AC4",
		"?show=nonsense":  "AC7 AC6 AC5 AC4 AC3 AC2 AC1",
		"?q=ac3":          "AC3",
		"?q=C4&show=done": "",
	} {
		got := strings.Fields(strings.Join(column(b.page("/tasks"+query), "c-number"), " "))
		slices.Sort(got) // sets of one millisecond have no order of their own
		wanted := strings.Fields(want)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("/tasks%s shows %v, want %v", query, got, wanted)
		}
	}
	page := b.page("/tasks")
	tags := map[string]string{}
	for _, tr := range all(page, having("tr", "")) {
		if number := column(tr, "c-number"); len(number) > 0 {
			tags[number[0]] = column(tr, "c-outcome")[0]
		}
	}
	want := fmt.Sprint(map[string]string{
		"AC1": "done", "AC2": "failed", "AC3": "cancelled", "AC4": "expired", "AC5": "running", "AC6": "nobody", "AC7": "preparing",
	})
	if fmt.Sprint(tags) != want {
		t.Errorf("outcomes %v, want %s", tags, want)
	}
	if got := text(all(page, having("nav", "filters"))[0]); got != "all 7 running 2 done 2 failed 1 unreached 1 cancelled 1 expired 1" {
		t.Errorf("filters: %s", got)
	}
}

// past moves the deadline of a set into the past.
func (b *bench) past(n tasks.Number) {
	b.Helper()
	b.must(b.rdb.HSet(b.Context(), tasks.KeyMeta(n), "deadline_ms", time.Now().Add(-time.Second).UnixMilli()).Err())
}

// many writes sets as they stand in Redis once they have ended, the one with the highest
// number the newest.
func (b *bench) many(n int) {
	b.Helper()
	for from := 0; from < n; from += 200 {
		_, err := b.rdb.Pipelined(b.Context(), func(p redis.Pipeliner) error {
			for i := from; i < min(from+200, n); i++ {
				number := tasks.Number(fmt.Sprintf("AC%06d", i))
				p.HSet(b.Context(), tasks.KeyMeta(number), "state", "closed", "request", "r", "created_ms", 1_700_000_000_000+i*1000,
					"deadline_ms", 1_700_000_600_000+i*1000, "closed_ms", 1_700_000_001_000+i*1000, "timeout_s", 600, "commands", 1,
					"total", 5, "done", 5-i%2, "failed", i%2)
				p.ZAdd(b.Context(), tasks.KeySets, redis.Z{Score: float64(1_700_000_600_000 + i*1000), Member: string(number)})
			}
			return nil
		})
		b.must(err)
	}
}

func TestManySetsArePaged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 20_000
	b.many(n)
	b.index()
	seen := ""
	for url, pages := "/tasks?show=failed&q=AC0001", 0; url != ""; pages++ {
		page := b.page(url)
		for _, number := range column(page, "c-number") {
			seen += number + " "
		}
		url = ""
		for _, a := range all(page, having("a", "")) {
			if attribute(a, "rel") == "next" {
				url = attribute(a, "href")
			}
		}
	}
	want := ""
	for i := 199; i >= 100; i-- {
		if i%2 == 1 {
			want += fmt.Sprintf("AC%06d ", i)
		}
	}
	if seen != want {
		t.Errorf("by pages: %s\nwant %s", seen, want)
	}
	if got := column(b.page("/tasks?page=400"), "c-number"); len(got) != setsPage || got[setsPage-1] != "AC000000" {
		t.Errorf("the last page ends with %v", got[len(got)-1])
	}
	if got := column(b.page("/tasks?page=99999"), "c-number"); got[len(got)-1] != "AC000000" {
		t.Errorf("a page beyond the last shows %v", got)
	}

	// What is gone from Redis goes from the index.
	b.must(b.rdb.ZRem(b.Context(), tasks.KeySets, "AC019999").Err())
	b.must(b.rdb.Del(b.Context(), tasks.KeyMeta("AC019999")).Err())
	b.index()
	if got := newest(b.srv.sets, 2); !slices.Equal(got, []tasks.Number{"AC019998", "AC019997"}) {
		t.Errorf("the newest are %v", got)
	}
	if l := b.srv.sets.Newest("", 0, 0, 1); l.All != n-1 || l.Of[isFailed] != n/2-1 {
		t.Errorf("%d sets, %d failed", l.All, l.Of[isFailed])
	}
}

// The oldest sets are known by their number only when there are too many.
func TestIndexIsBounded(t *testing.T) {
	t.Parallel()
	x := newSets(nil, newHub(nil, nil), failures{})
	const kept = 10_000
	x.pace.kept = kept
	const n = kept + kept/10
	for from := 0; from < n; from += 500 {
		var ledgers []tasks.Ledger
		for i := from; i < from+500; i++ {
			ledgers = append(ledgers, tasks.Ledger{Number: tasks.Number(fmt.Sprint("AC", i)), Stage: tasks.Closed, Created: time.UnixMilli(int64(i + 1))})
		}
		x.mergeLocked(ledgers)
	}
	if len(x.order) > kept+kept/50 || len(x.known) != n || len(x.order)+x.older != n {
		t.Errorf("%d in the index, %d older, %d known", len(x.order), x.older, len(x.known))
	}
	if got := newest(x, 1); got[0] != tasks.Number(fmt.Sprint("AC", n-1)) {
		t.Errorf("the newest is %v", got)
	}
	x.mergeLocked([]tasks.Ledger{{Number: "AC0", Stage: tasks.Closed, Created: time.UnixMilli(1)}})
	if x.known["AC0"] != nil {
		t.Error("one of the oldest is back in the index")
	}
}

// What an event names is read at the next beat.
func TestEventsAreReadUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1")
	b.set("AC2", "a", "web-1")
	b.srv.happened(tasks.Event{Type: "task.accepted", Key: "AC1"})
	b.srv.happened(tasks.Event{Type: "task.accepted", Key: "AC9"}) // which is not there
	b.srv.happened(tasks.Event{Type: "task.accepted"})
	b.srv.sets.refresh(b.Context(), false)
	if got := newest(b.srv.sets, 9); !slices.Equal(got, []tasks.Number{"AC1"}) {
		t.Errorf("the index has %v", got)
	}
	b.report(ended("AC1", "web-1", "a", 0, ""))
	b.srv.sets.refresh(b.Context(), true)
	if r := b.srv.sets.Running(9); len(r.Sets) != 0 || r.More != 0 || !r.Wait {
		t.Errorf("running: %+v", r)
	}
}

// Sets come into the index by their events, move on, and leave it, while the services run.
func TestIndexFollows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.serve()
	shows := func(what, want string) {
		t.Helper()
		redistest.Eventually(t, what, func() bool {
			r := b.srv.sets.Running(10)
			got := ""
			for _, h := range r.Sets {
				got += string(h.Number) + " " + h.Words() + " "
			}
			return got == want && !r.Wait
		})
	}
	shows("nothing runs", "")
	b.set("AC1", "a", "web-1", "web-2")
	b.must(tasks.Record(b.Context(), b.rdb, tasks.Event{Type: "task.accepted", Key: "AC1"}))
	shows("AC1 runs", "AC1 2 sent ")
	b.report(ended("AC1", "web-1", "a", 0, "")) // of which there is no event
	shows("AC1 moves on", "AC1 1 done, 1 sent of 2 ")
	b.report(ended("AC1", "web-2", "a", 0, ""))
	shows("AC1 has ended", "")
	b.must(b.rdb.FlushAll(b.Context()).Err())
	redistest.Eventually(t, "the index is empty", func() bool { return b.srv.sets.size() == 0 })
}

func BenchmarkIndexOf100000Sets(t *testing.B) {
	x := newSets(nil, newHub(nil, nil), failures{})
	for from := 0; from < 100_000; from += 500 {
		var ledgers []tasks.Ledger
		for i := from; i < from+500; i++ {
			ledgers = append(ledgers, tasks.Ledger{
				Number: tasks.Number(fmt.Sprintf("AC%d-0", 1_763_840_000_000+i)), Stage: tasks.Closed, Created: time.UnixMilli(int64(i + 1)),
				Total: 10, Counts: map[tasks.State]int64{tasks.Done: 9, tasks.Failed: 1},
			})
		}
		x.mergeLocked(ledgers)
	}
	t.ReportAllocs()
	for t.Loop() {
		x.Newest("131", isFailed, 50, 50)
	}
}

// newest are the numbers of the newest n sets.
func newest(x *sets, n int) (numbers []tasks.Number) {
	for _, h := range x.Newest("", 0, 0, n).Sets {
		numbers = append(numbers, h.Number)
	}
	return numbers
}
