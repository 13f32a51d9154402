package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

const (
	agendaEvery = 100 * time.Millisecond // how late something on an agenda may be
	agendaSlots = 16                     // members worked on side by side
	// brokenAgain is when a member is tried again that Redis refuses to work with,
	// because someone has made one of its keys something else, or that is more than this
	// program can deal with.
	brokenAgain = time.Minute
)

// agenda works off one of the agendas in Redis, beside all other workers.
type agenda struct {
	list *tasks.Agenda
	what string // for the log: the field that names a member
	log  logrus.FieldLogger
	away *outage.Part

	// do does what is to be done for a member and returns when it is due again, by
	// Redis's clock; zero for never. It may be done twice, also at the same time.
	do func(ctx context.Context, now time.Time, member string) (time.Time, error)
}

// run works until ctx ends, or round, which is called each time, fails. It ends when all
// that it has begun is done.
func (a *agenda) run(ctx context.Context, round func() error) error {
	slots := make(chan struct{}, agendaSlots)
	var begun sync.WaitGroup
	defer begun.Wait()
	for ctx.Err() == nil {
		if err := round(); err != nil {
			return err
		}
		claim, err := a.list.Claim(ctx, cap(slots)-len(slots))
		if err != nil {
			a.away.Failed(ctx, err)
			continue
		}
		a.away.Works()
		for _, member := range claim.Members {
			slots <- struct{}{}
			begun.Go(func() {
				defer func() { <-slots }()
				a.one(ctx, claim, member)
			})
		}
		if len(claim.Members) < cap(slots) {
			pause.For(ctx, agendaEvery)
		}
	}
	return nil
}

// one does what is due for one member. What fails is left: the claim ends, and it is
// due again.
func (a *agenda) one(ctx context.Context, c tasks.Claim, member string) {
	var next time.Time
	err := supervise.Safely(func() (err error) {
		next, err = a.do(ctx, c.Now, member)
		return err
	})
	var panicked *supervise.Panic
	if errors.As(err, &panicked) || err != nil && !script.Transient(err) {
		// It must not keep the others.
		a.log.WithError(err).WithField(a.what, member).Warn("can't be looked after")
		supervise.LogStack(a.log, err)
		next, err = c.Now.Add(brokenAgain), nil
	}
	if err == nil {
		err = a.list.Settle(ctx, c, member, next)
	}
	if err != nil && ctx.Err() == nil {
		a.log.WithError(err).WithField(a.what, member).Debug("is looked after again")
	}
}
