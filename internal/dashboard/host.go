package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

const (
	hostEvents     = 20     // events of a host that its page shows
	hostLook       = 10_000 // newest events that are looked through for them
	hostFields     = 64     // members of its information
	hostValue      = 4096   // bytes of one of them
	hostAddrs      = 64
	hostWaiting    = 100 // numbers that wait for it
	hostSets       = 50  // dispatches on one page
	hostSetsLook   = 2000
	hostSetsChunk  = 250
	hostPageWithin = 8 * time.Second // for all that is read for it
)

// hostView is the page of one host. Its parts are read when a template asks for them.
type hostView struct {
	ID   string
	Skip int // task sets that were looked through on the pages before

	s    *Server
	ctx  context.Context
	down bool // Redis is away: it is not asked

	present *tasks.Presence // what was read so far
	news    *hostNews
	sets    *dispatches
	failed  error
	unsure  bool // whether it is online can't be read
}

// hostPage is the page of one host, /hosts/ID.
func (s *Server) hostPage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !tasks.ValidHost(id) {
		s.fail(w, r, http.StatusNotFound, fmt.Sprintf("%q is no id of a host", clip(id, 2*128)))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), hostPageWithin)
	defer cancel()
	v := &hostView{ID: id, s: s, ctx: ctx, down: s.contact.away() != nil}
	v.Skip, _ = strconv.Atoi(r.URL.Query().Get("skip"))
	v.Skip = max(0, min(v.Skip, 1<<30))
	known, err := v.known()
	switch {
	case err != nil:
		s.failWith(w, r, err)
		return
	case !known:
		s.notThere(w, r, "host:"+id, "Nobody has heard of the host "+id+": it is not online, nothing waits for it, and no event or dispatch that was looked at names it")
		return
	}
	s.show(w, r, http.StatusOK, "host", view{Title: id, Here: "/", Live: "host:" + id + " sets", Data: v})
}

// known reports whether anything is known of the host.
func (v *hostView) known() (bool, error) {
	if v.s.fleet.host(v.ID) != nil || v.down {
		return true, nil
	}
	n, err := v.s.cfg.Redis.Exists(v.ctx, tasks.KeyHost(v.ID, "info")).Result()
	if err != nil || n > 0 {
		return true, err
	}
	if n, err = v.s.cfg.Redis.Exists(v.ctx, tasks.KeyWaiting(v.ID)).Result(); err != nil || n > 0 {
		return true, err
	}
	return v.Presence().Online || v.unsure || len(v.Events().List) > 0 || len(v.Dispatches().List) > 0 || v.Skip > 0, v.failed
}

// Down reports whether Redis is away, so that only what is in memory is shown.
func (v *hostView) Down() bool { return v.down }

// note keeps the first error: the page says so. Keys of another type are named by Broken.
func (v *hostView) note(err error) {
	if v.failed == nil {
		v.failed = passing(err)
	}
}

// Failed is what could not be read.
func (v *hostView) Failed() error { return v.failed }

// Broken are those keys of the host that can't be read.
func (v *hostView) Broken() []broken { return v.s.broken(v.ctx, hostPlaces(v.ID)) }

// Unsure reports whether it can't be read if the host is online.
func (v *hostView) Unsure() bool { return !v.Presence().Online && v.unsure }

// Presence is where the host is.
func (v *hostView) Presence() tasks.Presence {
	if v.present != nil {
		return *v.present
	}
	p := tasks.Presence{Host: v.ID}
	if h := v.s.fleet.host(v.ID); h != nil {
		p = tasks.Presence{Host: h.id, Online: true, Addr: h.addr, Listener: h.listener.Value(), Client: h.client.Value()}
	}
	v.present = &p
	if v.down {
		return p
	}
	view, err := tasks.NewRoll(v.s.cfg.Redis).View(v.ctx)
	if err != nil {
		v.unsure = true
		v.note(err)
		return p
	}
	list, err := view.Locate(v.ctx, []string{v.ID})
	if err != nil {
		v.unsure = true
		v.note(err)
		return p
	}
	v.present = &list[0]
	return list[0]
}

// Since is when the host came online, zero if that is not known.
func (v *hostView) Since() time.Time {
	if h := v.s.fleet.host(v.ID); h != nil {
		return h.since
	}
	return time.Time{}
}

// Contested is when another instance of the host was last refused, zero if that is long ago.
func (v *hostView) Contested() time.Time {
	if h := v.s.fleet.host(v.ID); h != nil {
		return h.contested()
	}
	return time.Time{}
}

// Gone is when the host went offline, as far as events tell.
func (v *hostView) Gone() *tasks.Event {
	for _, h := range v.Events().List {
		if h.Type == "host.offline" {
			return &h.Event
		}
	}
	return nil
}

// told is what a host tells of itself.
type hostInfo struct {
	Fields   []field
	IPv4     []string
	Tags     []string
	Reported time.Time
	More     int // members that are not shown
}

type field struct{ Name, Value string }

