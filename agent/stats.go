package agent

import (
	"context"
	"errors"
	"sync/atomic"
)

// Stats counts what an agent has done since it was made.
type Stats struct {
	Told       atomic.Int64 // datagrams and pushes that named a task number
	Unreadable atomic.Int64 // datagrams that could not be read
	Ended      atomic.Int64 // commands that have ended by themselves with exit code 0
	Failed     atomic.Int64 // commands that have ended otherwise, or did not start
	Connected  atomic.Int64 // connections that a listener has welcomed
}

// Stats returns the counters, which go on counting.
func (a *Agent) Stats() *Stats { return &a.stats }

// Sets is how many task sets run or wait for their turn.
func (a *Agent) Sets() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.running)
}

// Connected reports whether a listener has welcomed the agent and is still connected.
func (a *Agent) Connected() bool { return a.session.Load() != nil }

// Ready returns nil while a listener is connected: only then does the host count as
// online.
func (a *Agent) Ready(context.Context) error {
	if !a.Connected() {
		return errors.New("agent: no listener is connected")
	}
	return nil
}
