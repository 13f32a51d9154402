package faults

import (
	"fmt"
	"testing"
	"time"
)

// TestListenerKilled kills a listener while its agents run commands: what they had to
// report comes by the other one, or by its successor.
func TestListenerKilled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 2, Workers: 1, Agents: 6})
	for i := range 5 {
		if !f.dispatch(fmt.Sprintf("ACrun%d", i), "sleep 1") {
			t.Fatal("request not taken")
		}
	}
	f.eventually(10*time.Second, "commands that run", func() bool {
		n, err := f.DB.HGet(t.Context(), "{ACrun4}:meta", "working").Int()
		return err == nil && n > 0
	})
	f.Listeners[0].Kill()
	reported, err := Recount(t.Context(), f.DB, "ACrun0")
	f.must(err)
	f.pause(1500 * time.Millisecond) // commands end while there is nobody to tell
	f.must(f.Listeners[0].Start())
	for i := range 5 {
		f.dispatch(fmt.Sprintf("ACafter%d", i), "")
	}
	f.allDone(60 * time.Second)
	after, err := Recount(t.Context(), f.DB, "ACrun0")
	f.must(err)
	for host, results := range reported.Results {
		for command, r := range results {
			if after.Results[host][command] != r {
				t.Errorf("the result of %q on %s was %v and is %v", command, host, r, after.Results[host][command])
			}
		}
	}
}

// TestRollingRestart puts a new process in the place of each listener and each worker,
// one after another, as an upgrade does, while dispatches go on.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 2, Workers: 2, Agents: 6})
	stop := make(chan struct{})
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
		}
	})
	for _, p := range append(f.Workers[:2:2], f.Listeners...) {
		f.pause(time.Second)
		f.must(p.Stop())
		f.must(p.Start())
	}
	f.pause(time.Second)
	close(stop)
	ended()
	f.allDone(60 * time.Second)
	if len(f.asked) < 40 {
		t.Errorf("only %d dispatches, the load was too small", len(f.asked))
	}
	if n := f.events("host.offline"); n > 0 {
		t.Errorf("%d hosts went offline, though there was a listener at all times", n)
	}
	if n := f.events("task.unanswered"); n > 0 {
		t.Errorf("%d hosts did not answer", n)
	}
}
