package worker

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/tasks"
)

const (
	deadlineEvery = time.Second
	// deadlineLate is how long after its deadline a set may still come into the list
	// of sets: it is entered right after it was written, but by a second command.
	deadlineLate = time.Minute
	strikeMost   = 5 * time.Minute
)

// deadlines ends task sets at their deadline. Every worker does it for all sets, and
// that several do so at once is harmless. All times are by Redis's clock.
type deadlines struct {
	rdb   redis.UniversalClient
	store *tasks.Store
	keep  time.Duration
	log   logrus.FieldLogger
	away  *outage.Part

	seen     time.Time // every set whose deadline is a minute before it is dealt with
	finished map[tasks.Number]bool
	struck   time.Time // when sets that are gone were last struck from the list
}

// run works until ctx ends, or round, which is called each time, fails.
func (e *deadlines) run(ctx context.Context, round func() error) error {
	for ctx.Err() == nil {
		if err := round(); err != nil {
			return err
		}
		if err := e.round(ctx); err != nil {
			e.away.Failed(ctx, err)
			continue
		}
		e.away.Works()
		pause.For(ctx, deadlineEvery)
	}
	return nil
}

// round ends the sets whose deadline has passed since the round before: in the first
// one all, whoever was to end them.
func (e *deadlines) round(ctx context.Context) error {
	now, err := e.rdb.Time(ctx).Result()
	if err != nil {
		return err
	}
	from := time.UnixMilli(0)
	if !e.seen.IsZero() {
		from = e.seen.Add(-deadlineLate)
	}
	finished := map[tasks.Number]bool{}
	err = e.sweep(ctx, from, now, func(n tasks.Number) error {
		if !e.finished[n] {
			done, err := e.end(ctx, n)
			if err != nil || !done {
				return err
			}
		}
		finished[n] = true
		return nil
	})
	if err != nil {
		return err
	}
	// A clock that was set back must not leave a gap.
	if e.seen.IsZero() || now.After(e.seen) || now.Before(from) {
		e.seen = now
	}
	e.finished = finished
	return e.strike(ctx, now)
}

// strike strikes sets from the list whose keys have expired.
func (e *deadlines) strike(ctx context.Context, now time.Time) error {
	if !e.struck.IsZero() && now.Sub(e.struck).Abs() < min(e.keep, strikeMost) {
		return nil
	}
	err := e.sweep(ctx, time.UnixMilli(0), now.Add(-e.keep), func(n tasks.Number) error {
		return e.passOver(n, e.store.Expire(ctx, n))
	})
	if err == nil {
		e.struck = now
	}
	return err
}

// sweep calls visit with every set whose deadline lies in the span, a page at a time.
func (e *deadlines) sweep(ctx context.Context, from, until time.Time, visit func(tasks.Number) error) error {
	for {
		page, next, err := e.store.Due(ctx, from, until, tasks.Chunk)
		if err != nil {
			return err
		}
		for _, n := range page {
			if err := visit(n); err != nil {
				return err
			}
		}
		if next.IsZero() {
			return nil
		}
		from = next
	}
}

// end ends one set and reports whether it is dealt with. A set that Redis refuses to
// work with, because someone has made one of its keys something else, is logged and
// passed over: it must not keep the others.
func (e *deadlines) end(ctx context.Context, n tasks.Number) (finished bool, err error) {
	if err = e.store.Expire(ctx, n); err != nil {
		return true, e.passOver(n, err)
	}
	after, err := e.store.Ledger(ctx, n)
	if errors.Is(err, tasks.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return true, e.passOver(n, err)
	}
	return after.Stage == tasks.Closed, nil
}

// passOver returns err if another try may mend it, else it logs it.
func (e *deadlines) passOver(n tasks.Number, err error) error {
	if err == nil || script.Transient(err) {
		return err
	}
	e.log.WithError(err).WithField("task", string(n)).Warn("task set can't be ended")
	return nil
}
