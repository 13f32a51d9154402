package dashboard

import (
	"slices"
	"sync"

	"github.com/musterhq/muster/tasks"
)

// newsShown is how many events of a kind a page shows.
const newsShown = 20

// news are the newest events of a kind, the newest first.
type news struct {
	most int // that are kept

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
	at, there := slices.BinarySearchFunc(n.list, e.ID, newestFirst)
	if at == n.most || there {
		return false
	}
	n.list = slices.Insert(n.list, at, brief(e))
	n.list = n.list[:min(len(n.list), n.most)]
	return true
}

// newestFirst compares an event with the id of another one, for a list with the newest first.
func newestFirst(e tasks.Event, id string) int {
	switch {
	case later(e.ID, id):
		return -1
	case later(id, e.ID):
		return 1
	}
	return 0
}

// newest are those that a page shows.
func (n *news) newest() []tasks.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list[:min(len(n.list), newsShown)])
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
