package dashboard

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/tasks"
)

const (
	setsRead = 500   // heads of open sets that one beat reads at most
	oddKept  = 1_000 // sets of which it is known that their heads can't be read
)

// setsPace is how often the task sets are looked at, and how many are kept.
type setsPace struct {
	beat  time.Duration
	idle  time.Duration // between two looks at the open sets while nobody follows them
	check time.Duration // how often the number of sets is compared
	full  time.Duration // how often all of them are gone through
	kept  int           // task sets in the index; of older ones only the number is known
}

func defaultSetsPace() setsPace {
	return setsPace{beat: 500 * time.Millisecond, idle: 5 * time.Second, check: 2 * time.Second, full: time.Minute, kept: 200_000}
}

// sets is the index of the task sets: their heads in memory, newest first. A set costs
// some 200 bytes; it is kept true by run.
type sets struct {
	store *tasks.Store
	hub   *hub
	pace  setsPace
	lists failures // of reading which sets there are
	heads failures // of reading what is known of some
	types func(context.Context, []place) []broken

	mu     sync.Mutex
	known  map[tasks.Number]*head // nil for one that is known by its number only
	order  []*head                // by creation, the oldest first; none that has gone
	sorted bool
	open   map[tasks.Number]bool   // those that have not ended
	older  int                     // those that are known by their number only, because they are too many
	ready  bool                    // all of them were read once
	wanted map[tasks.Number]bool   // heads to read at the next beat
	odd    map[tasks.Number]broken // sets whose heads can't be read, for their type
	next   int                     // where the reading of open sets goes on
}

func newSets(store *tasks.Store, hub *hub, fails failures) *sets {
	return &sets{
		store: store, hub: hub, pace: defaultSetsPace(), lists: fails, heads: fails,
		known: map[tasks.Number]*head{}, open: map[tasks.Number]bool{}, wanted: map[tasks.Number]bool{}, odd: map[tasks.Number]broken{},
	}
}

