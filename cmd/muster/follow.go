package main

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

// noWorkerAfter is how long a request may lie before it is said that nobody takes it. A
// worker takes one within milliseconds.
const noWorkerAfter = 3 * time.Second

const ledgerPoll = 100 * time.Millisecond // how often the ledger of a dispatch is read

// follower learns what becomes of one request: from the events, and from the ledger
// itself, since an event may come late or twice. While Redis is away it keeps trying.
type follower struct {
	rdb     redis.UniversalClient
	store   *tasks.Store
	log     logrus.FieldLogger
	request string       // the id that the job has
	number  tasks.Number // empty until it is known
	after   string       // the last event that was read

	accepted bool // a worker has taken the request
	sent     bool // the task number is on its way
	away     bool // Redis does not answer
	ignored  bool // it was said that no worker takes it
}

// submit asks for a dispatch of r, which is then followed.
func (f *follower) submit(ctx context.Context, r tasks.Request) (err error) {
	if f.after, err = tasks.LastEvent(ctx, f.rdb); err != nil {
		return err
	}
	f.number = r.Key
	f.request, err = tasks.NewClient(f.rdb).Submit(ctx, r)
	return err
}

// left is the error of one who waits no longer: why, how far the dispatch was, and
// where to look, since it goes on.
func (f *follower) left(why, look string) error {
	switch {
	case !f.accepted:
		return failf(statusTime, "%s: no worker has taken the request yet; it stays in the queue as %s", why, f.request)
	case !f.sent:
		return failf(statusTime, "%s: %s is not sent yet (%s)", why, f.number, look)
	}
	return failf(statusTime, "%s: %s goes on (%s)", why, f.number, look)
}

// untilSent returns the ledger once the task number is on its way. The error says
// that the request was rejected or the set is gone, or it is ctx's.
func (f *follower) untilSent(ctx context.Context) (tasks.Ledger, error) {
	for start := time.Now(); ctx.Err() == nil; {
		if !f.accepted && !f.away && !f.ignored && time.Since(start) > noWorkerAfter {
			f.ignored = true
			f.log.WithField("request", f.request).Warn("no worker has taken the request yet: muster worker starts one, muster doctor looks for what is wrong")
		}
		page, err := tasks.Events(ctx, f.rdb, f.after, eventsPage, ledgerPoll)
		if !f.answered(ctx, err) {
			continue
		}
		for _, e := range page {
			f.after = e.ID
			if e.Request != f.request {
				continue
			}
			if e.Type == "request.rejected" {
				return tasks.Ledger{}, misuse("the request was rejected: %s", e.Reason)
			}
			f.note(e)
		}
		if f.number == "" {
			continue
		}
		l, err := f.store.Ledger(ctx, f.number)
		if errors.Is(err, tasks.ErrNotFound) && f.accepted {
			return tasks.Ledger{}, f.gone(ctx) // it was written before it was accepted
		}
		if errors.Is(err, tasks.ErrNotFound) || err == nil && l.Request != f.request {
			continue // not written yet, or about to be rejected
		}
		if !f.answered(ctx, err) {
			continue
		}
		f.accepted = true
		if f.sent = f.sent || heardOf(l); f.sent {
			return l, nil
		}
	}
	return tasks.Ledger{}, ctx.Err()
}

func (f *follower) note(e tasks.Event) {
	switch e.Type {
	case "task.sent", "task.closed":
		f.sent = true
		fallthrough
	case "task.accepted":
		f.accepted, f.number = true, e.Key
	}
}

// heardOf reports whether a ledger shows that its number was sent: it is closed, or a
// host has answered.
func heardOf(l tasks.Ledger) bool {
	if l.Stage == tasks.Closed {
		return true
	}
	for _, s := range tasks.States() {
		if s != tasks.Waiting && s != tasks.Sent && s != tasks.Offline && l.Counts[s] > 0 {
			return true
		}
	}
	return false
}

// untilClosed returns the ledger once no host is open any more. It shows each one
// that it reads. The error says that the set is gone, or it is ctx's.
func (f *follower) untilClosed(ctx context.Context, l tasks.Ledger, show func(tasks.Ledger)) (tasks.Ledger, error) {
	for show(l); l.Stage != tasks.Closed; show(l) {
		pause.For(ctx, ledgerPoll)
		if ctx.Err() != nil {
			return l, ctx.Err()
		}
		now, err := f.store.Ledger(ctx, f.number)
		if errors.Is(err, tasks.ErrNotFound) || err == nil && now.Request != f.request {
			return l, f.gone(ctx)
		}
		if f.answered(ctx, err) {
			l = now
		}
	}
	return l, nil
}

// gone is the error of a set that was there.
func (f *follower) gone(ctx context.Context) error {
	f.answered(ctx, nil)
	return failf(statusFailure, "%s is gone: Redis has lost it", f.number)
}

// answered reports whether Redis did. Where it did not, a while has passed when
// answered returns.
func (f *follower) answered(ctx context.Context, err error) bool {
	switch {
	case err == nil && f.away:
		f.away = false
		f.log.Info("redis is back")
	case err != nil && ctx.Err() == nil:
		if !f.away {
			f.away = true
			f.log.WithField("err", err).Warn("redis is away, trying again")
		}
		pause.For(ctx, retryEvery)
	}
	return err == nil
}
