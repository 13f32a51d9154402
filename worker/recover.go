package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

const (
	listenersEvery = 100 * time.Millisecond
	listenersGood  = 5 // looks in a row that find all leases running
	// A Redis that has come back empty knows of no listener until it renews its lease,
	// and nobody knows how many there are: when that time is over all have done it.
	listenersFirst = tasks.RebuildTime
	// How long a worker that has never seen a listener waits for one to answer its call.
	// One that is connected to Redis does within milliseconds.
	listenersCalled = time.Second
)

// emptied is when it was found that Redis had lost what it held. Its zero value says
// that it has not.
type emptied struct {
	mu sync.Mutex
	at time.Time
}

// note says that it was found just now.
func (e *emptied) note() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at = time.Now()
}

// wait waits until all listeners have had the time to renew their leases since.
func (e *emptied) wait(ctx context.Context) {
	e.mu.Lock()
	at := e.at
	e.mu.Unlock()
	if left := listenersFirst - time.Since(at); !at.IsZero() && left > 0 {
		pause.For(ctx, left)
	}
}

// noteEmptied has dispatches wait for the listeners, and these say again at once who is
// connected.
func (d *dispatcher) noteEmptied(ctx context.Context) {
	d.emptied.note()
	d.callListeners(ctx)
}

func (d *dispatcher) callListeners(ctx context.Context) {
	if err := d.roll.Call(ctx); err != nil {
		d.log.WithError(err).Debug("listeners not called, they come by themselves")
	}
}

// doubt is what a worker goes by when the roll has no listener.
type doubt struct {
	sync.Mutex // one run doubts for all that go at the same time

	saw     atomic.Bool // the roll had a listener when it was last looked at
	settled bool        // there was none, and none came when they were called
}

// view is the roll as it is to be believed.
func (d *dispatcher) view(ctx context.Context) (*tasks.View, error) {
	for {
		if err := d.awaitListeners(ctx); err != nil {
			return nil, err
		}
		view, err := d.look(ctx)
		if err == nil && view.Listeners() == 0 {
			view, err = d.doubted(ctx)
		}
		if err != nil || view.Rebuilding() <= 0 {
			return view, err
		}
		// Some of the listeners are back, and others may not be.
		pause.For(ctx, view.Rebuilding())
	}
}

// doubted is the roll that a worker believes after a look that found no listener.
func (d *dispatcher) doubted(ctx context.Context) (*tasks.View, error) {
	d.doubt.Lock()
	defer d.doubt.Unlock()
	return d.lookTwice(ctx)
}

// lookTwice is for a roll without any listener. Where there was one, it is more likely
// a roll that was lost a moment ago than one of a fleet all of whose listeners have
// stopped: they are called and waited for, once. A worker that has not seen one yet can't
// know whether there was one. It calls too, once, and waits a moment for an answer.
func (d *dispatcher) lookTwice(ctx context.Context) (*tasks.View, error) {
	view, err := d.look(ctx)
	if err != nil || view.Listeners() > 0 {
		return view, err
	}
	saw := d.doubt.saw.Load()
	if !saw && d.doubt.settled {
		return view, nil
	}
	d.callListeners(ctx)
	if !saw {
		view, err = d.listenersAnswer(ctx)
		d.doubt.settled = err == nil
		return view, err
	}
	d.emptied.note()
	if err := d.awaitListeners(ctx); err != nil {
		return nil, err
	}
	if view, err = d.look(ctx); err == nil && view.Listeners() == 0 {
		d.doubt.saw.Store(false)
		d.doubt.settled = true
	}
	return view, err
}

// look reads the roll, and remembers that there are listeners.
func (d *dispatcher) look(ctx context.Context) (*tasks.View, error) {
	view, err := d.roll.View(ctx)
	if err == nil && view.Listeners() > 0 {
		d.doubt.saw.Store(true)
	}
	return view, err
}

// listenersAnswer is the roll with the first listener that has answered the call, or
// without any after a moment. One that had lost its lease says that there may be more.
func (d *dispatcher) listenersAnswer(ctx context.Context) (*tasks.View, error) {
	for end := time.Now().Add(d.answerIn); ; pause.For(ctx, listenersEvery) {
		view, err := d.look(ctx)
		if err != nil || view.Listeners() > 0 || time.Now().After(end) {
			return view, err
		}
	}
}

// awaitListeners waits, after Redis was away or emptied, until the listeners have
// renewed their leases and said again who is connected, or have had the time for it.
// Without that a fleet that was online throughout would be taken for offline, for good.
func (d *dispatcher) awaitListeners(ctx context.Context) error {
	d.emptied.wait(ctx)
	began := time.Now()
	for good := 0; good < listenersGood && d.recovering(); pause.For(ctx, listenersEvery) {
		if err := ctx.Err(); err != nil {
			return err
		}
		running, all, err := d.listeners(ctx)
		if err != nil {
			return err
		}
		if all == 0 && time.Since(began) > listenersFirst {
			return nil
		}
		if good++; all == 0 || running < all {
			good = 0
		}
	}
	return ctx.Err()
}

// listeners counts the listeners whose lease runs, and all that have one.
func (d *dispatcher) listeners(ctx context.Context) (running, all int, err error) {
	view, err := d.roll.View(ctx)
	if err != nil {
		return 0, 0, err
	}
	leases, err := d.roll.Leases(ctx)
	return view.Listeners(), len(leases), err
}
