package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/supervise"
)

// condition is how a worker is, as those see it who ask from outside.
type condition struct {
	services *supervise.Supervisor
	intake   *intake
	trouble  *outage.Watch
	queue    atomic.Bool // jobs are taken

	first sync.Once
	begun func() // called once, when requests and jobs are taken
}

// look is called when one of the two begins to be taken.
func (c *condition) look() {
	if c.intake.taking.Load() && c.queue.Load() {
		c.first.Do(c.begun)
	}
}

var errNotRunning = errors.New("worker: does not run") // never changes

// Healthy returns nil while all that runs inside the worker does, else an error that
// names what does not.
func (w *Worker) Healthy() error {
	c := w.condition.Load()
	if c == nil {
		return errNotRunning
	}
	return c.services.Healthy("worker")
}

// Ready returns nil if requests are taken and carried out. Otherwise it is an error, with
// a line for each thing that is wrong. It asks nobody.
func (w *Worker) Ready(context.Context) error {
	c := w.condition.Load()
	if c == nil {
		return errNotRunning
	}
	var wrong []error
	if !c.intake.taking.Load() {
		wrong = append(wrong, errors.New("worker: no requests are taken"))
	}
	if !c.queue.Load() {
		wrong = append(wrong, errors.New("worker: no jobs are taken"))
	}
	if c.trouble.On() {
		wrong = append(wrong, errors.New("worker: redis can't be worked with"))
	}
	return errors.Join(wrong...)
}
