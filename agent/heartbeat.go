package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/musterhq/muster/wire"
)

// minHeartbeat is the least that a welcome can make the agent wait.
const minHeartbeat = 10 * time.Millisecond

// heartbeat returns the time between two heartbeats: what the welcome says, in
// milliseconds, or else what is configured.
func heartbeat(configured time.Duration, welcomeMS int64) time.Duration {
	if welcomeMS <= 0 {
		return configured
	}
	// Anything beyond a day is a mistake that must not overflow.
	return max(time.Duration(min(welcomeMS, 86_400_000))*time.Millisecond, minHeartbeat)
}

// beatAfter returns when the next heartbeat is due: the interval, give or take a
// fifth, so that hosts that came together do not beat together. share is from
// [0, 1).
func beatAfter(interval time.Duration, share float64) time.Duration {
	return time.Duration(float64(interval) * (0.8 + 0.4*share))
}

// write writes until ctx ends: the host's information, what is asked, then the
// reports that are not confirmed, in the order of their numbers; new ones as they
// come; and a heartbeat at its time.
func (s *session) write(ctx context.Context) error {
	beat := time.NewTimer(beatAfter(s.interval, rand.Float64()))
	defer beat.Stop()
	for {
		if err := s.flush(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return s.flush(ctx) // the last reports of commands that were ended
		case <-s.woken:
		case <-beat.C:
			s.ask(wire.Heartbeat{})
			beat.Reset(beatAfter(s.interval, rand.Float64()))
		}
	}
}

// flush writes all that waits. What is small goes out together.
func (s *session) flush(ctx context.Context) error {
	for {
		s.mu.Lock()
		urgent := s.urgent
		s.urgent = nil
		s.mu.Unlock()
		var frames []byte
		for _, m := range urgent {
			frames = append(frames, wire.EncodeFrame(m)...)
		}
		for len(frames) < gathered {
			seq, body, ok := s.agent.journal.after(s.sent.Load())
			if !ok {
				break
			}
			s.sent.Store(seq) // before it leaves: the confirmation may be quick
			frames = wire.AppendFrame(frames, body)
		}
		if len(frames) == 0 {
			return nil
		}
		s.allow(ctx)
		if _, err := s.conn.Write(frames); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}
