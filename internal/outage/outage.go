// Package outage tells once that Redis can't be worked with, and once that it can again,
// whatever number of parts of the work find it out.
//
//	fine ──a part fails: Begin──> away ──every part that failed has worked: End──> fine
//
// A part may fail while another goes on: a full Redis, or one that is a replica, still
// answers what only reads.
package outage

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/pause"
)

// Config says what a Watch tells, and to whom. Begin and End are called one after another,
// in the order of what happened, by whoever finds it out; they must not call the Watch.
type Config struct {
	// Begin is called with the first failure: what part of the work found it, and how.
	Begin func(part string, err error)
	// End is called with the first success after which it is over.
	End func()
	// Settle is how long no part may have failed before it is over: parts find out one
	// after another that Redis is back, and one may do so with a connection that is
	// broken. 0: it is over at once.
	Settle time.Duration
}

// Watch knows of the parts of the work whether Redis fails them. Its methods may be called
// by many goroutines at the same time.
type Watch struct {
	cfg Config

	on atomic.Bool // Begin was called, and End not since

	mu      sync.Mutex
	failing map[string]bool // the parts that have failed and not yet worked
	clear   time.Time       // since when there is none
}

// New returns a Watch to which nothing has happened. Begin and End are required.
func New(cfg Config) *Watch {
	return &Watch{cfg: cfg, failing: map[string]bool{}}
}

// Failed says that Redis has failed a part of the work.
func (w *Watch) Failed(part string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.on.Swap(true) {
		w.cfg.Begin(part, err)
	}
	w.failing[part] = true
}

// Works says that a part of the work is done, or given up. It is called with each success,
// and costs nothing while nothing is wrong.
func (w *Watch) Works(part string) {
	if !w.on.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing[part] {
		delete(w.failing, part)
		w.clear = time.Now()
	}
	if len(w.failing) == 0 && time.Since(w.clear) >= w.cfg.Settle && w.on.Swap(false) {
		w.cfg.End()
	}
}

// On reports whether Redis can't be worked with, as far as was told.
func (w *Watch) On() bool { return w.on.Load() }

// The waits before a part that has failed tries again: the first, doubled by each further
// failure, and the longest.
const (
	firstWait = 50 * time.Millisecond
	mostWait  = time.Second
)

// Part is a part of the work that tries until Redis works. Failed and Works are called by
// one goroutine, On by any.
type Part struct {
	watch *Watch
	name  string
	on    atomic.Bool
	wait  time.Duration // before the next try
}

// Part returns the part of a name that no other part has.
func (w *Watch) Part(name string) *Part { return &Part{watch: w, name: name} }

// Failed says that Redis has failed this part, and waits before its next try: 50 ms, then
// longer each time, up to 1 s. It returns at once if ctx ends; an error after that is no
// failure.
func (p *Part) Failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if !p.on.Swap(true) {
		p.watch.Failed(p.name, err)
		p.wait = firstWait
	}
	pause.For(ctx, p.wait)
	p.wait = min(2*p.wait, mostWait)
}

// Works says that this part works. It is called with each success: that it is over is told
// with one of them, too.
func (p *Part) Works() {
	p.on.Store(false)
	p.watch.Works(p.name)
}

// On reports whether this part has failed and not yet worked.
func (p *Part) On() bool { return p.on.Load() }
