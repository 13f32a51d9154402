package dashboard

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/tasks"
)

// watch is the watch over sets by hand, with a browser that follows topics.
func (b *bench) watch(topics ...string) *looksWatch {
	b.Helper()
	visit(b.T, b.srv.hub, topics...)
	return b.srv.newLooksWatch()
}

// touched are the topics that were touched since the last time.
func (b *bench) touched() (names []string) {
	b.srv.hub.mu.Lock()
	defer b.srv.hub.mu.Unlock()
	for name, t := range b.srv.hub.topics {
		if t.touched {
			names = append(names, name)
		}
		t.touched = false
	}
	slices.Sort(names)
	return names
}

// The page of one host reads on until all results of a large set that has ended are in,
// with nobody but itself.
func TestResultsAreReadOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1")
	b.report(ended("AC1", "web-1", "a", 0, "out"))
	l, err := b.store.Ledger(b.Context(), "AC1")
	b.must(err)
	b.must(b.srv.looks.at(l, func(k *look) error { return nil })) // none of its results is read
	w := b.watch("results:AC1")
	for range 3 {
		w.beat(b.Context())
		if got := b.touched(); !slices.Equal(got, []string{"results:AC1"}) {
			t.Fatalf("while there is more to read: %v", got)
		}
	}
	page := b.get("/tasks/AC1/hosts/web-1", "")
	if body := page.Body.String(); !strings.Contains(body, `data-live="redis results:AC1" data-stamp="`) || !strings.Contains(body, `data-region="results"`) {
		t.Errorf("the page follows something else: %s", body)
	}
	if w := b.get("/tasks/AC1/hosts/web-1", "results"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "out") {
		t.Errorf("region: %d %s", w.Code, w.Body)
	}
	w.beat(b.Context()) // sees that all is in
	b.touched()
	w.beat(b.Context())
	if got := b.touched(); got != nil {
		t.Errorf("all is read: %v", got)
	}
}

// Sets that have ended are looked at now and then only, and however many are followed,
// each has its turn.
func TestWatchIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1")
	b.report(ended("AC1", "web-1", "a", 0, ""))
	w := b.watch("ledger:AC1")
	w.beat(b.Context())
	if got := b.touched(); !slices.Equal(got, []string{"ledger:AC1"}) {
		t.Errorf("at first: %v", got)
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("a set that has ended is looked at again at once: %v", due)
	}
	was := w.last["AC1"]
	was.looked = was.looked.Add(-openBeat)
	w.last["AC1"] = was
	w.beat(b.Context())
	if got := b.touched(); got != nil {
		t.Errorf("nothing has happened: %v", got)
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("nor is it while nothing moves: %v", due)
	}

	const n = looksBatch*2 + 50
	for i := range n {
		visit(t, b.srv.hub, fmt.Sprintf("ledger:ACx%d", i))
	}
	seen := map[tasks.Number]bool{}
	for range 3 {
		due := w.due()
		if len(due) > looksBatch {
			t.Errorf("%d sets in one beat", len(due))
		}
		for _, number := range due {
			seen[number] = true
			w.last[number] = watched{looked: time.Now()}
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d sets had their turn", len(seen), n)
	}
}

// A set that has gone is told of once, and its head says so; one that nobody has made is
// nothing.
func TestGoneSet(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1")
	w := b.watch("ledger:AC1", "ledger:AC9")
	w.beat(b.Context())
	if got := b.touched(); !slices.Equal(got, []string{"ledger:AC1"}) {
		t.Errorf("at first: %v", got)
	}
	b.must(b.rdb.Del(b.Context(), tasks.KeyMeta("AC1")).Err())
	for _, want := range [][]string{{"ledger:AC1"}, nil} {
		w.beat(b.Context())
		if got := b.touched(); !slices.Equal(got, want) {
			t.Errorf("it has gone: %v, want %v", got, want)
		}
	}
	if due := w.due(); len(due) != 0 {
		t.Errorf("what is not there is looked at again at once: %v", due)
	}
	for _, n := range []string{"AC1", "AC9"} {
		region, err := b.srv.ledgerRegion(b.Context(), n)
		if err != nil || !strings.Contains(region, "no longer in Redis") || !strings.Contains(region, n) || strings.Contains(region, "set-facts") {
			t.Errorf("%s: %q, %v", n, region, err)
		}
	}
}

// What is kept of a set stays while the set is on somebody's page, up to a bound.
func TestLooksOnPagesStay(t *testing.T) {
	t.Parallel()
	h := newHub(nil, nil)
	x := newLooks(nil, h)
	at := func(n int) {
		t.Helper()
		if err := x.at(tasks.Ledger{Number: tasks.Number(fmt.Sprint("AC", n))}, func(*look) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	visit(t, h, "results:AC0")
	for n := range looksKept + 3 {
		at(n)
	}
	if len(x.all) != looksKept || x.all["AC0"] == nil || x.all["AC1"] != nil {
		t.Errorf("%d are kept", len(x.all))
	}
	for _, k := range x.all {
		k.used = time.Now().Add(-2 * lookIdle)
	}
	if x.forget(); len(x.all) != 1 || x.all["AC0"] == nil {
		t.Errorf("%d are kept that nobody has asked for lately", len(x.all))
	}
	for n := range 2 * looksOpen {
		visit(t, h, fmt.Sprint("ledger:AC", n))
		at(n)
	}
	if len(x.all) != looksOpen {
		t.Errorf("%d are kept, all on pages", len(x.all))
	}
}

// Anything can stand in Redis: a state that there is not is text, and names no class.
func TestNonsenseFromRedis(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1")
	b.must(b.rdb.HSet(b.Context(), tasks.KeyHosts("AC1"), "web-1", "x evil\x1b[31m").Err())
	for _, url := range []string{"/tasks/AC1", "/tasks/AC1/hosts/web-1"} {
		body := b.get(url, "").Body.String()
		if strings.Contains(body, "s-x") || strings.Contains(body, "\x1b") {
			t.Errorf("%s: %s", url, body)
		}
		if url != "/tasks/AC1" && !strings.Contains(body, `x evil\x1b[31m`) {
			t.Errorf("%s does not show the state: %s", url, body)
		}
	}
	long := "h" + strings.Repeat("x", mostID)
	f := b.srv.fleet
	f.heard(tasks.Event{Type: "host.online", Host: long})
	f.lookSoon(long)
	if len(f.came) != 0 || len(f.due) != 0 {
		t.Errorf("of a long id: %d, %d", len(f.came), len(f.due))
	}
	f.came[long] = time.Now()
	f.mu.Lock()
	f.seenLocked(tasks.Presence{Host: long}, 0)
	f.mu.Unlock()
	if len(f.came) != 0 {
		t.Error("when a long id came is kept for good")
	}
	b.srv.sets.happened("no number")
	if len(b.srv.sets.wanted) != 0 {
		t.Errorf("to read: %v", b.srv.sets.wanted)
	}
	b.srv.happened(tasks.Event{Type: "request.rejected", ID: "1-1"})
	if b.srv.forgotten(); len(b.srv.rejected.newest()) != 0 {
		t.Error("a rejected request is left of a Redis that was emptied")
	}
}
