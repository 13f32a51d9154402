package faults

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/swarm"
	"github.com/musterhq/muster/worker"
)

// TestNothingPilesUp dispatches two thousand times, as quickly as the worker takes it,
// and looks what is left of it when all of it has expired. It does not run beside other
// tests of the package: their goroutines would count.
func TestNothingPilesUp(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector keeps memory of its own for all that ever ran: scripts/test runs this one without it")
	}
	const hosts, keep, deadline = 3, 5, 10
	f := newInside(t, worker.Config{Keep: keep * time.Second}, swarm.Config{Hosts: hosts})

	// What is there from the first dispatch on is no growth: pools, counters of the day,
	// the stream of events, the race detector's own. So the first count is taken after a
	// fifth of the load.
	f.soak("ACwarm", 400, deadline/3)
	f.expired("ACwarm", deadline/3+keep)
	before := f.stock()
	f.soak("ACsoak", 2000, deadline)
	closed := f.count("task.closed")
	f.expired("ACsoak", deadline+keep)
	after := f.stock()
	t.Logf("before: %+v, after: %+v", before, after)

	if closed != 2400 {
		t.Errorf("%d sets were closed, want 2400", closed)
	}
	// Keys that muster has once come and go: an agenda with nothing on it is no key, a
	// queue with nothing in it neither. There are fewer of them than this.
	if after.keys > before.keys+8 {
		t.Errorf("%d keys in Redis, there were %d", after.keys, before.keys)
	}
	// Connections of the pool and what the runtime has going on: not one a dispatch.
	if after.goroutines > before.goroutines+10 {
		t.Errorf("%d goroutines, there were %d", after.goroutines, before.goroutines)
	}
	// A kilobyte a dispatch would be 2 MiB.
	if after.heap > before.heap+2<<20 {
		t.Errorf("%d bytes live on the heap, there were %d", after.heap, before.heap)
	}
	// What the system has not taken back is no leak, as long as it is used again.
	if after.resident > before.resident+before.resident/4+16<<20 {
		t.Errorf("%d bytes of resident memory, there were %d", after.resident, before.resident)
	}
}

// soak dispatches n times to every host, and waits until all sets are closed.
func (f *inside) soak(prefix string, n, deadline int) {
	f.Helper()
	closed := f.count("task.closed")
	_, err := f.rdb.Pipelined(f.Context(), func(p redis.Pipeliner) error {
		for i := range n {
			p.XAdd(f.Context(), &redis.XAddArgs{Stream: "muster:requests", Values: []any{
				"key", fmt.Sprintf("%s%d", prefix, i), "commands", `{"true": 1}`, "deadline_s", deadline,
			}})
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	f.eventually(2*time.Minute, "all sets are closed", func() bool { return f.count("task.closed") >= closed+n })
}

// expired waits until nothing in Redis is left of the sets and of their jobs. The job
// queue forgets a hundred finished jobs a second.
func (f *inside) expired(prefix string, seconds int) {
	f.Helper()
	f.eventually(time.Duration(seconds)*time.Second+time.Minute, "nothing is left of the sets", func() bool {
		for _, pattern := range []string{prefix + "*", "{" + prefix + "*", "asynq:{dispatch}:t:*"} {
			keys, err := f.rdb.Keys(f.Context(), pattern).Result()
			if err != nil || len(keys) > 0 {
				return false
			}
		}
		n, err := f.rdb.ZCard(f.Context(), "{muster}:sets").Result()
		return err == nil && n == 0
	})
}

func (f *inside) count(kind string) int {
	f.Helper()
	all, err := f.rdb.XRange(f.Context(), "{muster}:events", "-", "+").Result()
	if err != nil {
		f.Fatal(err)
	}
	keys := map[any]bool{} // an event may come twice
	for _, e := range all {
		if e.Values["type"] == kind {
			keys[e.Values["key"]] = true
		}
	}
	return len(keys)
}

type stock struct {
	keys           int64
	goroutines     int
	heap, resident int64
}

func (f *inside) stock() stock {
	f.Helper()
	var s stock
	var err error
	if s.keys, err = f.rdb.DBSize(f.Context()).Result(); err != nil {
		f.Fatal(err)
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.heap, s.goroutines = int64(m.HeapAlloc), runtime.NumGoroutine()
	if s.resident, err = residentMemory(os.Getpid()); err != nil {
		f.Fatal(err)
	}
	return s
}
