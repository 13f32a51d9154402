package listener

import (
	"context"

	"github.com/musterhq/muster/tasks"
)

// arrivals is told of hosts that have come online, which task numbers may wait for.
type arrivals interface {
	Arrived(ctx context.Context, hosts []string) error
}

// arrivalSize is about what a host takes in memory until it is noted, without its name.
const arrivalSize = 50

// noteArrivals queues the hosts that have a new connection, or that the roll had lost.
// It does not wait for Redis: the welcome of an agent does not either.
func (s *Server) noteArrivals(presence []change, changed []tasks.Changed) {
	for i, c := range presence {
		switch got := changed[i].Verdict; {
		case c.kind == tasks.On && (got == tasks.CameOn || got == tasks.Held), c.kind == tasks.Hold && got == tasks.CameOn:
			s.arrived.put(c.ss.host, arrivalSize+len(c.ss.host))
		}
	}
}

// writeArrivals hands a batch of hosts on.
func (s *Server) writeArrivals(ctx context.Context, hosts []string) {
	s.insist(ctx, "arrived hosts not noted", func() error {
		return s.arrivals.Arrived(ctx, hosts)
	})
}
