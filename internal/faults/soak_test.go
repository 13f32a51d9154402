package faults

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/swarm"
	"github.com/musterhq/muster/worker"
)

// TestNothingPilesUp dispatches two thousand times, as quickly as it is done, and looks
// what is left when all of it has expired: in Redis, in a listener and a worker of this
// process, whose goroutines can be counted, and in those that are processes, whose memory
// is what a user would see. It does not run beside other tests of the package: their
// goroutines would count.
func TestNothingPilesUp(t *testing.T) {
	// A set is gone so long after its deadline, closed or not: that has to leave a worker the
	// time to close it, on a machine that has much else to do, too.
	const hosts, keep, deadline = 4, 10, 20
	sys := newFixture(t, Config{Listeners: 1, Workers: 1, WorkerArgs: []string{"--keep", fmt.Sprintf("%ds", keep)}})
	f := &soak{newInsideOn(t, sys.DB, sys.Addrs, worker.Config{Keep: keep * time.Second}, swarm.Config{Hosts: hosts}), sys.System}

	// What is there from the first dispatch on is no growth: pools, counters of the day,
	// the stream of events, room for garbage. So the first count is taken after a fifth of
	// the load.
	f.dispatch("ACwarm", 400, deadline/2)
	f.expired("ACwarm", deadline/2+keep)
	before := f.stock()
	f.dispatch("ACsoak", 2000, deadline)
	f.expired("ACsoak", deadline+keep)
	after := f.stock()
	t.Logf("before: %+v, after: %+v", before, after)

	// Keys that muster has once come and go: an agenda with nothing on it is no key, a
	// queue with nothing in it neither. There are fewer of them than this.
	if after.keys > before.keys+8 {
		t.Errorf("%d keys in Redis, there were %d", after.keys, before.keys)
	}
	// Connections of the pool and what the runtime has going on: not one a dispatch.
	if after.goroutines > before.goroutines+10 {
		t.Errorf("%d goroutines, there were %d", after.goroutines, before.goroutines)
	}
	// The hosts here remember what they have run, a MiB of it; a kilobyte a dispatch would
	// be 2 MiB more.
	if after.heap > before.heap+3<<20 {
		t.Errorf("%d bytes live on the heap, there were %d", after.heap, before.heap)
	}
	// What a burst has needed the runtime gives back over minutes. Five times the load
	// must not need much more than the first.
	for name, was := range before.resident {
		if now := after.resident[name]; now > was+was/4+12<<20 {
			t.Errorf("%s has %d MiB of memory, it had %d", name, now>>20, was>>20)
		}
	}
}

type soak struct {
	*inside
	sys *System
}

// wave is how many sets are under way at the same time: a machine with much else to do has to
// be done with them before their deadline.
const wave = 400

// dispatch dispatches n times to every host, and waits until all sets are closed.
func (f *soak) dispatch(prefix string, n, deadline int) {
	f.Helper()
	for first := 0; first < n; first += wave {
		f.wave(prefix, first, min(wave, n-first), deadline)
	}
}

func (f *soak) wave(prefix string, first, n, deadline int) {
	f.Helper()
	last, err := f.rdb.XRevRangeN(f.Context(), "{muster}:events", "+", "-", 1).Result()
	if err != nil || len(last) == 0 {
		f.Fatalf("events: %d %v", len(last), err)
	}
	_, err = f.rdb.Pipelined(f.Context(), func(p redis.Pipeliner) error {
		for i := range n {
			p.XAdd(f.Context(), &redis.XAddArgs{Stream: "muster:requests", Values: []any{
				"key", fmt.Sprintf("%s%d", prefix, first+i), "commands", `{"true": 1}`, "deadline_s", deadline,
			}})
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	from, closed := last[0].ID, map[any]bool{} // an event may come twice
	f.eventually(patience, "all sets are closed", func() bool {
		events, err := f.rdb.XRangeN(f.Context(), "{muster}:events", "("+from, "+", 1000).Result()
		for _, e := range events {
			if from = e.ID; e.Values["type"] == "task.closed" {
				closed[e.Values["key"]] = true
			}
		}
		return err == nil && len(closed) == n
	})
}

// expired waits until nothing in Redis is left of the sets and of their jobs. Each worker
// has the job queue forget a hundred finished jobs a second.
func (f *soak) expired(prefix string, seconds int) {
	f.Helper()
	look := time.Now()
	f.eventually(time.Duration(seconds)*time.Second+time.Minute, "nothing is left of the sets", func() bool {
		if time.Since(look) < 500*time.Millisecond {
			return false // each look goes through all keys
		}
		look = time.Now()
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

type stock struct {
	keys       int64
	goroutines int
	heap       int64
	resident   map[string]int64 // by process
}

func (f *soak) stock() stock {
	f.Helper()
	s := stock{resident: map[string]int64{}}
	var err error
	if s.keys, err = f.rdb.DBSize(f.Context()).Result(); err != nil {
		f.Fatal(err)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.heap, s.goroutines = int64(m.HeapAlloc), runtime.NumGoroutine()
	for _, p := range []*Process{f.sys.Listeners[0], f.sys.Workers[0]} {
		if s.resident[p.Name], err = p.Memory(); err != nil {
			f.Fatal(err)
		}
	}
	return s
}
