package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// trouble tells operators that Redis can't be worked with, and that it can be again,
// once each, whatever number of a worker's parts find it out.
type trouble struct {
	log logrus.FieldLogger

	on atomic.Bool // it was told of, and its end was not

	mu    sync.Mutex
	of    map[*outage]bool // the parts that are in it
	clear time.Time        // since when none is
}

// settled is how long no part may have failed before the end is told: they find out one
// after another that Redis is back, and one may do so with a connection that is broken.
const settled = time.Second

// part returns what one part of the worker tells of its failures.
func (t *trouble) part(what string) *outage { return &outage{all: t, what: what} }

func (t *trouble) begin(o *outage, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[*outage]bool{}
	}
	if !t.on.Swap(true) {
		t.log.WithError(err).WithField("what", o.what).Warn("can't reach Redis or can't work with it, trying on")
	}
	t.of[o] = true
}

func (t *trouble) end(o *outage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.of, o); len(t.of) == 0 {
		t.clear = time.Now()
	}
}

// settle tells the end of it when no part has failed for a while.
func (t *trouble) settle() {
	if !t.on.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.of) == 0 && time.Since(t.clear) >= settled && t.on.Swap(false) {
		t.log.Info("Redis works again")
	}
}

// outage is what one part of a worker finds of Redis. Its methods but on are called by
// one goroutine.
type outage struct {
	all  *trouble
	what string // "requests": what can't be had
	on   atomic.Bool
	wait time.Duration // before the next try
}

const (
	firstWait = 50 * time.Millisecond
	mostWait  = time.Second
)

// failed notes one more failure and waits before the next try, longer each time.
func (o *outage) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // the end of ctx is no outage
	}
	if !o.on.Swap(true) {
		o.all.begin(o, err)
		o.wait = firstWait
	}
	pause(ctx, o.wait)
	o.wait = min(2*o.wait, mostWait)
}

// over notes a success. It is called with each one.
func (o *outage) over() {
	if o.on.Swap(false) {
		o.all.end(o)
	}
	o.all.settle()
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
