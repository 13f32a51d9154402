// Package pause waits, but never longer than somebody wants the result.
package pause

import (
	"context"
	"time"
)

// For waits for d. It returns false, and at once, if ctx ends before that. No d, or one
// below zero, is over at once.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
