package main

import (
	"bufio"
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// Whether a number was sent is not to be read from hosts that are offline, waited for or
// not.
func TestHeardOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stage  tasks.Stage
		counts map[tasks.State]int64
		want   bool
	}{
		{tasks.Open, map[tasks.State]int64{tasks.Waiting: 2}, false},
		{tasks.Open, map[tasks.State]int64{tasks.Waiting: 2, tasks.Sent: 1, tasks.Offline: 1}, false},
		{tasks.Open, map[tasks.State]int64{tasks.Waiting: 2, tasks.Acknowledged: 1}, true},
		{tasks.Open, map[tasks.State]int64{tasks.Sent: 2, tasks.Unanswered: 1}, true},
		{tasks.Closed, nil, true},
	} {
		if got := heardOf(tasks.Ledger{Stage: c.stage, Counts: c.counts}); got != c.want {
			t.Errorf("%s %v: %v", c.stage, c.counts, got)
		}
	}
}

// A dispatch whose set is cancelled before its hosts are written ends with that, and
// does not say that nobody is online.
func TestDispatchCancelledEarly(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	ctx, store := t.Context(), tasks.NewStore(srv.Client, tasks.StoreConfig{})
	request := tasks.Request{
		Key: "AC1", Hosts: []string{"web-1"}, Commands: []tasks.Command{{Line: "a"}}, Timeout: time.Second, Deadline: time.Hour,
	}
	var worker sync.WaitGroup
	defer worker.Wait()
	worker.Go(func() { // takes the job, and is cancelled on the way
		redistest.Eventually(t, "the job", func() bool {
			job, err := srv.Client.LIndex(ctx, "asynq:{"+tasks.JobQueue+"}:pending", 0).Result()
			if err == nil {
				_, err = store.Prepare(ctx, job, request)
			}
			return err == nil && store.Cancel(ctx, "AC1") == nil
		})
	})
	var out bytes.Buffer
	d := newDelivery(srv.Client, nil, &printer{w: bufio.NewWriter(&out)})
	d.patience = time.Minute
	err := d.run(ctx, request)
	if s, _ := read(err); s != statusCancelled || out.String() != "AC1  cancelled before it had a host\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}
