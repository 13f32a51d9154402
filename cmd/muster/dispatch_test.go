package main

import (
	"bufio"
	"bytes"
	"strings"
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

// A set that was cancelled before its hosts were written says so, and not that nobody is
// online.
func TestReportOfSetCancelledEarly(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	store := tasks.NewStore(srv.Client, tasks.StoreConfig{})
	_, err := store.Prepare(t.Context(), "r1", tasks.Request{
		Key: "AC1", Commands: []tasks.Command{{Line: "a"}}, Timeout: time.Second, Deadline: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Cancel(t.Context(), "AC1"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := newDelivery(srv.Client, nil, &printer{w: bufio.NewWriter(&out)})
	l, err := store.Ledger(t.Context(), "AC1")
	if err != nil {
		t.Fatal(err)
	}
	err = d.reportEnd(t.Context(), l)
	if s, _ := read(err); s != statusCancelled || strings.TrimSpace(out.String()) != "AC1  cancelled before it had a host" {
		t.Errorf("status %d, %q", s, out.String())
	}
}
