package faults

import (
	"fmt"
	"testing"
	"time"
)

// TestRedisKilledUnderLoad kills Redis for 6 s in the midst of dispatches. What it had
// answered for is in its file, and nothing of it is lost.
func TestRedisKilledUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 1, Workers: 1, Agents: 4, Lasting: true})
	for i := range 20 {
		if !f.dispatch(fmt.Sprintf("ACbefore%d", i), "sleep 0.2") {
			t.Fatal("request not taken")
		}
	}
	f.Redis.Kill()
	f.pause(6 * time.Second)
	f.must(f.Redis.Start())
	for i := range 20 {
		if !f.dispatch(fmt.Sprintf("ACafter%d", i), "") {
			t.Fatal("request not taken")
		}
	}
	f.allDone()
	if n := f.events("host.offline"); n > 0 {
		t.Errorf("%d hosts went offline, though all were connected throughout", n)
	}
}

// TestRedisEmptied empties Redis under everything that runs: what was in it is gone, and
// what comes then is dispatched as ever.
func TestRedisEmptied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 2, Workers: 2, Agents: 4})
	for i := range 20 { // so many that both workers have had some, and know the queue for known
		f.dispatch(fmt.Sprintf("ACgone%d", i), "")
	}
	f.allDone()
	f.must(f.DB.FlushAll(t.Context()).Err())
	f.asked = map[string]bool{}
	f.must(f.Gathered(t.Context()))
	for i := range 10 {
		if !f.dispatch(fmt.Sprintf("ACnew%d", i), "") {
			t.Fatal("request not taken")
		}
	}
	f.eventually(patience, "all agents done", func() bool {
		for key := range f.asked {
			if !f.doneWith(key) {
				return false
			}
		}
		return true
	})
	// By then all has been written that whoever looks on goes by.
	if in, err := f.DB.SIsMember(t.Context(), "asynq:queues", "dispatch").Result(); err != nil || !in {
		t.Errorf("the job queue is not known any more: %v", err)
	}
	groups, err := f.DB.XInfoGroups(t.Context(), "muster:requests").Result()
	if err != nil || len(groups) != 1 || groups[0].Name != "muster" {
		t.Errorf("groups of the requests: %v %v", groups, err)
	}
	for i := range f.Agents {
		marks, err := f.Effects(i)
		f.must(err)
		for key := range f.asked {
			if marks[key] != 1 {
				t.Errorf("%s has run the command of %s %d times", f.AgentID(i), key, marks[key])
			}
		}
	}
}

// TestRedisEmptiedInTheMidst dispatches right after Redis was emptied, before the roll
// is back: hosts that are connected are told all the same.
func TestRedisEmptiedInTheMidst(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 1, Workers: 1, Agents: 2})
	f.must(f.DB.FlushAll(t.Context()).Err())
	if !f.dispatch("ACnow", "") {
		t.Fatal("request not taken")
	}
	f.allDone()
}

// TestRollHalfBack starts a worker when Redis was emptied and one of two listeners is
// back on the roll: the hosts of the other one are told, too.
func TestRollHalfBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Listeners: 2, Workers: 1, Agents: 4})
	ctx := t.Context()
	f.Workers[0].Kill()
	f.must(f.Listeners[1].Pause())
	f.must(f.DB.FlushAll(ctx).Err())
	f.eventually(patience, "one listener is back", func() bool { return f.DB.ZCard(ctx, "{muster}:listeners").Val() == 1 })
	if !f.DB.Expire(ctx, "{muster}:rebuilding", 20*time.Second).Val() { // the machine may be slow
		t.Error("nobody is told that the roll was lost")
	}
	if !f.dispatch("AChalf", "") {
		t.Fatal("request not taken")
	}
	f.must(f.Workers[0].Start())
	f.eventually(patience, "the dispatch is under way", func() bool { return f.DB.ZCard(ctx, "{muster}:jobs").Val() == 1 })
	f.pause(3 * time.Second) // a worker that believed the roll would have told who is there
	f.must(f.Listeners[1].Resume())
	f.allDone()
}