// run keeps the index true until ctx ends: by events (happened), by reading those sets
// again that have not ended, and by comparing the list of numbers.
func (x *sets) run(ctx context.Context) error {
	tick := time.NewTicker(x.pace.beat)
	defer tick.Stop()
	var read, checked, full, aged time.Time
	for {
		now := time.Now()
		if now.Sub(checked) >= x.pace.check {
			count, err := x.store.CountSets(ctx)
			if err == nil && (now.Sub(full) >= x.pace.full || int(count) != x.size() && now.Sub(full) >= x.pace.check) {
				if err = x.reconcile(ctx); err == nil {
					full = now
				}
			}
			x.lists.seen(err, "the list of task sets can't be read, trying on")
			checked = now
		}
		pace := x.pace.idle
		if x.hub.followed("running") || x.hub.followed("sets") {
			pace = 0
		}
		all := now.Sub(read) >= pace
		if all {
			read = now
		}
		x.refresh(ctx, all)
		if now.Sub(aged) >= x.pace.idle {
			aged = now
			x.hub.touch("running") // how old they are is shown
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// happened notes that something was recorded of a set.
func (x *sets) happened(n tasks.Number) {
	if !numberForm(n) { // anything can stand in an event
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wanted[n] = true
}

func (x *sets) size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.known)
}

// refresh reads what events have named, and with open those sets that have not ended: as
// many as one beat may, the newest always.
func (x *sets) refresh(ctx context.Context, open bool) {
	x.mu.Lock()
	numbers := make([]tasks.Number, 0, len(x.wanted))
	for n := range x.wanted {
		numbers = append(numbers, n)
	}
	clear(x.wanted)
	if open {
		numbers = x.openLocked(numbers)
	}
	x.mu.Unlock()
	for part := range slices.Chunk(numbers, tasks.Chunk) {
		err := x.read(ctx, part)
		x.heads.seen(err, "task sets can't be read, trying on")
		if err != nil {
			x.mu.Lock()
			for _, n := range part { // the events will not come again
				x.wanted[n] = true
			}
			x.mu.Unlock()
		}
	}
}

func (x *sets) openLocked(numbers []tasks.Number) []tasks.Number {
	x.sortLocked()
	var running []*head
	for i := len(x.order) - 1; i >= 0 && len(running) < len(x.open); i-- {
		if x.order[i].Running() {
			running = append(running, x.order[i])
		}
	}
	first := min(len(running), runningShown)
	for _, h := range running[:first] {
		numbers = append(numbers, h.Number)
	}
	rest := running[first:]
	for range min(len(rest), setsRead-first) {
		x.next = (x.next + 1) % len(rest)
		numbers = append(numbers, rest[x.next].Number)
	}
	return numbers
}

// read reads heads and brings them into the index.
func (x *sets) read(ctx context.Context, numbers []tasks.Number) error {
	ledgers, err := x.store.Ledgers(ctx, numbers)
	if err != nil {
		return err
	}
	var places []place
	for _, l := range ledgers {
		if l.Stage == "" && numberForm(l.Number) {
			places = append(places, place{tasks.KeyMeta(l.Number), tasks.KeyMeta("AC131")})
		}
	}
	var odd []broken
	if len(places) > 0 {
		odd = x.types(ctx, places)
	}
	x.mu.Lock()
	changed, running := x.mergeLocked(ledgers)
	changed = x.oddLocked(ledgers, odd) || changed
	x.mu.Unlock()
	if changed {
		x.hub.touch("sets")
	}
	if running {
		x.hub.touch("running", "numbers")
	}
	return nil
}

// oddLocked takes which of the sets that were read have heads of another type, and reports
// whether that is new.
func (x *sets) oddLocked(ledgers []tasks.Ledger, odd []broken) (changed bool) {
	is := map[string]broken{}
	for _, b := range odd {
		is[b.Key] = b
	}
	for _, l := range ledgers {
		b, now := is[tasks.KeyMeta(l.Number)]
		switch was, known := x.odd[l.Number]; {
		case now && (!known && len(x.odd) < oddKept || known && was != b):
			x.odd[l.Number], changed = b, true
		case !now && known:
			delete(x.odd, l.Number)
			changed = true
		}
	}
	return changed
}

// oddShownLocked are some of the heads that can't be read.
func (x *sets) oddShownLocked() (list []broken) {
	for _, n := range slices.Sorted(maps.Keys(x.odd)) {
		if len(list) < brokenShown {
			list = append(list, x.odd[n])
		}
	}
	return list
}

// mergeLocked brings heads into the index. changed reports whether anything is new,
// running whether it is about a set that has not ended, or has just done so.
func (x *sets) mergeLocked(ledgers []tasks.Ledger) (changed, running bool) {
	for _, l := range ledgers {
		now := headOf(l)
		was, known := x.known[l.Number]
		if l.Stage == "" { // it is not there, or no longer
			if was != nil {
				x.dropLocked(was)
				x.known[l.Number] = nil
				changed, running = true, running || was.Running()
			}
			continue
		}
		if known && was == nil && len(x.order) >= x.pace.kept {
			continue // one of those that are too old
		}
		if was != nil && *was == now {
			continue
		}
		changed = true
		running = running || now.Running() || was != nil && was.Running()
		if was != nil && was.created == now.created {
			*was = now
		} else {
			if was != nil {
				x.dropLocked(was)
			}
			h := &now
			x.known[l.Number] = h
			x.sorted = x.sorted && (len(x.order) == 0 || older(x.order[len(x.order)-1], h) < 0)
			x.order = append(x.order, h)
		}
		if now.Running() {
			x.open[l.Number] = true
		} else {
			delete(x.open, l.Number)
		}
	}
	x.boundLocked()
	return changed, running
}

// boundLocked lets the oldest sets go when there are too many.
func (x *sets) boundLocked() {
	if len(x.order) <= x.pace.kept+x.pace.kept/50 { // not one by one
		return
	}
	x.sortLocked()
	for _, h := range x.order[:len(x.order)-x.pace.kept] {
		x.known[h.Number] = nil
		delete(x.open, h.Number)
		x.older++
	}
	x.order = slices.Clone(x.order[len(x.order)-x.pace.kept:])
}

func (x *sets) dropLocked(h *head) {
	delete(x.open, h.Number)
	if i := slices.Index(x.order, h); i >= 0 {
		x.order = slices.Delete(x.order, i, i+1)
	}
}

func (x *sets) sortLocked() {
	if !x.sorted {
		slices.SortFunc(x.order, older)
		x.sorted = true
	}
}

func older(a, b *head) int {
	return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.Number, b.Number))
}

