package dashboard

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// fleet is the roll in memory: who is online, and what those hosts have told of
// themselves. Pages are made of it without asking Redis, so that they cost the same
// however large it is, and are there while Redis is away.
//
// It is kept true by fleet_walk.go, what hosts tell is read by fleet_info.go, and
// fleet_roll.go finds and sorts in it.
type fleet struct {
	rdb     redis.UniversalClient
	roll    *tasks.Roll
	contact *contact
	touch   func(topics ...string) // tells browsers
	watched func() bool            // whether there are any
	fails   failures               // of reading the roll
	past    *past
	pace    pace

	mu        sync.RWMutex
	hosts     map[string]*host
	version   uint64                        // of hosts: another one after each change
	walks     uint64                        // how often the roll was read whole, or begun to be
	read      time.Time                     // when the roll was last read whole; zero: not yet
	held      map[unique.Handle[string]]int // how many hosts a listener has
	listeners []lease
	strays    int64           // entries of the roll that are no presence: their listener is gone
	marked    map[string]bool // hosts that pages mark as contested
	due       map[string]bool // hosts to look up
	came      map[string]time.Time

	wake    chan struct{} // due has something
	checked chan check    // what the last look at Redis has found
	infos   infoQueue

	sorting sync.Mutex
	orders  map[string]ordered // by column
}

// host is a host that is online. It never changes: what is new of a host is a new one.
// Short texts that many have in common are kept once.
type host struct {
	id       string
	addr     netip.AddrPort
	listener unique.Handle[string]
	client   unique.Handle[string] // agent, json or text
	since    time.Time             // when it came online, zero if that is not known
	refused  time.Time             // when another instance with its id was last refused
	info     *info                 // nil: not read yet
	hay      string                // what a search looks through: lower case, a line each

	version uint64 // of the fleet, when it was put on the roll
	walk    uint64 // the walk that has seen it; of that alone
}

// info is what a host has told of itself, clipped to what a page shows of it.
type info struct {
	hostname          string
	os, arch, version unique.Handle[string]
	ipv4              []string
	tags              []string // name=value, sorted

	read *atomic.Int64 // when it was last read, Unix ms
}

// mostID is the longest id that is kept, in bytes. Those that listeners let in have 128 at
// most, but anything can stand in Redis.
const mostID = 512

// lease is a listener, and the end of its lease.
type lease struct {
	ID    string
	Until time.Time // by Redis's clock
	Runs  bool
	Hosts int
}

// looksLike reports whether a page shows two leases alike: the end of one that runs moves
// on each second.
func (l lease) looksLike(o lease) bool {
	return l.ID == o.ID && l.Runs == o.Runs && (l.Runs || l.Until.Equal(o.Until))
}

func newFleet(rdb redis.UniversalClient, c *contact, touch func(...string), fails failures) *fleet {
	return &fleet{
		rdb: rdb, roll: tasks.NewRoll(rdb), contact: c, touch: touch, fails: fails, past: &past{}, pace: defaultPace(),
		hosts: map[string]*host{}, held: map[unique.Handle[string]]int{}, marked: map[string]bool{}, due: map[string]bool{}, came: map[string]time.Time{},
		wake: make(chan struct{}, 1), checked: make(chan check, 1),
		infos: newInfoQueue(), orders: map[string]ordered{},
	}
}

// known reports whether the roll was read at all.
func (f *fleet) known() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return !f.read.IsZero()
}

// size is how many hosts are online.
func (f *fleet) size() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.hosts)
}

// host returns a host that is online, else nil.
func (f *fleet) host(id string) *host {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.hosts[id]
}

// leases returns the listeners, each with how many hosts it has.
func (f *fleet) leases() []lease {
	f.mu.RLock()
	defer f.mu.RUnlock()
	list := slices.Clone(f.listeners)
	for i := range list {
		list[i].Hosts = f.held[unique.Make(list[i].ID)]
	}
	return list
}

// heard takes an event of a host: it is looked up soon.
func (f *fleet) heard(e tasks.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(e.Host) > mostID {
		return
	}
	switch e.Type {
	case "host.duplicate":
		f.refusedLocked(e)
		return
	case "host.online":
		f.came[e.Host] = e.Time
	default:
		delete(f.came, e.Host)
	}
	f.lookSoonLocked(e.Host)
}

// contested is how long a host is marked of which another instance was refused.
const contested = 10 * time.Minute

