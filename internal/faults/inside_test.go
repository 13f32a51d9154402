package faults

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/swarm"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/worker"
)

// inside is a listener, a worker and a swarm in this process, for what can only be seen
// from within: goroutines, and what a host was sent when.
type inside struct {
	testing.TB
	rdb   *redis.Client
	swarm *swarm.Swarm
	stop  func() // ends all, in order, and waits
}

func newInside(t testing.TB, w worker.Config, s swarm.Config) *inside {
	t.Helper()
	return newInsideOn(t, redistest.OpenReal(t).Client, nil, w, s)
}

// newInsideOn has the swarm share its connections out among further listeners.
func newInsideOn(t testing.TB, rdb *redis.Client, further []string, w worker.Config, s swarm.Config) *inside {
	t.Helper()
	f := &inside{TB: t, rdb: rdb}
	w.Redis = rdb

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := listener.New(listener.Config{Redis: rdb})
	if err != nil {
		t.Fatal(err)
	}
	wrk, err := worker.New(w)
	if err != nil {
		t.Fatal(err)
	}
	s.Servers = append([]string{ln.Addr().String()}, further...)
	if f.swarm, err = swarm.New(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(what string, f func() error) {
		running.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	ready := make(chan struct{})
	run("listener", func() error { return srv.Serve(ctx, ln) })
	run("worker", func() error { return wrk.Run(ctx) })
	run("swarm", func() error { return f.swarm.Run(ctx, func() { close(ready) }) })
	f.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(f.stop)
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("the swarm is not connected within a minute")
	}
	f.eventually(patience, "the swarm is online", func() bool {
		n, err := f.rdb.HLen(t.Context(), "{muster}:online").Result()
		return err == nil && n == int64(s.Hosts)
	})
	return f
}

func (f *inside) eventually(most time.Duration, what string, done func() bool) {
	f.Helper()
	if err := Wait(f.Context(), most, what, done); err != nil {
		f.Fatal(err)
	}
}

func (f *inside) recount(key string) Account {
	f.Helper()
	a, err := Recount(f.Context(), f.rdb, key)
	if err != nil {
		f.Fatal(err)
	}
	return a
}