// reconcile goes through all numbers: it reads the heads of those that are not in the
// index, and of those that have ended and may still change, and takes out what has gone.
func (x *sets) reconcile(ctx context.Context) error {
	there := make(map[tasks.Number]bool, x.size())
	err := x.store.Sets(ctx, func(numbers []tasks.Number) error {
		var want []tasks.Number
		now := time.Now()
		x.mu.Lock()
		for _, n := range numbers {
			h, known := x.known[n]
			_, odd := x.odd[n]
			if !there[n] && (!known || odd || h != nil && (h.Running() || h.late(now))) {
				want = append(want, n)
			}
			there[n] = true
		}
		x.mu.Unlock()
		if err := x.read(ctx, want); err != nil {
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, n := range want {
			if _, known := x.known[n]; !known {
				x.known[n] = nil // its keys have expired, or are not yet written
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.mu.Lock()
	changed := !x.ready
	x.ready = true
	x.older = 0
	gone := map[*head]bool{}
	for n, h := range x.known {
		switch {
		case !there[n] && !x.wanted[n]:
			delete(x.known, n)
			if _, odd := x.odd[n]; odd {
				delete(x.odd, n)
				changed = true
			}
			if h != nil {
				gone[h] = true
				delete(x.open, n)
			}
		case h == nil && len(x.order) >= x.pace.kept:
			x.older++
		}
	}
	if len(gone) > 0 {
		x.order = slices.DeleteFunc(x.order, func(h *head) bool { return gone[h] })
		changed = true
	}
	x.sortLocked()
	x.mu.Unlock()
	if changed {
		x.hub.touch("sets", "running", "numbers")
	}
	return nil
}

// running is what a page shows of the sets that have not ended.
type running struct {
	Sets []head
	More int  // running sets that are not shown
	Wait bool // the index is not complete yet
}

const runningShown = 10

// Running returns the newest n sets that have not ended.
func (x *sets) Running(n int) running {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sortLocked()
	r := running{Wait: !x.ready}
	for i := len(x.order) - 1; i >= 0 && len(r.Sets) < min(n, len(x.open)); i-- {
		if x.order[i].Running() {
			r.Sets = append(r.Sets, *x.order[i])
		}
	}
	r.More = len(x.open) - len(r.Sets)
	return r
}

// CountRunning is how many sets have not ended.
func (x *sets) CountRunning() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.open)
}

// listed is a page of the list of sets.
type listed struct {
	Sets  []head
	Found int             // sets that the filter lets through, on all pages
	All   int             // sets that the search alone lets through
	Of    map[outcome]int // how many of those have an outcome
	Older int             // sets that are too old for the index
	Odd   []broken        // some of the heads that can't be read
	Wait  bool            // the index is not complete yet
}

// Newest returns sets, the newest first, from the one with the number from on, at most n:
// of those that have the outcome o, any if it is 0, and search in their number, in any
// case.
func (x *sets) Newest(search string, o outcome, from, n int) listed {
	search = strings.ToLower(search)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sortLocked()
	l := listed{Of: map[outcome]int{}, Older: x.older, Odd: x.oddShownLocked(), Wait: !x.ready}
	var having [1 << 6]int // sets by all their outcomes together
	for i := len(x.order) - 1; i >= 0; i-- {
		h := x.order[i]
		if !contains(string(h.Number), search) {
			continue
		}
		l.All++
		having[h.outcomes]++
		if o != 0 && h.outcomes&o == 0 {
			continue
		}
		if l.Found >= from && len(l.Sets) < n {
			l.Sets = append(l.Sets, *h)
		}
		l.Found++
	}
	for together, count := range having {
		for _, one := range outcomes() {
			if outcome(together)&one != 0 {
				l.Of[one] += count
			}
		}
	}
	return l
}

// Heads returns n sets, the newest first, from the one with the number from on.
func (x *sets) Heads(from, n int) []head {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sortLocked()
	heads := make([]head, 0, min(n, len(x.order)))
	for i := len(x.order) - 1 - from; i >= 0 && len(heads) < n; i-- {
		heads = append(heads, *x.order[i])
	}
	return heads
}

// contains reports whether part, in small letters, is in s in any case. It is called for
// each of many.
func contains(s, part string) bool {
	for i := 0; i+len(part) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(part)], part) {
			return true
		}
	}
	return false
}
