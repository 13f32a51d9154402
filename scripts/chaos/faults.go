package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/internal/pause"
)

// fault is one thing that is done to one part of the system. It heals what it did.
type fault struct {
	kind string
	of   string // what it has hold of
	do   func(ctx context.Context) error
}

// breakAll does one fault after another, some at the same time, until ctx ends; then it
// waits until all are healed.
func (c *chaos) breakAll(ctx context.Context) {
	rng := rand.New(rand.NewPCG(c.seed, 1))
	slots := make(chan struct{}, c.trouble)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		f := c.pick(rng)
		rest := between(rng, 100*time.Millisecond, 700*time.Millisecond)
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		if c.take(f.of) {
			all.Go(func() {
				defer func() { c.release(f.of); <-slots }()
				c.say("%s: %s", f.of, f.kind)
				c.counted(f.kind)
				if err := f.do(ctx); err != nil {
					c.mu.Lock()
					c.crashed = append(c.crashed, err.Error())
					c.mu.Unlock()
				}
				c.say("%s: healed", f.of)
			})
		} else {
			<-slots
		}
		if !pause.For(ctx, rest) {
			return
		}
	}
}

// pick draws as many numbers each time, so that the sequence is the seed's.
func (c *chaos) pick(rng *rand.Rand) fault {
	dice := rng.IntN(100)
	span := between(rng, 300*time.Millisecond, 3800*time.Millisecond)
	which, way := rng.IntN(1<<20), rng.IntN(3)
	one := func(list []*faults.Process) *faults.Process { return list[which%len(list)] }
	any3 := [][]*faults.Process{c.sys.Workers, c.sys.Listeners, c.sys.Agents}[way]
	switch {
	case dice < 15:
		return kill("worker killed", one(c.sys.Workers), span)
	case dice < 28:
		return kill("listener killed", one(c.sys.Listeners), span)
	case dice < 45:
		return kill("agent killed", one(c.sys.Agents), span)
	case dice < 60:
		return hold(one(any3), span)
	case dice < 68:
		return c.restart("worker restarted", one(c.sys.Workers))
	case dice < 76:
		return c.restart("listener restarted", one(c.sys.Listeners))
	case dice < 80:
		return c.restart("agent restarted", one(c.sys.Agents))
	case dice < 93:
		i := which % len(c.sys.Proxies)
		return c.network(c.sys.AgentID(i), c.sys.Proxies[i], way, span)
	default:
		return c.redisAway(span + span/2)
	}
}

func kill(kind string, p *faults.Process, d time.Duration) fault {
	return fault{kind, p.Name, func(ctx context.Context) error {
		p.Kill()
		pause.For(ctx, d)
		return p.Start()
	}}
}

func hold(p *faults.Process, d time.Duration) fault {
	return fault{"process held still", p.Name, func(ctx context.Context) error {
		if err := p.Pause(); err != nil {
			return err
		}
		pause.For(ctx, d)
		return p.Resume()
	}}
}

// restart ends a process in good order and starts it again. One that finds no Redis when
// it starts is on its way out with an error, and may do so just now.
func (c *chaos) restart(kind string, p *faults.Process) fault {
	return fault{kind, p.Name, func(context.Context) error {
		err := p.Stop()
		c.mu.Lock()
		excused := c.redisAwayLately()
		c.mu.Unlock()
		if err != nil && !excused {
			return err
		}
		return p.Start()
	}}
}

// network does something to all ways of an agent to its listeners.
func (c *chaos) network(agent string, ways []*faults.Proxy, how int, d time.Duration) fault {
	kind := [...]string{"network cut", "network slow", "network silent"}[how]
	return fault{kind, "network of " + agent, func(ctx context.Context) error {
		for _, w := range ways {
			var err error
			switch how {
			case 0:
				w.Cut()
			case 1:
				err = w.Delay(d / 10)
			case 2:
				err = w.Drop()
			}
			if err != nil {
				return err
			}
		}
		pause.For(ctx, d)
		for _, w := range ways {
			if err := w.Heal(); err != nil {
				return err
			}
		}
		return nil
	}}
}

// redisAway kills Redis for a while. What it had answered for is in its file.
func (c *chaos) redisAway(d time.Duration) fault {
	return fault{"redis killed", "redis", func(ctx context.Context) error {
		c.mu.Lock()
		c.redisBack = time.Time{}
		c.mu.Unlock()
		c.sys.Redis.Kill()
		pause.For(ctx, d)
		err := c.sys.Redis.Start()
		c.mu.Lock()
		c.redisBack = time.Now()
		c.mu.Unlock()
		return err
	}}
}
