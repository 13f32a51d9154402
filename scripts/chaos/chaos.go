package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/swarm"
	"github.com/musterhq/muster/tasks"
)

// chaos is a system, what is done to it, and what it was asked to do.
type chaos struct {
	options
	began time.Time
	sys   *faults.System
	swarm *swarm.Swarm
	store *tasks.Store
	ended func() error // ends the swarm
	out   io.Writer

	mu         sync.Mutex
	dispatches []*dispatch
	done       map[string]int  // faults by kind
	busy       map[string]bool // what a fault has hold of
	crashed    []string        // who ended without being asked to
	redisBack  time.Time       // when Redis was last started; zero while it is away
}

func start(ctx context.Context, o options, dir string, out io.Writer) (*chaos, error) {
	binary, err := faults.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	redis.SetLogger(silent{}) // it would say at every try that Redis is away
	c := &chaos{options: o, out: out, done: map[string]int{}, busy: map[string]bool{}, began: time.Now(), redisBack: time.Now()}
	c.sys, err = faults.Start(ctx, faults.Config{
		Dir: dir, Binary: binary, Lasting: true, Listeners: 2, Workers: 2, Agents: o.agents, Proxied: o.agents / 2,
		WorkerArgs: []string{"--retry-after", o.retry.String()},
	})
	if err != nil {
		return nil, err
	}
	c.store = tasks.NewStore(c.sys.DB, tasks.StoreConfig{})
	c.swarm, err = swarm.New(swarm.Config{
		Servers: c.sys.Addrs, Hosts: o.hosts, Count: true, Return: true,
		Lose: func(host, nth int) bool {
			return rand.New(rand.NewPCG(o.seed, uint64(host)<<32|uint64(nth))).Float64() < o.loss
		},
	})
	if err != nil {
		c.sys.Close()
		return nil, err
	}
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() { ended <- c.swarm.Run(within, func() { close(ready) }) }()
	c.ended = func() error {
		cancel()
		return <-ended
	}
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		c.sys.Close()
		return nil, fmt.Errorf("hosts: %w", err)
	}
	return c, nil
}

func (c *chaos) close() {
	_ = c.ended() // it was connected, and that is all that can fail
	c.sys.Close()
}

func (c *chaos) say(format string, args ...any) {
	if c.verbose {
		fmt.Fprintf(c.out, "%7.2f  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// whole is the whole run: the mix, the healing and the count.
func (c *chaos) whole(ctx context.Context) (*verdict, error) {
	mix, stop := context.WithTimeout(ctx, time.Duration(c.seconds)*time.Second)
	defer stop()
	keep, unkeep := context.WithCancel(ctx)
	defer unkeep()
	var mixing, keeping sync.WaitGroup
	mixing.Go(func() { c.dispatchAll(mix) })
	mixing.Go(func() { c.breakAll(mix) })
	keeping.Go(func() { c.keepUp(keep) })
	mixing.Wait() // each fault has healed what it did
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.say("all is healed")
	v, err := c.settle(ctx)
	unkeep()
	keeping.Wait()
	return v, err
}

// processes are all but Redis.
func (c *chaos) processes() []*faults.Process {
	return slices.Concat(c.sys.Listeners, c.sys.Workers, c.sys.Agents)
}

// keepUp starts what has ended by itself, as the system's supervisor would: a listener
// and a worker do not start while Redis is away.
func (c *chaos) keepUp(ctx context.Context) {
	for {
		for _, p := range c.processes() {
			c.mu.Lock()
			hold := c.busy[p.Name]
			if !hold && !p.Running() {
				if c.redisAwayLately() {
					c.done["start again, Redis was away"]++
				} else {
					c.crashed = append(c.crashed, p.Name)
				}
				if err := p.Start(); err != nil {
					c.crashed = append(c.crashed, err.Error())
				}
			}
			c.mu.Unlock()
		}
		if !pause.For(ctx, 300*time.Millisecond) {
			return
		}
	}
}

// redisAwayLately reports whether a process that has just started may have found no
// Redis. c.mu is held.
func (c *chaos) redisAwayLately() bool {
	return c.redisBack.IsZero() || time.Since(c.redisBack) < 10*time.Second
}

// take takes hold of something, unless another fault has it.
func (c *chaos) take(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[name] {
		return false
	}
	c.busy[name] = true
	return true
}

func (c *chaos) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, name)
}

func (c *chaos) counted(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[kind]++
}

// faultsDone lists the faults and how often each was.
func (c *chaos) faultsDone() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(c.done)) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, c.done[kind]))
	}
	return strings.Join(parts, ", ")
}

// silent says nothing.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}
