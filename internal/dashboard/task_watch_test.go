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
	if body := page.Body.String(); !strings.Contains(body, `data-live="redis results:AC1"`) || !strings.Contains(body, `data-region="results"`) {
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