// Info is all that the host has told of itself.
func (v *hostView) Info() hostInfo {
	var n hostInfo
	if v.down {
		h := v.s.fleet.host(v.ID)
		if h == nil || h.info == nil {
			return n
		}
		i := h.info
		for _, f := range []field{{"hostname", i.hostname}, {"os", i.os.Value()}, {"arch", i.arch.Value()}, {"version", i.version.Value()}} {
			if f.Value != "" {
				n.Fields = append(n.Fields, f)
			}
		}
		n.IPv4, n.Tags = i.ipv4, i.tags
		return n
	}
	fields, err := v.s.cfg.Redis.HGetAll(v.ctx, tasks.KeyHost(v.ID, "info")).Result()
	v.note(err)
	for name, value := range fields {
		switch name {
		case "tags":
			if n.Tags = parseTags(value); n.Tags != nil || value == "" {
				continue
			}
		case "reported_us":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil {
				n.Reported = time.UnixMicro(us)
				continue
			}
		}
		if value != "" {
			n.Fields = append(n.Fields, field{clip(name, mostName), clip(value, hostValue)})
		}
	}
	rank := func(name string) int {
		for i, known := range []string{"hostname", "os", "arch", "version", "mac"} {
			if name == known {
				return i - 10
			}
		}
		return 0
	}
	slices.SortFunc(n.Fields, func(a, b field) int {
		if c := rank(a.Name) - rank(b.Name); c != 0 {
			return c
		}
		return natural(a.Name, b.Name)
	})
	if n.More = len(n.Fields) - hostFields; n.More > 0 {
		n.Fields = n.Fields[:hostFields]
	}
	n.IPv4, err = v.s.cfg.Redis.LRange(v.ctx, tasks.KeyHost(v.ID, "ipv4"), 0, hostAddrs-1).Result()
	v.note(err)
	return n
}

// Waiting are the task numbers that are delivered when the host comes online.
func (v *hostView) Waiting() (numbers []tasks.Number) {
	if v.down {
		return nil
	}
	enough := fmt.Errorf("enough")
	err := v.s.store.Awaited(v.ctx, v.ID, func(page []tasks.Number) error {
		for _, n := range page {
			if numberForm(n) {
				numbers = append(numbers, n)
			}
		}
		if len(numbers) >= hostWaiting {
			return enough
		}
		return nil
	})
	if err != enough {
		v.note(err)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	return numbers[:min(len(numbers), hostWaiting)]
}

// hostNews are the newest events of a host.
type hostNews struct {
	List   []happening
	Looked int  // events that were looked through
	All    bool // there are no others
}

// Events looks for the newest events of the host.
func (v *hostView) Events() hostNews {
	if v.news == nil {
		v.news = &hostNews{}
		if !v.down {
			*v.news = v.events()
		}
	}
	return *v.news
}

func (v *hostView) events() (n hostNews) {
	id := ""
	for n.Looked < hostLook && len(n.List) < hostEvents {
		page, err := tasks.EventsBefore(v.ctx, v.s.cfg.Redis, id, pastPage)
		if err != nil {
			v.note(err)
			return n
		}
		for _, e := range page {
			if id = e.ID; e.Host == v.ID {
				n.List = withOlder(n.List, e, hostEvents)
			}
		}
		n.Looked += len(page)
		if len(page) < pastPage {
			n.All = true
			break
		}
	}
	return n
}

// dispatches are task sets that have the host.
type dispatches struct {
	List   []dispatched
	Looked int      // task sets that were looked through
	More   string   // address of the page that looks further back; empty: that were all
	Broken []broken // some of those whose hosts can't be read
}

// dispatched is a task set, and what became of it on the host.
type dispatched struct {
	head
	State tasks.State
}

// Dispatches looks for the newest task sets that have the host.
func (v *hostView) Dispatches() dispatches {
	if v.sets == nil {
		v.sets = &dispatches{}
		if !v.down {
			*v.sets = v.dispatches()
		}
	}
	return *v.sets
}

func (v *hostView) dispatches() (d dispatches) {
	for d.Looked < hostSetsLook && len(d.List) < hostSets {
		heads := v.s.sets.Heads(v.Skip+d.Looked, hostSetsChunk)
		found, odd, err := v.inSets(heads)
		if err != nil {
			v.note(err)
			return d
		}
		d.Looked += len(heads)
		d.List = append(d.List, found...)
		d.Broken = append(d.Broken, v.s.broken(v.ctx, odd[:min(len(odd), brokenShown-len(d.Broken))])...)
		if len(heads) < hostSetsChunk {
			return d
		}
	}
	d.More = hostAddress(v.ID) + "?skip=" + strconv.Itoa(v.Skip+d.Looked)
	return d
}

// inSets returns those of the sets that have the host, and where that can't be read.
func (v *hostView) inSets(heads []head) (list []dispatched, odd []place, err error) {
	states := make([]*redis.StringCmd, len(heads))
	_, _ = v.s.cfg.Redis.Pipelined(v.ctx, func(p redis.Pipeliner) error {
		for i, h := range heads {
			states[i] = p.HGet(v.ctx, tasks.KeyHosts(h.Number), v.ID)
		}
		return nil
	})
	for i, h := range heads {
		switch e := states[i].Err(); {
		case e == nil && numberForm(h.Number):
			list = append(list, dispatched{h, tasks.State(clip(states[i].Val(), mostShort))})
		case e != nil && !isNone(e):
			return nil, nil, e
		case e != nil && !errors.Is(e, redis.Nil):
			odd = append(odd, place{tasks.KeyHosts(h.Number), tasks.KeyHosts("AC131")})
		}
	}
	return list, odd, nil
}

// numberForm reports whether a task number is one: anything can stand in Redis.
func numberForm(n tasks.Number) bool {
	_, err := tasks.ParseNumber(string(n))
	return err == nil
}

// Class is the class of the state.
func (d dispatched) Class() string { return stateClass(d.State) }

// stateClass is the class of a state, empty for one that there is not: anything can stand
// in Redis.
func stateClass(s tasks.State) string {
	if slices.Contains(tasks.States(), s) {
		return "s-" + string(s)
	}
	return ""
}
