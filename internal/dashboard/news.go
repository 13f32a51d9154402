package dashboard

import (
	"slices"
	"sync"

	"github.com/musterhq/muster/tasks"
)

// newsKept is how many events of hosts the page shows.
const newsKept = 20

// news are the newest events of hosts, the newest first.
type news struct {
	mu   sync.Mutex
	list []tasks.Event
}

func (n *news) set(list []tasks.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = nil
	for _, e := range list {
		n.list = append(n.list, brief(e))
	}
}

func (n *news) add(e tasks.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = slices.Insert(n.list, 0, brief(e))
	n.list = n.list[:min(len(n.list), newsKept)]
}

func (n *news) newest() []tasks.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

// brief is an event without what the page does not show.
func brief(e tasks.Event) tasks.Event {
	const most = 1024 // bytes of a reason
	e.Host, e.Reason = clip(e.Host, mostName), clip(e.Reason, most)
	e.Counts = nil
	listener, client := clip(e.More["listener"], mostName), clip(e.More["client"], mostName)
	e.More = map[string]string{"listener": listener, "client": client}
	return e
}
