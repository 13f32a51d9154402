package dashboard

import (
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/tasks"
)

const (
	openBeat   = 2 * time.Second // how often a page asks again for the hosts of an open set, whatever is known of it
	looksBatch = 200             // sets that one beat looks at
)

// looksWatch is what was last seen of the sets that somebody follows.
type looksWatch struct {
	store *tasks.Store
	hub   *hub
	looks *looks
	fails failures
	last  map[tasks.Number]watched
}

func (s *Server) newLooksWatch() *looksWatch {
	return &looksWatch{s.store, s.hub, s.looks, failures{log: s.cfg.Log}, map[tasks.Number]watched{}}
}

// watched is what was last seen of a set.
type watched struct {
	ledger  tasks.Ledger
	results int64
	whole   bool      // all its results are in, as far as is known here
	looked  time.Time // when it was read
	asked   time.Time // when those who follow it were last told
}

// watchLooks has the pages of sets that somebody follows ask again when something is new,
// until ctx ends.
func (s *Server) watchLooks(ctx context.Context) error {
	w := s.newLooksWatch()
	tick := time.NewTicker(s.looks.beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		s.looks.forget()
		w.beat(ctx)
	}
}

// beat looks at the sets that somebody follows.
func (w *looksWatch) beat(ctx context.Context) {
	numbers := w.due()
	if len(numbers) == 0 { // which says nothing of Redis
		return
	}
	ledgers, results, err := w.store.LedgersAndResults(ctx, numbers)
	w.fails.seen(err, "task sets that are on a page can't be read, trying on")
	for i, l := range ledgers {
		w.seen(l, results[i])
	}
}

// due are the sets to look at, those first that were not looked at for the longest time:
// if there are too many for one beat, the next ones do the rest.
func (w *looksWatch) due() (numbers []tasks.Number) {
	followed := map[tasks.Number]bool{}
	for _, about := range append(w.hub.abouts("ledger"), w.hub.abouts("results")...) {
		n, err := tasks.ParseNumber(about)
		if err != nil || followed[n] {
			continue
		}
		followed[n] = true
		was := w.last[n]
		over := was.ledger.Stage == tasks.Closed && was.whole || was.ledger.Stage == ""
		if over && time.Since(was.looked) < openBeat {
			continue // little happens to one that has ended or is not there
		}
		numbers = append(numbers, n)
	}
	for n := range w.last {
		if !followed[n] {
			delete(w.last, n)
		}
	}
	slices.SortStableFunc(numbers, func(a, b tasks.Number) int {
		return w.last[a].looked.Compare(w.last[b].looked)
	})
	return numbers[:min(len(numbers), looksBatch)]
}

// seen takes what Redis says of a set, and tells those who follow it what is new.
func (w *looksWatch) seen(l tasks.Ledger, results int64) {
	was, known := w.last[l.Number]
	now := watched{l, results, w.looks.whole(l.Number), time.Now(), was.asked}
	if l.Stage == "" { // it has gone, or nobody has heard of it
		if was.ledger.Stage != "" {
			w.hub.touch("ledger:" + string(l.Number))
		}
		w.last[l.Number] = now
		return
	}
	moved := !known || !sameCounts(was.ledger, l) || !was.ledger.Cancelled.Equal(l.Cancelled)
	more := !known || results != was.results
	late := l.Stage != tasks.Closed && time.Since(was.asked) >= openBeat
	var regions []string
	if moved || more || !now.whole {
		regions = append(regions, "ledger", "results")
	}
	if more || !now.whole {
		regions = append(regions, "outputs")
	}
	if moved || more || late {
		regions = append(regions, "members", "results")
		now.asked = now.looked
	}
	for _, region := range regions {
		w.hub.touch(region + ":" + string(l.Number))
	}
	w.last[l.Number] = now
}

// whole reports whether all results of a set have been read, as far as is known here.
func (x *looks) whole(n tasks.Number) bool {
	x.mu.Lock()
	k := x.all[n]
	x.mu.Unlock()
	if k == nil || !k.mu.TryLock() {
		return true
	}
	defer k.mu.Unlock()
	return k.outputs == nil || k.outputs.complete
}
