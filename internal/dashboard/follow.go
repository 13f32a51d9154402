package dashboard

import (
	"context"
	"strings"
	"time"

	"github.com/musterhq/muster/tasks"
)

const (
	eventsPage  = 500
	eventsBlock = 500 * time.Millisecond // a cancelled context does not interrupt the wait
)

// follow reads the events as they come and passes them on, until ctx ends.
func (s *Server) follow(ctx context.Context) error {
	last := ""
	for ctx.Err() == nil {
		if last == "" {
			id, err := tasks.LastEvent(ctx, s.cfg.Reader)
			if err != nil {
				pause(ctx, time.Second)
				continue
			}
			last = id
		}
		events, err := tasks.Events(ctx, s.cfg.Reader, last, eventsPage, eventsBlock)
		if err != nil {
			pause(ctx, time.Second)
			continue
		}
		for _, e := range events {
			last = e.ID
			s.happened(e)
		}
	}
	return nil
}

// happened passes one event on to those whom it concerns.
func (s *Server) happened(e tasks.Event) {
	switch {
	case strings.HasPrefix(e.Type, "host."):
		s.hub.touch("roll", "news", "host:"+e.Host)
	case strings.HasPrefix(e.Type, "task."):
		s.sets.happened(e.Key)
	case e.Type == "request.rejected":
		s.rejected.happened(e)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
