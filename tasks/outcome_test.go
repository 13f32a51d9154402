package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// waiting calls Wait beside the test and gives what it returns.
func (f fixture) waiting(ctx context.Context, d tasks.Dispatched) func() (tasks.Ledger, error) {
	type end struct {
		l   tasks.Ledger
		err error
	}
	ended := make(chan end, 1)
	go func() {
		l, err := tasks.NewClient(f.rdb).Wait(ctx, d)
		ended <- end{l, err}
	}()
	return func() (tasks.Ledger, error) {
		e := <-ended
		return e.l, e.err
	}
}

// work runs a queue server that treats jobs as handle says, as a worker would.
func (f fixture) work(handle asynq.HandlerFunc) {
	f.Helper()
	srv := asynq.NewServerFromRedisClient(f.rdb, asynq.Config{
		Queues: map[string]int{tasks.JobQueue: 1}, TaskCheckInterval: 5 * time.Millisecond, LogLevel: asynq.FatalLevel,
	})
	f.must(srv.Start(handle))
	f.Cleanup(srv.Shutdown)
}

// Wait ends when the set is closed, from the job on that no worker has taken yet.
func TestWait(t *testing.T) {
	t.Parallel()
	f := open(t)
	d, err := tasks.NewClient(f.rdb).Dispatch(t.Context(), who("web-1", "web-2"))
	f.must(err)
	end := f.waiting(t.Context(), d)
	r := request(d.Number, "a")
	f.work(func(ctx context.Context, _ *asynq.Task) error {
		_, err := f.store.Prepare(ctx, d.Request, r)
		if err == nil {
			_, err = f.store.Enlist(ctx, d.Number, []tasks.Enlisted{{Host: "web-1", State: tasks.Sent}, {Host: "web-2", State: tasks.Offline}})
		}
		if err == nil {
			_, err = f.store.Open(ctx, d.Number)
		}
		return err
	})
	redistest.Eventually(t, "an open set", func() bool {
		l, err := f.store.Ledger(t.Context(), d.Number)
		return err == nil && l.Stage == tasks.Open
	})
	_, err = f.store.Report(t.Context(), []tasks.Report{ended(d.Number, "web-1", "a", 0)})
	f.must(err)
	l, err := end()
	if err != nil || l.Stage != tasks.Closed || l.Counts[tasks.Done] != 1 || l.Counts[tasks.Offline] != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	// And again, with the job long gone.
	if l, err := tasks.NewClient(f.rdb).Wait(t.Context(), d); err != nil || l.Stage != tasks.Closed {
		t.Errorf("again: %+v, %v", l, err)
	}
}

// A rejected request has no ledger, and its number may be another request's.
func TestWaitForARejectedRequest(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.set("AC1", "a", "web-1 sent") // of another request, and still open
	d, err := tasks.NewClient(f.rdb).Dispatch(t.Context(), patch{commands: one, key: "AC1"})
	f.must(err)
	end := f.waiting(t.Context(), d)
	f.work(func(context.Context, *asynq.Task) error {
		return fmt.Errorf("task number AC1 is in use%w", endOfRetries{})
	})
	_, err = end()
	var rejected *tasks.RejectedError
	if !errors.As(err, &rejected) || rejected.Request != d.Request || err.Error() != "the request was rejected: task number AC1 is in use" {
		t.Errorf("%v", err)
	}
}

// endOfRetries is asynq.SkipRetry without its text.
type endOfRetries struct{}

func (endOfRetries) Error() string { return "" }
func (endOfRetries) Unwrap() error { return asynq.SkipRetry }

func TestWaitEndsOtherwise(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	d, err := client.Dispatch(t.Context(), who("web-1"))
	f.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	end := f.waiting(ctx, d)
	cancel()
	if _, err := end(); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	f.must(f.rdb.FlushAll(t.Context()).Err())
	if _, err := client.Wait(t.Context(), d); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("Redis was emptied: %v", err)
	}
	// The same client goes on in the emptied Redis, with no worker about.
	d, err = client.Dispatch(t.Context(), who("web-1"))
	f.must(err)
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Wait(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in the emptied Redis: %v", err)
	}
}
