package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
)

const waitPoll = 100 * time.Millisecond // how often Wait reads the ledger

// RejectedError says that a worker did not carry a request out, and why: its task
// number was in use, for instance.
type RejectedError struct {
	Request string
	Reason  string
}

func (e *RejectedError) Error() string { return "the request was rejected: " + e.Reason }

// Wait waits until no host of the set is open any more and returns its ledger. The
// counts say how it ended; what each host has printed is read with Store.Results.
//
// The error is a RejectedError if a worker rejected the request, ErrNotFound if Redis
// has lost it, ctx's, or what kept Redis from answering. The dispatch goes on all the
// same, and Wait can be called again. As long as no worker runs it waits.
func (c *Client) Wait(ctx context.Context, d Dispatched) (Ledger, error) {
	store := NewStore(c.rdb, StoreConfig{})
	inspector := asynq.NewInspectorFromRedisClient(c.rdb)
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for {
		l, err := c.outcome(ctx, d, store, inspector)
		if err != nil || l.Stage == Closed {
			return l, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return l, ctx.Err()
		}
	}
}

// outcome is the ledger as it is now; without a stage if there is none yet.
func (c *Client) outcome(ctx context.Context, d Dispatched, store *Store, inspector *asynq.Inspector) (Ledger, error) {
	l, err := store.ledgerOf(ctx, d)
	if err == nil || !errors.Is(err, ErrNotFound) {
		return l, err
	}
	job, err := inspector.GetTaskInfo(JobQueue, d.Request)
	switch {
	case errors.Is(err, asynq.ErrTaskNotFound), errors.Is(err, asynq.ErrQueueNotFound):
		// A job goes when it is done: since the ledger was read, or else it is lost.
		return store.ledgerOf(ctx, d)
	case err != nil:
		return Ledger{}, fmt.Errorf("job of request %s: %w", d.Request, err)
	case job.State == asynq.TaskStateArchived:
		return Ledger{}, &RejectedError{d.Request, job.LastErr}
	}
	return Ledger{}, nil
}

// ledgerOf is Ledger for the set of one request: one of another request is not found.
func (s *Store) ledgerOf(ctx context.Context, d Dispatched) (Ledger, error) {
	l, err := s.Ledger(ctx, d.Number)
	if err == nil && l.Request != d.Request {
		return Ledger{}, fmt.Errorf("%s of request %s: %w", d.Number, d.Request, ErrNotFound)
	}
	return l, err
}
