package dashboard

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/tasks"
)

const (
	rejectedKept   = 20
	rejectedSearch = 10_000 // events that are looked through at the start
)

// rejected is the newest requests that were rejected.
type rejected struct {
	hub   *hub
	fails failures // of reading what was before

	mu   sync.Mutex
	list []tasks.Event // the newest first
}

// load looks for those of before the start, among the newest events. Hosts that come and
// go may have left none: the job queue keeps them longer.
func (x *rejected) load(ctx context.Context, before func(ctx context.Context, id string) ([]tasks.Event, error)) error {
	id := ""
	for read := 0; read < rejectedSearch && ctx.Err() == nil; {
		page, err := before(ctx, id)
		if x.fails.seen(err, "rejected requests can't be read, trying on"); err != nil {
			pause(ctx, time.Second)
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

// add notes an event, in the order of their ids: what was before the start is read by two.
func (x *rejected) add(e tasks.Event) {
	if e.Type != "request.rejected" {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	at := 0
	for at < len(x.list) && later(x.list[at].ID, e.ID) {
		at++
	}
	if at == rejectedKept || at < len(x.list) && x.list[at].ID == e.ID {
		return
	}
	x.list = slices.Insert(x.list, at, e)
	x.list = x.list[:min(len(x.list), rejectedKept)]
	x.hub.touch("rejected")
}

// forget lets go all of them.
func (x *rejected) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = nil
}

func (x *rejected) newest() []tasks.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]tasks.Event(nil), x.list...)
}
