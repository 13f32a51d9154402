package dashboard

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

const rejectedSearch = 10_000 // events that are looked through at the start

// rejected is the newest requests that were rejected.
type rejected struct {
	news
	hub   *hub
	fails failures // of reading what was before
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
		x.hub.touch("rejected")
	}
}
