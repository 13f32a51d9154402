package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Healthy returns nil while all that runs inside the dashboard does, else an error that
// names what does not.
func (s *Server) Healthy() error {
	services := s.services.Load()
	if services == nil {
		return errors.New("dashboard: does not run")
	}
	return services.Healthy("dashboard")
}

// Ready returns nil if the page is true: the roll was read and Redis answers. Its error
// says what is missing.
func (s *Server) Ready(context.Context) error {
	switch away := s.contact.away(); {
	case away != nil && away.Refusal != nil:
		return fmt.Errorf("dashboard: redis refuses: %w", away.Refusal)
	case away != nil && away.Since.IsZero():
		return errors.New("dashboard: redis has not answered yet")
	case away != nil:
		return fmt.Errorf("dashboard: redis has not answered for %s", time.Since(away.Since).Round(time.Second))
	case s.contact.rollBroken() != nil:
		return fmt.Errorf("dashboard: redis refuses: %w", s.contact.rollBroken())
	case !s.fleet.known():
		return errors.New("dashboard: the roll has not been read yet")
	}
	return nil
}

// healthPage answers whoever watches over the process, as the address of its metrics does.
func healthPage(well func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := well(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, err.Error()+"\n")
			return
		}
		io.WriteString(w, "ok\n")
	}
}
