package agent

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/wire"
)

// resume goes on with what the journal says is not over. It may have been cancelled
// since: while there is hope to learn that soon, no command of it starts.
func (a *Agent) resume(ctx context.Context) {
	for _, s := range a.journal.unfinished() {
		a.begin(ctx, s, nil)
	}
}

// begin runs what is left of s, beside all else, when its turn comes. l is the
// look-up that has found s, or nil. It does nothing if the agent is stopping: the
// journal knows that s is not over.
func (a *Agent) begin(ctx context.Context, s taskSet, l *lookup) {
	key := setKey{s.Number, s.Request}
	own, cancel := context.WithCancelCause(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		cancel(nil)
		return
	}
	if s.Cancelled || l != nil && l.cancelled {
		cancel(errCancelled)
	}
	a.running[key] = cancel
	a.work.Go(func() {
		defer cancel(nil)
		a.runSet(ctx, own, s, l == nil)
		a.mu.Lock()
		delete(a.running, key)
		a.mu.Unlock()
	})
}

// cancel ends the commands of the number that run; none of it is run from now on.
// Done twice it changes nothing.
func (a *Agent) cancel(number string) {
	a.mu.Lock()
	for key, cancel := range a.running {
		if key.number == number {
			cancel(errCancelled)
		}
	}
	if l := a.lookups[number]; l != nil {
		l.cancelled = true // what it finds is accepted, but not run
	}
	a.mu.Unlock()
	a.noteCancel(number)
}

// noteCancel has the journal know that the number was cancelled.
func (a *Agent) noteCancel(number string) {
	var recs []record
	for _, key := range a.journal.toCancel(number) {
		recs = append(recs, record{Kind: kindCancel, Number: key.number, Request: key.request})
	}
	if len(recs) == 0 {
		return
	}
	log := a.log.WithField("task", number)
	log.Info("task set cancelled")
	if err := a.journal.append(recs...); err != nil {
		log.WithError(err).Error("cancellation not in the journal, a restart would undo it")
	}
}

// runSet runs the commands of s in their order, from where it is. ctx ends when the
// agent stops, own also when s is cancelled. resumed says that an earlier run of the
// agent has begun s.
func (a *Agent) runSet(ctx, own context.Context, s taskSet, resumed bool) {
	log := a.log.WithField("task", s.Number)
	if s.Started {
		lost := wire.Result{Command: s.Commands[s.Ended], ExitCode: -1, Error: errInterrupted.Error()}
		if !a.ended(ctx, log, &s, lost) {
			return
		}
	}
	if resumed {
		a.awaitVerified(own)
	}
	if a.turn(own, s.DeadlineMS) {
		a.runCommands(ctx, own, log, &s)
		<-a.slots
	}
	if ctx.Err() != nil && s.Ended < len(s.Commands) && !errors.Is(context.Cause(own), errCancelled) {
		return // the agent stops: the next run goes on
	}
	log.WithFields(logrus.Fields{"run": s.Ended, "commands": len(s.Commands)}).Info("task set ended")
	a.over(ctx, log, s)
}

// over journals that s is over, and tries again until it can be written or ctx ends:
// without it s would be one of the unfinished for as long as the agent runs. Lost with
// the process or the power, it is found out again: all has ended, or the deadline is past.
func (a *Agent) over(ctx context.Context, log logrus.FieldLogger, s taskSet) {
	for failing := false; ; failing = true {
		err := a.journal.note(record{Kind: kindOver, Number: s.Number, Request: s.Request})
		if err == nil {
			return
		}
		if !failing {
			log.WithError(err).Error("end of a task set waits, the journal can't be written")
		}
		if !pause.For(ctx, between(a.retryMin, a.retryMax)) {
			return
		}
	}
}

// turn waits for one of the places to run in. It returns false if ctx or the
// deadline came first.
func (a *Agent) turn(ctx context.Context, deadlineMS int64) bool {
	select {
	case a.slots <- struct{}{}:
		return true
	default:
	}
	for {
		left := time.Duration(deadlineMS-a.clock.now()) * time.Millisecond
		if left <= 0 {
			return false
		}
		// Redis's clock may be learned anew meanwhile: look again now and then.
		t := time.NewTimer(min(left, time.Minute))
		select {
		case a.slots <- struct{}{}:
			t.Stop()
			return true
		case <-ctx.Done():
			t.Stop()
			return false
		case <-t.C:
		}
	}
}

// runCommands runs what is left of s, until its deadline or the end of own.
func (a *Agent) runCommands(ctx, own context.Context, log logrus.FieldLogger, s *taskSet) {
	limit := time.Duration(s.TimeoutS) * time.Second
	failing := false
	for s.Ended < len(s.Commands) && own.Err() == nil && a.clock.now() < s.DeadlineMS {
		if now, _ := a.journal.lookUp(setKey{s.Number, s.Request}); now.Superseded {
			return
		}
		line := s.Commands[s.Ended]
		err := a.journal.append(
			record{Kind: kindStart, Number: s.Number, Request: s.Request, Ended: s.Ended, DeadlineMS: s.DeadlineMS},
			record{Kind: kindStatus, Number: s.Number, Request: s.Request,
				message: wire.Status{Task: s.Number, Phase: wire.PhaseWorking, Working: line}})
		if err != nil {
			if !failing {
				log.WithError(err).Error("command not started, the journal can't be written")
			}
			failing = true
			pause.For(own, between(a.retryMin, a.retryMax))
			continue // what was true may be so no more
		}
		failing = false
		if !a.ended(ctx, log, s, a.run(own, line, limit)) {
			return
		}
	}
}

// ended journals and so reports how the current command of s ended. While the
// journal can't be written it tries again; it returns false if ctx ended first.
// Then the command counts as interrupted.
func (a *Agent) ended(ctx context.Context, log logrus.FieldLogger, s *taskSet, result wire.Result) bool {
	for failing := false; ; failing = true {
		err := a.journal.append(record{
			Kind: kindStatus, Number: s.Number, Request: s.Request, Ended: s.Ended + 1,
			message: wire.Status{Task: s.Number, Phase: wire.PhaseEnded, Result: &result},
		})
		if err == nil {
			if result.ExitCode == 0 && result.Error == "" {
				a.stats.Ended.Add(1)
			} else {
				a.stats.Failed.Add(1)
			}
			s.Ended, s.Started = s.Ended+1, false
			return true
		}
		if !failing {
			log.WithError(err).Error("result waits, the journal can't be written")
		}
		if !pause.For(ctx, between(a.retryMin, a.retryMax)) {
			return false
		}
	}
}
