package listener

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

// condition is how a listener is, as those see it who ask from outside.
type condition struct {
	services  atomic.Pointer[supervise.Supervisor] // nil while it does not serve
	accepting atomic.Bool
	leased    atomic.Pointer[time.Time] // when the lease was last asked for and given
}

// Hosts is how many hosts are connected.
func (s *Server) Hosts() int { return s.members.count() }

// OpenConnections is how many connections are open, those that have not yet said who they
// are included.
func (s *Server) OpenConnections() int {
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	return len(s.members.all)
}

// Healthy returns nil while all that runs inside the listener does, else an error that
// names what does not.
func (s *Server) Healthy() error {
	services := s.condition.services.Load()
	if services == nil {
		return errors.New("listener: does not run")
	}
	return services.Healthy("listener")
}

// Ready returns nil if hosts can connect and count as online: connections are accepted,
// and the lease in Redis runs. Otherwise it is an error, with a line for each thing that
// is wrong. It asks nobody.
func (s *Server) Ready(context.Context) error {
	var wrong []error
	if !s.condition.accepting.Load() {
		wrong = append(wrong, errors.New("listener: connections are not accepted"))
	}
	if at := s.condition.leased.Load(); at == nil || time.Since(*at) >= tasks.LeaseTime {
		wrong = append(wrong, errors.New("listener: its lease in redis does not run"))
	}
	return errors.Join(wrong...)
}

// lease begins or renews the lease, as of says. It reports whether it was still running.
func (s *Server) lease(ctx context.Context, of func(context.Context, string) (bool, error)) (running bool, err error) {
	asked := time.Now()
	if running, err = of(ctx, s.cfg.ID); err == nil {
		s.condition.leased.Store(&asked)
	}
	return running, err
}
