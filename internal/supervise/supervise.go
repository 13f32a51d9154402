// Package supervise keeps the long-lived services of a process up.
//
// A service that fails or panics is started again, after a wait that grows; a log line
// says so. One that fails too often is given up: then the process is to end, and says
// why. What does not depend on that service goes on until its owner stops it, so that
// the end has its usual order.
//
//	running ──fails──> waits ──> running
//	   │                 failed too often ──> given up: Failed is closed, Err says why
//	   ├──returns ErrDone> ended for good
//	   └──ctx ends─────> stopped
package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/thejerf/suture/v4"
)

// Pace is how patient a Supervisor is. Zero fields have their defaults.
type Pace struct {
	First time.Duration // wait before a service is started again; doubled by each further failure; 0 means 200ms
	Most  time.Duration // the longest such wait; 0 means 5s
	// A service with more failures than these is given up. A failure counts half after
	// Decay, a quarter after twice that, and so on. 0 means 5, and 30s.
	Failures float64
	Decay    time.Duration
}

func (p *Pace) fill() {
	if p.First == 0 {
		p.First = 200 * time.Millisecond
	}
	if p.Most == 0 {
		p.Most = 5 * time.Second
	}
	if p.Failures == 0 {
		p.Failures = 5
	}
	if p.Decay == 0 {
		p.Decay = 30 * time.Second
	}
}

// patience is after what time it is logged that a service does not end.
const patience = 30 * time.Second

// ErrDone is returned by a service that has nothing left to do. It is not started again.
var ErrDone = errors.New("done") // never changes

// Final makes err the end of its service at once: no new start would mend it.
func Final(err error) error { return &final{err} }

type final struct{ error }

func (f *final) Unwrap() error { return f.error }

// Error says that a service can't stay up.
type Error struct {
	Service string
	Times   int   // how often it failed, one soon after another
	Err     error // the last failure
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s can't stay up, it failed %d times in a short time, the last time with: %v", e.Service, e.Times, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Supervisor watches services, in one or more groups.
type Supervisor struct {
	log  logrus.FieldLogger
	pace Pace

	mu     sync.Mutex
	failed chan struct{}
	err    error
	gone   map[string]bool
	down   map[string]bool // services that have failed and do not run again yet
}

// New returns a Supervisor of nothing yet.
func New(log logrus.FieldLogger, pace Pace) *Supervisor {
	pace.fill()
	return &Supervisor{log: log, pace: pace, failed: make(chan struct{}), gone: map[string]bool{}, down: map[string]bool{}}
}

// Failed is closed when a service was given up.
func (s *Supervisor) Failed() <-chan struct{} { return s.failed }

// Err is why the first service was given up, nil while none is: an *Error, or what the
// service made Final.
func (s *Supervisor) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// GaveUp reports whether the service of that name was given up.
func (s *Supervisor) GaveUp(service string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone[service]
}

// Down are the names of the services that do not run, because they were given up or wait
// to be started again, in order. The log says why.
func (s *Supervisor) Down() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.down))
}

// Healthy returns nil while all services run, else an error that names those that do not,
// and who they are of.
func (s *Supervisor) Healthy(who string) error {
	if down := s.Down(); len(down) > 0 {
		return fmt.Errorf("%s: does not run: %s", who, strings.Join(down, ", "))
	}
	return nil
}

// fell notes that a service does not run, rose that it does again.
func (s *Supervisor) fell(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[service] = true
}

func (s *Supervisor) rose(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.down, service)
}

func (s *Supervisor) giveUp(service string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[service], s.down[service] = true, true
	if s.err == nil {
		s.err = err
		close(s.failed)
		return
	}
	s.log.WithError(err).WithField("service", service).Error("service given up") // the first is said by Err
}

// Group is services that end together.
type Group struct {
	sup    *Supervisor
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup // supervisors, and runs of services
}

