package listener

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	waveEvery = 2 * time.Second
	waveLeast = 500 // connections that make a wave
)

// giveBack returns memory to the system after a wave of connections. A fleet that
// comes at once leaves several times of what its connections need behind, and an
// idle listener makes so little garbage that the runtime would keep it for minutes.
func (s *Server) giveBack(ctx context.Context) error {
	var seen, done int64
	return every(ctx, waveEvery, func() error {
		now := s.stats.Connections.Load()
		if now == seen && now-done >= waveLeast {
			debug.FreeOSMemory()
			done = now
		}
		seen = now
		return s.round("memory")
	})
}
