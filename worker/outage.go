package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// outage tells operators that something can't be done, and that it can be done
// again, once each and not at each try. Its methods are called by one goroutine.
type outage struct {
	log  logrus.FieldLogger
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
		o.log.WithError(err).WithField("what", o.what).Warn("can't reach Redis or can't work with it, trying on")
		o.wait = firstWait
	}
	pause(ctx, o.wait)
	o.wait = min(2*o.wait, mostWait)
}

// over notes a success.
func (o *outage) over() {
	if o.on.Swap(false) {
		o.log.WithField("what", o.what).Info("Redis works again")
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
