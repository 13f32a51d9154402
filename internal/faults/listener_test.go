package faults

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"
)

// TestListenerKilled kills a listener while its agents run commands, and while reports of
// theirs are on the way to it that it has not read: they come again, to the other one or
// to its successor.
func TestListenerKilled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 2, Workers: 1, Agents: 6})
	f.dispatch("ACbefore", "")
	f.allDone()
	f.eventually(patience, "the worker's last word on it", func() bool { // the hosts may be faster
		return f.DB.HExists(t.Context(), "{ACbefore}:meta", "announced").Val()
	})
	before, err := Recount(t.Context(), f.DB, "ACbefore")
	f.must(err)

	for i := range 5 {
		if !f.dispatch(fmt.Sprintf("ACrun%d", i), "sleep 1") {
			t.Fatal("request not taken")
		}
	}
	f.eventually(patience, "commands that run", func() bool {
		n, err := f.DB.HGet(t.Context(), "{ACrun4}:meta", "working").Int()
		return err == nil && n == len(f.Agents)
	})
	f.must(f.Listeners[0].Pause())
	f.must(f.Listeners[1].Pause())
	f.pause(2 * time.Second) // the commands end, and nobody reads that
	f.Listeners[0].Kill()
	f.must(f.Listeners[1].Resume())
	f.must(f.Listeners[0].Start())
	for i := range 5 {
		f.dispatch(fmt.Sprintf("ACafter%d", i), "")
	}
	f.allDone()
	after, err := Recount(t.Context(), f.DB, "ACbefore")
	f.must(err)
	if !reflect.DeepEqual(before, after) {
		t.Errorf("what was confirmed was %+v, and is %+v", before, after)
	}
}

// TestRollingRestart puts a new process in the place of each listener and each worker,
// one after another, as an upgrade does, while dispatches go on.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 2, Workers: 2, Agents: 6})
	stop := make(chan struct{})
	var taken atomic.Int64
	ended := later(t, func() error {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return nil
			case <-time.After(100 * time.Millisecond):
			}
			if !f.dispatch(fmt.Sprintf("ACroll%d", i), "sleep 0.1") {
				return fmt.Errorf("request %d not taken", i)
			}
			taken.Add(1)
		}
	})
	underLoad := func() {
		t.Helper()
		before := taken.Load()
		f.pause(time.Second)
		f.eventually(patience, "ten more dispatches", func() bool { return taken.Load() >= before+10 })
	}
	for _, p := range append(f.Workers[:2:2], f.Listeners...) {
		underLoad()
		f.must(p.Stop())
		f.must(p.Start())
	}
	underLoad()
	close(stop)
	ended()
	f.allDone()
	if n := f.events("host.offline"); n > 0 {
		t.Errorf("%d hosts went offline, though there was a listener at all times", n)
	}
	if n := f.events("task.unanswered"); n > 0 {
		t.Errorf("%d hosts did not answer", n)
	}
}
