package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

// longDeadline is that of the dispatches that are not to come to it.
const longDeadline = 120

// dispatch is one that was asked for.
type dispatch struct {
	key      string
	kind     string
	commands []string // command i leaves the mark key.i
	taken    bool     // Redis has said that it has the request; else it may or may not have it
	cancel   time.Duration
}

func (d *dispatch) mark(i int) string { return fmt.Sprintf("%s.%d", d.key, i) }

// dispatchAll asks for one dispatch after another until ctx ends.
func (c *chaos) dispatchAll(ctx context.Context) {
	rng := rand.New(rand.NewPCG(c.seed, 2))
	var cancelling sync.WaitGroup
	defer cancelling.Wait()
	for n := 0; ; n++ {
		d, fields := c.draw(rng, n)
		err := c.sys.DB.XAdd(ctx, &redis.XAddArgs{Stream: tasks.KeyRequests, Values: fields}).Err()
		if ctx.Err() != nil && err != nil {
			err = ctx.Err()
		}
		d.taken = err == nil
		c.mu.Lock()
		c.dispatches = append(c.dispatches, d)
		c.mu.Unlock()
		if d.taken && d.cancel > 0 {
			cancelling.Go(func() { c.cancel(ctx, d) })
		}
		if !pause.For(ctx, time.Duration(float64(time.Second)/c.rate)) {
			return
		}
	}
}

// draw makes up a dispatch.
func (c *chaos) draw(rng *rand.Rand, n int) (*dispatch, []any) {
	dice, count, nap := rng.IntN(100), 1+rng.IntN(3), rng.IntN(4)
	agents := c.sys.Hosts()
	rng.Shuffle(len(agents), func(i, j int) { agents[i], agents[j] = agents[j], agents[i] })
	some := agents[:1+rng.IntN(len(agents))]
	from := rng.IntN(c.hosts)
	for i := range min(10, c.hosts-from) {
		some = append(slices.Clip(some), c.swarm.ID(from+i))
	}
	after, short := between(rng, 50*time.Millisecond, 850*time.Millisecond), 1+rng.IntN(3)

	d := &dispatch{key: fmt.Sprintf("ACchaos-%d", n)}
	for i := range count {
		d.commands = append(d.commands, faults.EffectOf(d.mark(i), fmt.Sprintf("sleep 0.%d", nap)))
	}
	deadline, hosts, offline := longDeadline, some, "report"
	switch {
	case dice < 40:
		d.kind = "named"
	case dice < 55:
		d.kind, hosts = "all", nil
	case dice < 75:
		d.kind, offline = "waiting", "wait"
	case dice < 85:
		d.kind, deadline = "short", short
	default:
		d.kind, d.cancel = "cancelled", after
	}
	priorities := map[string]float64{}
	for i, line := range d.commands {
		priorities[line] = float64(-i)
	}
	fields := []any{"key", d.key, "commands", text(priorities), "deadline_s", deadline, "offline", offline}
	if hosts != nil {
		fields = append(fields, "hosts", text(hosts))
	}
	return d, fields
}

func text(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and finite numbers
	}
	return b
}

// cancel cancels a dispatch after a while, as often as it takes to get an answer.
func (c *chaos) cancel(ctx context.Context, d *dispatch) {
	for range 20 {
		if !pause.For(ctx, d.cancel) {
			return
		}
		err := c.store.Cancel(ctx, tasks.Number(d.key))
		if err == nil || errors.Is(err, tasks.ErrClosed) {
			return
		}
	}
}