// Group returns an empty group, whose services end when ctx does, or in Stop.
func (s *Supervisor) Group(ctx context.Context) *Group {
	g := &Group{sup: s}
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

// Go starts a service and keeps it up. It is to return when its ctx has ended, and
// whatever it returns before that is a failure, nil too, but for ErrDone. It is not called
// again before it has returned.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	s := &service{group: g, name: name, run: run}
	var ctx context.Context
	ctx, s.drop = context.WithCancel(g.ctx)
	pace := g.sup.pace
	// One supervisor each, because suture counts the failures of all that are under one.
	one := suture.New(name, suture.Spec{
		EventHook: s.heard, FailureThreshold: pace.Failures, FailureDecay: pace.Decay.Seconds(), Timeout: patience,
	})
	one.Add(s)
	g.all.Go(func() {
		defer s.drop()
		_ = one.Serve(ctx) // what became of the service is known from its own runs
	})
}

// Stop ends the services and waits for them. It may be called more than once.
func (g *Group) Stop() {
	g.cancel()
	g.all.Wait()
}

// service is one service in the hands of a suture.Supervisor. Its methods but heard are
// called by one goroutine after another.
type service struct {
	group *Group
	name  string
	run   func(context.Context) error
	drop  context.CancelFunc // ends its supervisor

	times int           // failures, one soon after another
	wait  time.Duration // before the next run
}

// String implements fmt.Stringer, for suture.
func (s *service) String() string { return s.name }

// failure is what a run came to. It hides the error in it from suture, which makes
// something of its own of some.
type failure struct {
	error
	times int
	wait  time.Duration
}

// Serve implements suture.Service: one run.
func (s *service) Serve(ctx context.Context) error {
	s.group.all.Add(1) // its supervisor, which is in all too, has started this
	defer s.group.all.Done()
	if s.times > 0 && !s.rest(ctx) {
		return nil
	}
	began := time.Now()
	err := Safely(func() error { return s.run(ctx) })
	var panicked *Panic
	switch {
	case ctx.Err() != nil:
		if errors.As(err, &panicked) {
			s.log().WithError(err).Error("service failed while it was to end")
			LogStack(s.log(), err)
		}
		return nil
	case errors.Is(err, ErrDone):
		return suture.ErrDoNotRestart
	case isFinal(err):
		s.group.sup.giveUp(s.name, err)
		return suture.ErrDoNotRestart
	case err == nil:
		err = errors.New("it has ended")
	}
	if time.Since(began) > s.group.sup.pace.Decay {
		s.times = 0
	}
	s.times++
	s.group.sup.fell(s.name)
	s.wait = min(s.group.sup.pace.First<<min(s.times-1, 20), s.group.sup.pace.Most)
	return &failure{err, s.times, s.wait}
}

// rest waits before a new run and reports whether there is to be one.
func (s *service) rest(ctx context.Context) bool {
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	s.group.sup.rose(s.name)
	s.log().Info("service started again")
	return true
}

func (s *service) log() logrus.FieldLogger { return s.group.sup.log.WithField("service", s.name) }

// heard takes what suture has to say.
func (s *service) heard(e suture.Event) {
	switch e := e.(type) {
	case suture.EventServiceTerminate:
		f, ok := e.Err.(*failure)
		if !ok {
			f = &failure{error: errors.New("it has ended")} // a run that called runtime.Goexit
		}
		if e.Restarting {
			s.log().WithError(f.error).WithField("wait", f.wait.String()).Error("service failed, it is started again")
		} else {
			s.group.sup.giveUp(s.name, &Error{s.name, f.times, f.error})
			s.drop()
		}
		LogStack(s.log(), f.error)
	case suture.EventStopTimeout:
		s.log().Warn("service does not end")
	}
}

// isFinal reports whether err is an end: what was made Final, or a service under this
// one that can't stay up, which had its new starts.
func isFinal(err error) bool {
	var f *final
	var under *Error
	return errors.As(err, &f) || errors.As(err, &under)
}

// Panic is a panic that was caught.
type Panic struct {
	Value any
	Stack string // where it was; for the log at level debug only
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Safely runs f and returns its error; a panic becomes a *Panic.
func Safely(f func() error) (err error) {
	defer Catch(&err)
	return f()
}

// Catch is to be deferred: it makes a panic an error, a *Panic.
func Catch(err *error) {
	if v := recover(); v != nil {
		*err = &Panic{Value: v, Stack: string(debug.Stack())}
	}
}

// LogStack logs at level debug where err panicked, nothing if it is no panic.
func LogStack(log logrus.FieldLogger, err error) {
	var p *Panic
	if errors.As(err, &p) {
		log.WithField("stack", p.Stack).Debug("where it panicked")
	}
}
