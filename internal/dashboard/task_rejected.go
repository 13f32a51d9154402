package dashboard

import (
	"context"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

const (
	rejectedSearch = 10_000 // events that are looked through at the start
	rejectedKept   = 1000   // requests whose pages say that they were rejected
)

// rejected is the newest requests that were rejected.
type rejected struct {
	news
	hub   *hub
	fails failures // of reading what was before
}

func newRejected(h *hub, fails failures) *rejected {
	return &rejected{news: news{most: rejectedKept}, hub: h, fails: fails}
}

// load looks for those of before the start, among the newest events. Hosts that come and
// go may have left none: the job queue keeps them longer.
func (x *rejected) load(ctx context.Context, before func(ctx context.Context, id string) ([]tasks.Event, error)) error {
	id := ""
	for read := 0; read < rejectedSearch && ctx.Err() == nil; {
		page, err := before(ctx, id)
		if x.fails.seen(err, "rejected requests can't be read, trying on"); err != nil {
			pause.For(ctx, time.Second)
			continue
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			x.add(e)
		}
		read, id = read+len(page), page[len(page)-1].ID
	}
	<-ctx.Done()
	return nil
}

// add notes an event: what was before the start is read by two.
func (x *rejected) add(e tasks.Event) {
	if e.Type == "request.rejected" && x.news.add(e) {
		x.hub.touch("rejected", absentTopic(e.Key))
	}
}

// of is the newest one with a number, nil if none is known.
func (x *rejected) of(n tasks.Number) *tasks.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range x.list {
		if h.Key == n {
			return &h.Event
		}
	}
	return nil
}

// absentTopic is touched when the page of a task set that is not there says something else.
func absentTopic(n tasks.Number) string { return "absent:" + string(n) }

// absentPage is the page of a task set that is not there.
type absentPage struct {
	Number   tasks.Number
	Rejected *tasks.Event // the newest request with its number that was rejected
}

// absentPage answers for a task set that is not there. It is asked for again when the set has
// come, or a request with its number was rejected.
func (s *Server) absentPage(w http.ResponseWriter, r *http.Request, n tasks.Number) {
	s.show(w, r, http.StatusNotFound, "absent", view{
		Title: string(n), Here: "/tasks", Live: "ledger:" + string(n) + " " + absentTopic(n), Awaits: true,
		Data: absentPage{n, s.rejected.of(n)},
	})
}
