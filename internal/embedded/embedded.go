// Package embedded is a Redis inside the process, for a first look and for tests
// where no redis-server is about. It keeps nothing on disk, and what it holds is
// gone with it.
package embedded

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// agePeriod is how often the keys age. Each round costs about 1.5 ms at 10,000 keys.
const agePeriod = 100 * time.Millisecond

// Redis is a running embedded Redis.
type Redis struct {
	mini *miniredis.Miniredis
	stop chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// Start starts a Redis on a TCP address of this machine; port 0 takes a free one.
func Start(addr string) (*Redis, error) {
	mini := miniredis.NewMiniRedis()
	if err := mini.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	r := &Redis{mini: mini, stop: make(chan struct{})}
	mini.Server().SetPreHook(r.info(time.Now()))
	r.done.Add(1)
	go func() {
		defer r.done.Done()
		r.age()
	}()
	return r, nil
}

// Addr is the address on which it listens.
func (r *Redis) Addr() string { return r.mini.Addr() }

// Close ends it. It may be called more than once.
func (r *Redis) Close() {
	r.once.Do(func() {
		close(r.stop)
		r.done.Wait()
		r.mini.Close()
	})
}

// age takes off the keys' lives what has passed, because miniredis leaves the clock
// to its user.
func (r *Redis) age() {
	tick := time.NewTicker(agePeriod)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-r.stop:
			return
		case now := <-tick.C:
			r.mini.FastForward(now.Sub(last))
			last = now
		}
	}
}