// refusedLocked takes that another instance of a host was refused.
func (f *fleet) refusedLocked(e tasks.Event) {
	h := f.hosts[e.Host]
	if h == nil || !e.Time.After(h.refused) {
		return
	}
	n := *h
	n.refused = e.Time
	f.putLocked(&n)
	if !n.contested().IsZero() && !f.marked[n.id] {
		f.marked[n.id] = true
		f.touch("roll")
	}
}

// unmarkLocked takes the marks off that are over.
func (f *fleet) unmarkLocked() {
	for id := range f.marked {
		if h := f.hosts[id]; h == nil || h.contested().IsZero() {
			delete(f.marked, id)
			f.touch("roll", "host:"+id)
		}
	}
}

// contested is when another instance of the host was last refused, zero if that is long ago.
func (h *host) contested() time.Time {
	if time.Since(h.refused) < contested {
		return h.refused
	}
	return time.Time{}
}

// lookSoon has a host looked up soon.
func (f *fleet) lookSoon(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookSoonLocked(id)
}

func (f *fleet) lookSoonLocked(id string) {
	if len(id) > mostID {
		return
	}
	f.due[id] = true
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// putLocked puts a host on the roll, in place of the one that it was before.
func (f *fleet) putLocked(h *host) {
	f.dropLocked(h.id)
	f.hosts[h.id] = h
	f.held[h.listener]++
	f.version++
	h.version = f.version
}

// dropLocked takes a host off the roll.
func (f *fleet) dropLocked(id string) {
	h := f.hosts[id]
	if h == nil {
		return
	}
	delete(f.hosts, id)
	if f.held[h.listener]--; f.held[h.listener] == 0 {
		delete(f.held, h.listener)
	}
	f.version++
}

// seenLocked takes what Redis says of a host, and reports whether that is new.
func (f *fleet) seenLocked(p tasks.Presence, walk uint64) bool {
	came, known := f.came[p.Host]
	delete(f.came, p.Host)
	if len(p.Host) > mostID {
		return false
	}
	h := f.hosts[p.Host]
	if !p.Online {
		if h == nil {
			return false
		}
		f.dropLocked(p.Host)
		return true
	}
	kind, _, _ := strings.Cut(p.Client, " ")
	n := host{
		id: p.Host, addr: p.Addr, listener: unique.Make(p.Listener), client: unique.Make(clip(kind, 16)),
	}
	if h != nil {
		n.id, n.since, n.refused, n.info, n.hay = h.id, h.since, h.refused, h.info, h.hay
		if known {
			n.since = came
		}
		if h.addr == n.addr && h.listener == n.listener && h.client == n.client && h.since.Equal(n.since) {
			h.walk = walk
			return false
		}
	} else {
		if n.since = came; !known && !f.read.IsZero() {
			n.since = time.Now().Truncate(time.Second) // it was not there a moment ago
		}
	}
	if h == nil || h.addr != n.addr {
		n.hay = n.searched()
	}
	n.walk = walk
	f.putLocked(&n)
	switch {
	case h == nil && f.read.IsZero():
		f.infos.want(n.id)
	case h == nil:
		f.infos.wantAgain(n.id)
	}
	return true
}

// arrived is told, from older events, when hosts that are online have come so.
func (f *fleet) arrived(at map[string]time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, t := range at {
		if h := f.hosts[id]; h != nil && h.since.IsZero() {
			n := *h
			n.since = t
			f.putLocked(&n)
		}
	}
}

// ids are the hosts that are online, in no order.
func (f *fleet) ids() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	ids := make([]string, 0, len(f.hosts))
	for id := range f.hosts {
		ids = append(ids, id)
	}
	return ids
}

// searched is what a search looks through.
func (h *host) searched() string {
	var b strings.Builder
	add := func(s string) {
		b.WriteString(strings.ToLower(s))
		b.WriteByte('\n')
	}
	add(h.id)
	add(h.addr.String())
	if i := h.info; i != nil {
		add(i.hostname)
		add(i.os.Value() + " " + i.arch.Value())
		add(i.version.Value())
		for _, ip := range i.ipv4 {
			add(ip)
		}
		for _, t := range i.tags {
			add(t)
		}
	}
	return b.String()
}

// natural compares texts with the numbers in them as numbers: web-2 comes before web-10.
func natural(a, b string) int {
	for len(a) > 0 && len(b) > 0 {
		if digit(a[0]) && digit(b[0]) {
			x, y := digits(a), digits(b)
			a, b = a[len(x):], b[len(y):]
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
				return c
			}
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func digits(s string) string {
	for i := range len(s) {
		if !digit(s[i]) {
			return s[:i]
		}
	}
	return s
}
