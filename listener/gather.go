package listener

import (
	"context"
	"sync"
	"time"
)

const (
	// A batch is written at once if the last one was begun this long ago, else when
	// that time is over: one message waits for nothing, and ten thousand in a second
	// are fifty round trips.
	gatherTime = 20 * time.Millisecond
	// A batch has at most this many items.
	gatherMost = 4000
	// So much may wait, in bytes, before connections are no longer read. It is
	// reached only while Redis is away.
	gatherRoom = 64 << 20
)

// gather collects items from many goroutines and hands them on in batches, one
// batch at a time, in the order in which they came.
type gather[T any] struct {
	limit int // bytes that may wait; set before use

	mu    sync.Mutex
	items []sized[T]
	bytes int           // of items and batch
	batch []sized[T]    // that is being written
	busy  bool          // it is
	wake  chan struct{} // holds one when there is something to do
	moved chan struct{} // closed and made anew when a batch is done
}

type sized[T any] struct {
	item T
	size int
}

func newGather[T any]() *gather[T] {
	return &gather[T]{limit: gatherRoom, wake: make(chan struct{}, 1), moved: make(chan struct{})}
}

// put adds an item of about size bytes. It never waits.
func (g *gather[T]) put(item T, size int) {
	g.mu.Lock()
	g.add(item, size)
	g.mu.Unlock()
}

// add needs the lock.
func (g *gather[T]) add(item T, size int) {
	g.items = append(g.items, sized[T]{item, size})
	g.bytes += size
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// offer adds an item once there is room for it. It returns an error if ctx ends
// before that.
func (g *gather[T]) offer(ctx context.Context, item T, size int) error {
	for {
		g.mu.Lock()
		moved := g.moved
		full := g.bytes > g.limit
		if !full {
			g.add(item, size)
		}
		g.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// full reports whether there is no room for more.
func (g *gather[T]) full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes > g.limit
}

// drain waits until all that was put is written, or ctx ends.
func (g *gather[T]) drain(ctx context.Context) {
	for {
		g.mu.Lock()
		idle, moved := len(g.items) == 0 && !g.busy, g.moved
		g.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		}
	}
}

// run hands batches to write until ctx ends. What write does not manage by then is
// dropped with the rest. If write fails or panics, what it has not settled goes back to
// the front: the next run takes it again.
func (g *gather[T]) run(ctx context.Context, write func(context.Context, []T) error) error {
	defer g.giveBack()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.wake:
		}
		if wait := gatherTime - time.Since(last); wait > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
		}
		last = time.Now()
		batch, more := g.take()
		if more {
			last = time.Time{} // a full batch is reason enough for the next one
			select {
			case g.wake <- struct{}{}:
			default:
			}
		}
		if len(batch) > 0 {
			if err := write(ctx, batch); err != nil {
				return err
			}
		}
		g.done()
	}
}

func (g *gather[T]) take() (batch []T, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.items), gatherMost)
	g.batch = g.items[:n:n]
	batch = make([]T, n)
	for i, it := range g.batch {
		batch[i] = it.item
	}
	if g.items = g.items[n:]; len(g.items) == 0 {
		g.items = nil // a burst's memory is not kept for the calm after it
	}
	g.busy = true
	return batch, g.items != nil
}

// settled says of the first n of the batch that is being written, and is not settled
// yet, that they are done with.
func (g *gather[T]) settled(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, it := range g.batch[:n] {
		g.bytes -= it.size
	}
	g.batch = g.batch[n:]
}

// done settles the rest of the batch.
func (g *gather[T]) done() {
	g.settled(len(g.batch))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy, g.batch = false, nil
	close(g.moved)
	g.moved = make(chan struct{})
}

// giveBack puts what is left of a batch whose write was cut short before the rest.
func (g *gather[T]) giveBack() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.busy {
		return
	}
	g.items = append(g.batch, g.items...)
	g.busy, g.batch = false, nil
	select {
	case g.wake <- struct{}{}:
	default:
	}
}
