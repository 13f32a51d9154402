package outage

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// told is what a Watch has told so far.
type told struct {
	begins []string
	ends   int
}

func (s *told) watch(settle time.Duration) *Watch {
	return New(Config{
		Begin:  func(part string, err error) { s.begins = append(s.begins, part+": "+err.Error()) },
		End:    func() { s.ends++ },
		Settle: settle,
	})
}

// One part of the work that goes on is no end of an outage in which another fails.
func TestParts(t *testing.T) {
	t.Parallel()
	var said told
	w := said.watch(0)
	for i, step := range []struct {
		do          func()
		on          bool
		begin, ends int
	}{
		{func() { w.Works("a") }, false, 0, 0},
		{func() { w.Failed("a", io.EOF) }, true, 1, 0},
		{func() { w.Failed("b", io.ErrNoProgress) }, true, 1, 0},
		{func() { w.Works("c") }, true, 1, 0},
		{func() { w.Works("a") }, true, 1, 0},
		{func() { w.Failed("b", io.EOF) }, true, 1, 0},
		{func() { w.Works("b") }, false, 1, 1},
		{func() { w.Works("b") }, false, 1, 1},
		{func() { w.Failed("b", io.ErrNoProgress) }, true, 2, 1},
		{func() { w.Works("b") }, false, 2, 2},
	} {
		step.do()
		if w.On() != step.on || len(said.begins) != step.begin || said.ends != step.ends {
			t.Errorf("step %d: on %v, begins %q, %d ends", i, w.On(), said.begins, said.ends)
		}
	}
	if want := []string{"a: " + io.EOF.Error(), "b: " + io.ErrNoProgress.Error()}; !slices.Equal(said.begins, want) {
		t.Errorf("begins %q, want %q", said.begins, want)
	}
}

// It is over when no part has failed for some time, whichever finds that out.
func TestSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const settle = time.Second
		var said told
		w := said.watch(settle)
		w.Failed("a", io.EOF)
		time.Sleep(time.Hour)
		w.Works("b") // it does not know of the other
		w.Works("a")
		time.Sleep(settle / 2)
		w.Failed("b", io.EOF) // it was not over yet
		time.Sleep(settle)
		w.Works("a")
		w.Works("b")
		time.Sleep(settle - time.Nanosecond)
		if w.Works("a"); !w.On() || len(said.begins) != 1 || said.ends != 0 {
			t.Errorf("before it is settled: on %v, %+v", w.On(), said)
		}
		time.Sleep(time.Nanosecond)
		w.Works("a")
		if w.Works("a"); w.On() || len(said.begins) != 1 || said.ends != 1 {
			t.Errorf("when it is settled: on %v, %+v", w.On(), said)
		}
	})
}

// A part that fails waits longer each time, from the first wait on in each new outage.
func TestPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said told
		w := said.watch(0)
		p, other := w.Part("requests"), w.Part("jobs")
		p.Works() // nothing was wrong
		for outage := 1; outage <= 2; outage++ {
			var waited []time.Duration
			for range 7 {
				start := time.Now()
				p.Failed(t.Context(), errors.New("refused"))
				waited = append(waited, time.Since(start))
			}
			if waited[0] != firstWait || waited[1] != 2*firstWait || waited[5] != mostWait || waited[6] != mostWait {
				t.Errorf("waited %v", waited)
			}
			if !p.On() || other.On() || !w.On() || len(said.begins) != outage || said.begins[0] != "requests: refused" {
				t.Errorf("on %v, the other %v, %+v", p.On(), other.On(), said)
			}
			if p.Works(); p.On() || w.On() || said.ends != outage {
				t.Errorf("over, but on %v, %+v", p.On(), said)
			}
		}
	})
}

// The end of the work is no outage, and is not waited for.
func TestPartEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said told
		p := said.watch(0).Part("requests")
		ctx, cancel := context.WithTimeout(t.Context(), firstWait/2)
		defer cancel()
		start := time.Now()
		p.Failed(ctx, io.EOF)
		if waited := time.Since(start); waited != firstWait/2 {
			t.Errorf("waited %v for the end", waited)
		}
		p.Works()
		if p.Failed(ctx, ctx.Err()); p.On() || len(said.begins) != 1 {
			t.Errorf("the end of the work is taken for an outage: %+v", said)
		}
	})
}

// Parts that fail and work at the same time: what is told comes in turn.
func TestManyParts(t *testing.T) {
	t.Parallel()
	var said told
	w := said.watch(0)
	var parts sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		parts.Go(func() {
			for range 1_000 {
				w.Failed(name, io.EOF)
				w.Works(name)
			}
		})
	}
	parts.Wait()
	if w.On() || len(said.begins) == 0 || len(said.begins) != said.ends {
		t.Errorf("on %v, %d begins and %d ends", w.On(), len(said.begins), said.ends)
	}
}
