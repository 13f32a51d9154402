package dashboard

import (
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/tasks"
)

// newsShown is how many events of a kind a page shows.
const newsShown = 20

// news are the newest events of a kind, the newest first.
type news struct {
	most int // that are kept

	mu   sync.Mutex
	list []happening
}

// happening is one row of news: an event, or all those that are alike.
type happening struct {
	tasks.Event           // the newest of them
	Times       int       // how many they are
	First       time.Time // when the oldest of them was
	Row         string    // the id of that one: the row stays the same when it grows
}

func happeningOf(e tasks.Event) happening {
	return happening{Event: brief(e), Times: 1, First: e.Time, Row: e.ID}
}

// alike reports whether an event is one more of a row: an agent that is refused tries again
// every few seconds, and would leave no room for anything else.
func (h happening) alike(e tasks.Event) bool {
	const again = "host.duplicate"
	return h.Type == again && e.Type == again && h.Host == clip(e.Host, mostName) && h.Reason == clip(e.Reason, mostReason)
}

// withOlder adds an event to rows of newer ones, unless it needs one and there are enough.
func withOlder(rows []happening, e tasks.Event, most int) []happening {
	for i := range rows {
		if h := &rows[i]; h.alike(e) {
			h.Times, h.First, h.Row = h.Times+1, e.Time, e.ID
			return rows
		}
	}
	if len(rows) < most {
		rows = append(rows, happeningOf(e))
	}
	return rows
}

// set puts rows, the newest first, in the place of those that are there.
func (n *news) set(rows []happening) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = rows
}

// add takes an event into the order of their ids, and reports whether it is new and among
// the newest.
func (n *news) add(e tasks.Event) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	row := happeningOf(e)
	if i := slices.IndexFunc(n.list, func(h happening) bool { return h.alike(e) }); i >= 0 {
		was := n.list[i]
		if !later(e.ID, was.ID) {
			return false // it was counted
		}
		row.Times, row.First, row.Row = was.Times+1, was.First, was.Row
		n.list = slices.Delete(n.list, i, i+1)
	}
	at, there := slices.BinarySearchFunc(n.list, e.ID, newestFirst)
	if at == n.most || there {
		return false
	}
	n.list = slices.Insert(n.list, at, row)
	n.list = n.list[:min(len(n.list), n.most)]
	return true
}

// newestFirst compares a row with the id of an event, for a list with the newest first.
func newestFirst(h happening, id string) int {
	switch {
	case later(h.ID, id):
		return -1
	case later(id, h.ID):
		return 1
	}
	return 0
}

// newest are those that a page shows.
func (n *news) newest() []happening {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list[:min(len(n.list), newsShown)])
}

const mostReason = 2048 // bytes of a reason that are kept

// brief is an event without what pages do not show.
func brief(e tasks.Event) tasks.Event {
	e.Host, e.Reason = clip(e.Host, mostName), clip(e.Reason, mostReason)
	e.Key, e.Request = tasks.Number(clip(string(e.Key), mostName)), clip(e.Request, 2*mostName)
	e.Counts = nil
	listener, client := clip(e.More["listener"], mostName), clip(e.More["client"], mostName)
	e.More = map[string]string{"listener": listener, "client": client}
	return e
}
