package agent

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/wire"
)

// checkedTogether is how many sets are asked for at a time. It is small beside
// maxLookups and what a connection holds, so that a thousand sets leave room for the
// numbers that arrive meanwhile.
const checkedTogether = 32

// checked is what became of one question.
type checked struct {
	found    wire.Found
	answered bool
}

// verify looks up what is not over each time that there is a new connection, and
// ends what was cancelled while nobody could say so: the agent was down, or away.
// Only that is heeded. A set that is not found any more goes on, since a Redis that
// has lost its data is no reason to break off work.
func (a *Agent) verify(ctx context.Context) {
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-a.unverified:
		}
		var left []string
		for _, s := range a.journal.unfinished() {
			left = append(left, s.Number)
		}
		for len(left) > 0 && ctx.Err() == nil {
			var batch []string
			for len(left) > 0 && len(batch) < checkedTogether {
				if len(a.journal.toCancel(left[0])) > 0 {
					batch = append(batch, left[0])
				}
				left = left[1:]
			}
			left = append(left, a.check(ctx, batch)...)
		}
		if first && ctx.Err() == nil {
			close(a.verified)
		}
	}
}

// awaitVerified waits until it is known what of an earlier run was cancelled, or it
// has become likely that nobody is there to say so.
func (a *Agent) awaitVerified(ctx context.Context) {
	t := time.NewTimer(a.patience)
	defer t.Stop()
	select {
	case <-a.verified:
	case <-t.C:
	case <-ctx.Done():
	}
}

// check asks for each of the numbers once and ends what was cancelled. It returns
// those for which no answer has come within some seconds.
func (a *Agent) check(ctx context.Context, numbers []string) (unanswered []string) {
	if a.cfg.Store != nil {
		return a.checkInStore(ctx, numbers)
	}
	answers := make(chan checked, len(numbers)) // gets one for each
	a.mu.Lock()
	for _, number := range numbers {
		a.checks[number] = answers
	}
	a.mu.Unlock()
	if s := a.session.Load(); s != nil { // without one they are asked when there is one
		for _, number := range numbers {
			s.ask(wire.Lookup{Task: number})
		}
	}
	t := time.AfterFunc(between(a.retryMin, a.retryMax), a.uncheck)
	defer t.Stop()
	defer context.AfterFunc(ctx, a.uncheck)()
	for range numbers {
		switch c := <-answers; {
		case !c.answered:
			unanswered = append(unanswered, c.found.Task)
		case c.found.Cancelled:
			a.cancel(c.found.Task)
		}
	}
	return unanswered
}

// uncheck gives up the questions that are open.
func (a *Agent) uncheck() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for number, answers := range a.checks {
		answers <- checked{found: wire.Found{Task: number}}
	}
	clear(a.checks)
}

func (a *Agent) checkInStore(ctx context.Context, numbers []string) (unanswered []string) {
	for i, number := range numbers {
		found, err := a.cfg.Store.Find(ctx, number, a.cfg.ID)
		if err != nil {
			a.log.WithField("task", number).WithError(err).Debug("not known whether it was cancelled, asking on")
			pause.For(ctx, between(a.retryMin, a.retryMax))
			return numbers[i:]
		}
		if found.Cancelled {
			a.cancel(number)
		}
	}
	return nil
}
