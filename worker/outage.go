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

	mu sync.Mutex
	of map[*outage]bool // the parts that are in it
}

// part returns what one part of the worker tells of its failures.
func (t *trouble) part(what string) *outage { return &outage{all: t, what: what} }

func (t *trouble) begin(o *outage, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[*outage]bool{}
	}
	if len(t.of) == 0 {
		t.log.WithError(err).WithField("what", o.what).Warn("can't reach Redis or can't work with it, trying on")
	}
	t.of[o] = true
}

func (t *trouble) end(o *outage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.of, o); len(t.of) == 0 {
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

// over notes a success.
func (o *outage) over() {
	if o.on.Swap(false) {
		o.all.end(o)
	}
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
