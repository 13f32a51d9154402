package dashboard

import (
	"slices"
	"sync"

	"github.com/musterhq/muster/tasks"
)

// newsKept is how many events of a kind a page shows.
const newsKept = 20

// news are the newest events of a kind, the newest first.
type news struct {
	mu   sync.Mutex
	list []tasks.Event
}

// set puts events, the newest first, in the place of those that are there.
func (n *news) set(list []tasks.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = nil
	for _, e := range list {
		n.list = append(n.list, brief(e))
	}
}

// add takes an event into the order of their ids, and reports whether it is new and among
// the newest.
func (n *news) add(e tasks.Event) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := 0
	for at < len(n.list) && later(n.list[at].ID, e.ID) {
		at++
	}
	if at == newsKept || at < len(n.list) && n.list[at].ID == e.ID {
		return false
	}
	n.list = slices.Insert(n.list, at, brief(e))
	n.list = n.list[:min(len(n.list), newsKept)]
	return true
}

func (n *news) newest() []tasks.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

// brief is an event without what pages do not show.
func brief(e tasks.Event) tasks.Event {
	const most = 2048 // bytes of a reason
	e.Host, e.Reason = clip(e.Host, mostName), clip(e.Reason, most)
	e.Key, e.Request = tasks.Number(clip(string(e.Key), mostName)), clip(e.Request, 2*mostName)
	e.Counts = nil
	listener, client := clip(e.More["listener"], mostName), clip(e.More["client"], mostName)
	e.More = map[string]string{"listener": listener, "client": client}
	return e
}
