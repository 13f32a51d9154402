package dashboard

import (
	"context"
	"net/http"
	"time"
)

// fleetView is what the first page shows. Its parts are made when a template asks for
// them: a region costs what it shows.
type fleetView struct {
	s *Server
	Q query
}

// fleetPage is the first page.
func (s *Server) fleetPage(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r.URL.Query())
	s.show(w, r, http.StatusOK, "fleet", view{
		Title: "Fleet", Here: "/", Live: "numbers chart:" + q.Span + " news running listeners roll", Data: &fleetView{s, q},
	})
}

// fleetRegions are the parts of the first page that are the same to everyone.
func (s *Server) fleetRegions(all map[string]renderer) {
	for _, name := range []string{"numbers", "news", "listeners"} {
		all[name] = func(context.Context, string) (string, error) {
			return s.region("fleet", name, &fleetView{s: s})
		}
	}
	all["chart"] = func(_ context.Context, span string) (string, error) {
		return s.region("fleet", "chart", &fleetView{s, query{Span: parseQuery(map[string][]string{"span": {span}}).Span}})
	}
}

// Known reports whether the roll was read.
func (v *fleetView) Known() bool { return v.s.fleet.known() }

// Online is how many hosts are online.
func (v *fleetView) Online() int { return v.s.fleet.size() }

// listenersShown is how many listeners the page names.
const listenersShown = 50

// Listeners are the first listeners, by their names.
func (v *fleetView) Listeners() []lease {
	all := v.s.fleet.leases()
	return all[:min(len(all), listenersShown)]
}

// MoreListeners is how many others there are.
func (v *fleetView) MoreListeners() int {
	return max(0, len(v.s.fleet.leases())-listenersShown)
}

// Living is how many listeners have a lease.
func (v *fleetView) Living() (n int) {
	for _, l := range v.s.fleet.leases() {
		if l.Runs {
			n++
		}
	}
	return n
}

// Running are the sets that have not ended, for the region that shows them.
func (v *fleetView) Running() running { return v.s.sets.Running(runningShown) }

// RunningCount is how many sets have not ended.
func (v *fleetView) RunningCount() int { return v.s.sets.CountRunning() }

// News are the newest events of hosts.
func (v *fleetView) News() []happening { return v.s.news.newest() }

// Chart is the number of hosts over time.
func (v *fleetView) Chart() chart {
	return v.s.fleet.past.chart(v.Q.Span, time.Now(), v.s.fleet.size())
}

// Spans are the times that the chart can show.
func (v *fleetView) Spans() (all []choice) {
	for _, s := range spanNames {
		all = append(all, choice{spans[s].Text, v.Q.over(s), s == v.Q.Span})
	}
	return all
}

// choice is a link of a page to another form of it.
type choice struct {
	Text, URL string
	Here      bool
}

// rollPart is a page of the roll.
type rollPart struct {
	Q             query
	Heads         []columnHead
	Rows          []rollRow
	From, To      int
	Matching, All int
	Pages         []choice // first, previous, next, last; empty URL: there is none
	Page, Last    int
}

// columnHead is the head of a column.
type columnHead struct {
	Name, Title, URL string
	Sorted           string // as aria-sort has it, empty if it is not sorted by this
}

// rollRow is a host.
type rollRow struct {
	ID, Hostname, Address, OS, Arch, Version string
	Client, Listener                         string
	Tags                                     []string
	MoreTags                                 int
	Since                                    time.Time
	Contested                                time.Time // another instance was refused then, lately
	Told                                     bool      // it has told of itself, or that is not read yet
}

// Roll is the page of the roll that is asked for.
func (v *fleetView) Roll() rollPart {
	q := v.Q
	hosts, matching, all := v.s.fleet.find(&q)
	v.s.fleet.shown(hosts)
	p := rollPart{Q: q, Matching: matching, All: all, Page: q.Page, Last: max(1, (matching+q.Per-1)/q.Per)}
	if matching > 0 {
		p.From, p.To = (q.Page-1)*q.Per+1, (q.Page-1)*q.Per+len(hosts)
	}
	for _, c := range rollColumns {
		next := q
		next.Sort, next.Page, next.Desc = c.Name, 1, false
		h := columnHead{Name: c.Name, Title: c.Title}
		if q.Sort == c.Name {
			h.Sorted, next.Desc = "ascending", !q.Desc
			if q.Desc {
				h.Sorted = "descending"
			}
		}
		h.URL = next.URL()
		p.Heads = append(p.Heads, h)
	}
	to := func(text string, page int, there bool) {
		l := choice{Text: text}
		if there {
			l.URL = q.at(page)
		}
		p.Pages = append(p.Pages, l)
	}
	to("First", 1, q.Page > 1)
	to("Previous", q.Page-1, q.Page > 1)
	to("Next", q.Page+1, q.Page < p.Last)
	to("Last", p.Last, q.Page < p.Last)
	for _, h := range hosts {
		p.Rows = append(p.Rows, h.row())
	}
	return p
}

const tagsShown = 3

func (h *host) row() rollRow {
	t := h.told()
	r := rollRow{
		ID: h.id, Hostname: t.hostname, Address: h.addr.String(), OS: t.os.Value(), Arch: t.arch.Value(), Version: t.version.Value(),
		Client: h.client.Value(), Listener: h.listener.Value(), Since: h.since, Contested: h.contested(), Told: h.info == nil || !h.info.empty(),
	}
	r.Tags = t.tags[:min(len(t.tags), tagsShown)]
	r.MoreTags = len(t.tags) - len(r.Tags)
	return r
}

// empty reports whether a host has told nothing.
func (i *info) empty() bool {
	return i.hostname == "" && i.os.Value() == "" && i.version.Value() == "" && len(i.ipv4) == 0 && len(i.tags) == 0
}
