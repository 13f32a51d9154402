package dashboard

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

const (
	eventsPage  = 500
	eventsBlock = 500 * time.Millisecond // a cancelled context does not interrupt the wait
)

// follow reads the events as they come and passes them on, until ctx ends. It begins
// with the past, once the roll is known.
func (s *Server) follow(ctx context.Context) error {
	fails := failures{log: s.cfg.Log}
	last := ""
	whole := false      // what was before was held against the roll
	var quiet time.Time // since then no event has come
	for ctx.Err() == nil {
		var events []tasks.Event
		var err error
		switch {
		case !s.fleet.known() && s.contact.rollBroken() == nil:
			pause.For(ctx, 20*time.Millisecond)
			continue
		case !whole && s.fleet.known():
			whole, last = true, ""
			continue
		case last == "":
			var id string
			if id, err = tasks.LastEvent(ctx, s.cfg.Reader); err == nil {
				if err = s.recall(ctx, id); err == nil {
					last = id
				}
			}
		default:
			events, err = tasks.Events(ctx, s.cfg.Reader, last, eventsPage, eventsBlock)
		}
		if fails.seen(err, "events can't be read, trying on"); err != nil {
			pause.For(ctx, time.Second)
			continue
		}
		for _, e := range events {
			last = e.ID
			s.happened(e)
		}
		if now := time.Now(); len(events) > 0 || quiet.IsZero() {
			quiet = now
		} else if now.Sub(quiet) > s.fleet.pace.lookBack {
			quiet = now
			if id, err := tasks.LastEvent(ctx, s.cfg.Reader); err == nil && later(last, id) {
				last = "" // Redis was emptied, or is another one: its ids may begin lower
				s.forgotten()
			}
		}
	}
	return nil
}

// happened passes one event on to those whom it concerns.
func (s *Server) happened(e tasks.Event) {
	switch {
	case strings.HasPrefix(e.Type, "host."):
		s.news.add(e)
		s.fleet.heard(e)
		s.hub.touch("news", "host:"+e.Host)
	case strings.HasPrefix(e.Type, "task."):
		s.sets.happened(e.Key)
	case e.Type == "request.rejected":
		s.rejected.add(e)
	}
}

// forgotten is called when Redis has lost its events: what was known from them is no
// more, and what there is now is read again.
func (s *Server) forgotten() {
	s.cfg.Log.Warn("redis has lost the events that were read")
	s.rejected.set(nil)
	s.hub.touchAll()
}

// later reports whether the id of an event is behind another one, each of the form
// milliseconds-number, or 0.
func later(a, b string) bool {
	parse := func(id string) (ms, n uint64) {
		x, y, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(x, 10, 64)
		n, _ = strconv.ParseUint(y, 10, 64)
		return ms, n
	}
	ams, an := parse(a)
	bms, bn := parse(b)
	return ams > bms || ams == bms && an > bn
}
