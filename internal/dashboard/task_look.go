package dashboard

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/tasks"
)

const (
	looksKept    = 8               // task sets of which hosts and results are kept in memory,
	looksOpen    = 32              // and as many if all of them are on somebody's page
	looksResults = 3_000_000       // results of all of them together
	lookIdle     = 2 * time.Minute // what nobody has looked at for so long is let go
	lookMay      = 500 * time.Millisecond
	membersFor   = 2 * time.Second // how long the hosts of a set are shown as they were
	membersKept  = 250_000
)

// look is what is kept of a set that somebody looks at.
type look struct {
	number tasks.Number

	mu      sync.Mutex // held while Redis is read: who comes second finds it done
	of      tasks.Ledger
	members []member // by host
	taken   time.Time
	partial bool // the set has more hosts than are kept
	outputs *outputs
	times   milestones

	used time.Time // under the lock of looks
	size int
}

// member is a host of a set, and where its state is in tasks.States.
type member struct {
	host  string
	state uint8
}

// looks is what is kept of the sets that somebody looks at.
type looks struct {
	store *tasks.Store
	hub   *hub
	beat  time.Duration // between two looks at the sets on pages

	mu  sync.Mutex
	all map[tasks.Number]*look
}

func newLooks(store *tasks.Store, hub *hub) *looks {
	return &looks{store: store, hub: hub, beat: 500 * time.Millisecond, all: map[tasks.Number]*look{}}
}

// at calls with what is kept of the set of a ledger, which is nobody else's meanwhile.
func (x *looks) at(l tasks.Ledger, call func(*look) error) error {
	x.mu.Lock()
	k := x.all[l.Number]
	if k == nil {
		k = &look{number: l.Number}
		x.all[l.Number] = k
	}
	k.used = time.Now()
	x.mu.Unlock()

	k.mu.Lock()
	if k.outputs == nil || k.of.Request != l.Request || !k.of.Created.Equal(l.Created) { // another set under the same number
		k.of, k.members, k.taken, k.times, k.outputs = l, nil, time.Time{}, milestones{}, newOutputs(l.Created)
	}
	err := call(k)
	size := len(k.outputs.results)
	k.mu.Unlock()

	x.mu.Lock()
	defer x.mu.Unlock()
	k.size = size
	x.forgetLocked(k)
	return err
}

// followed reports whether a set is on somebody's page.
func (x *looks) followed(n tasks.Number) bool {
	for _, region := range []string{"ledger", "members", "outputs", "results"} {
		if x.hub.followed(region + ":" + string(n)) {
			return true
		}
	}
	return false
}

// forget lets go what nobody has looked at for some time, and has on no page.
func (x *looks) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for n, k := range x.all {
		if time.Since(k.used) > lookIdle && !x.followed(n) {
			delete(x.all, n)
		}
	}
}

// forgetLocked lets go what was looked at the longest time ago, when there is too much;
// never the one that is looked at now, and what is on somebody's page only if that is too
// much by itself.
func (x *looks) forgetLocked(now *look) {
	for {
		var oldest, open *look
		results := 0
		for _, k := range x.all {
			results += k.size
			which := &oldest
			if x.followed(k.number) {
				which = &open
			}
			if k != now && (*which == nil || k.used.Before((*which).used)) {
				*which = k
			}
		}
		if len(x.all) <= looksKept && results <= looksResults {
			return
		}
		if oldest == nil && (len(x.all) > looksOpen || results > looksResults) {
			oldest = open
		}
		if oldest == nil {
			return
		}
		delete(x.all, oldest.number)
	}
}

var errTooMany = errors.New("too many hosts")

// readMembers brings the hosts up to date. A state only ever goes on, so as long as the
// counters are what they were before the last reading, nothing has moved since; and if
// they are not, it is soon enough after some seconds, unless the set has ended: then
// nobody may ask again.
func (k *look) readMembers(ctx context.Context, store *tasks.Store, l tasks.Ledger) error {
	if !k.taken.IsZero() && (sameCounts(k.of, l) || l.Stage != tasks.Closed && time.Since(k.taken) < membersFor) {
		return nil
	}
	place := map[tasks.State]uint8{}
	for i, s := range tasks.States() {
		place[s] = uint8(i)
	}
	list := make([]member, 0, min(l.Total, membersKept))
	err := store.Hosts(ctx, k.number, func(page []tasks.HostState) error {
		for _, h := range page {
			at, known := place[h.State]
			if known {
				list = append(list, member{h.Host, at})
			}
		}
		if len(list) > membersKept {
			return errTooMany
		}
		return nil
	})
	if k.partial = errors.Is(err, errTooMany); err != nil && !k.partial {
		return err
	}
	slices.SortFunc(list, func(a, b member) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(b.state, a.state))
	})
	k.members = slices.CompactFunc(list, func(a, b member) bool { return a.host == b.host }) // one can come twice
	k.of, k.taken = l, time.Now()
	return nil
}

func sameCounts(a, b tasks.Ledger) bool {
	for _, s := range tasks.States() {
		if a.Counts[s] != b.Counts[s] {
			return false
		}
	}
	return a.Total == b.Total && a.Stage == b.Stage
}

// find returns those hosts that have the state (any if empty), search in their name, and
// are in the group, if there is one.
func (k *look) find(state tasks.State, search string, g *group) []member {
	var in map[string]bool
	if g != nil {
		in = make(map[string]bool, len(g.hosts))
		for _, h := range g.hosts {
			in[k.outputs.hosts[h]] = true
		}
	}
	wanted := slices.Index(tasks.States(), state)
	search = strings.ToLower(search)
	var found []member
	for _, m := range k.members {
		if (state == "" || int(m.state) == wanted) && (in == nil || in[m.host]) && contains(m.host, search) {
			found = append(found, m)
		}
	}
	return found
}
