package dashboard

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	mostQuery = 200 // bytes of what is searched for
	mostWords = 10
)

// perPage are the lengths of a page that one can choose from, the first one by default.
var perPage = [...]int{50, 100, 200} // never changes

// query is what somebody wants to see of the roll, as it stands in the address of the
// page.
type query struct {
	Search string
	Sort   string // a column
	Desc   bool
	Per    int
	Page   int    // from 1
	Span   string // of the chart
}

func parseQuery(v url.Values) query {
	q := query{Search: clip(strings.TrimSpace(v.Get("q")), mostQuery), Sort: v.Get("sort"), Desc: v.Get("desc") == "1", Span: v.Get("span")}
	if columnOf(q.Sort) == nil {
		q.Sort, q.Desc = columns[0].Name, false
	}
	if q.Per, _ = strconv.Atoi(v.Get("per")); !slices.Contains(perPage[:], q.Per) {
		q.Per = perPage[0]
	}
	q.Page, _ = strconv.Atoi(v.Get("page"))
	q.Page = max(q.Page, 1)
	if _, ok := spans[q.Span]; !ok {
		q.Span = defaultSpan
	}
	return q
}

// URL is the address of the page that shows the query; what is as by default is left out.
func (q query) URL() string {
	v := url.Values{}
	if q.Search != "" {
		v.Set("q", q.Search)
	}
	if q.Sort != columns[0].Name || q.Desc {
		v.Set("sort", q.Sort)
	}
	if q.Desc {
		v.Set("desc", "1")
	}
	if q.Per != perPage[0] {
		v.Set("per", strconv.Itoa(q.Per))
	}
	if q.Page != 1 {
		v.Set("page", strconv.Itoa(q.Page))
	}
	if q.Span != defaultSpan {
		v.Set("span", q.Span)
	}
	if len(v) == 0 {
		return "/"
	}
	return "/?" + v.Encode()
}

func (q query) at(page int) string   { q.Page = page; return q.URL() }
func (q query) over(s string) string { q.Span = s; return q.URL() }

// column is a column of the roll.
type column struct {
	Name, Title string
	less        func(a, b *host) int
}

// columns are those of the roll, in their order. Equal hosts are ordered by their id.
var columns = [...]column{ // never changes
	{"host", "Host", byID},
	{"hostname", "Hostname", func(a, b *host) int { return natural(a.told().hostname, b.told().hostname) }},
	{"address", "Address", func(a, b *host) int { return a.addr.Compare(b.addr) }},
	{"system", "System", func(a, b *host) int {
		x, y := a.told(), b.told()
		return cmp.Or(strings.Compare(x.os.Value(), y.os.Value()), strings.Compare(x.arch.Value(), y.arch.Value()))
	}},
	{"version", "Version", func(a, b *host) int { return natural(a.told().version.Value(), b.told().version.Value()) }},
	{"client", "Client", func(a, b *host) int { return strings.Compare(a.client.Value(), b.client.Value()) }},
	{"listener", "Listener", func(a, b *host) int { return natural(a.listener.Value(), b.listener.Value()) }},
	{"since", "Online since", func(a, b *host) int { return a.since.Compare(b.since) }},
	{"state", "State", func(a, b *host) int { return a.refused.Compare(b.refused) }},
}

// compare is the order of the roll by the column.
func (c *column) compare(a, b *host) int { return cmp.Or(c.less(a, b), byID(a, b)) }

func byID(a, b *host) int { return cmp.Or(natural(a.id, b.id), strings.Compare(a.id, b.id)) }

func columnOf(name string) *column {
	for i := range columns {
		if columns[i].Name == name {
			return &columns[i]
		}
	}
	return nil
}

// told is what a host has told of itself, nothing if that is not read yet.
func (h *host) told() *info {
	if h.info == nil {
		return noInfo
	}
	return h.info
}

var noInfo = newInfo(nil, nil) // never changes

// ordered is the roll in the order of one column.
type ordered struct {
	version uint64
	hosts   []*host
}

// sorted returns the roll in the order of a column. The list is everyone's. Of an older
// one the hosts that are as they were stay where they are.
func (f *fleet) sorted(name string) []*host {
	f.sorting.Lock()
	defer f.sorting.Unlock()
	compare := columnOf(name).compare
	f.mu.RLock()
	was := f.orders[name]
	if was.version == f.version {
		f.mu.RUnlock()
		return was.hosts
	}
	now := ordered{f.version, make([]*host, 0, len(f.hosts))}
	stay := make([]*host, 0, len(was.hosts))
	for _, h := range was.hosts {
		if f.hosts[h.id] == h {
			stay = append(stay, h)
		}
	}
	var fresh []*host
	if len(stay) < len(f.hosts) {
		for _, h := range f.hosts {
			if h.version > was.version {
				fresh = append(fresh, h)
			}
		}
	}
	f.mu.RUnlock()
	slices.SortFunc(fresh, compare)
	for len(stay) > 0 && len(fresh) > 0 {
		if compare(stay[0], fresh[0]) < 0 {
			now.hosts, stay = append(now.hosts, stay[0]), stay[1:]
		} else {
			now.hosts, fresh = append(now.hosts, fresh[0]), fresh[1:]
		}
	}
	now.hosts = append(append(now.hosts, stay...), fresh...)
	f.orders[name] = now
	return now.hosts
}

// find returns a page of the hosts that a query is for, how many there are in all, and
// how many are online. The page is the last one if the query is for one behind it.
func (f *fleet) find(q *query) (page []*host, matching, all int) {
	list := f.sorted(q.Sort)
	all = len(list)
	if match := matcher(q.Search); match != nil {
		var some []*host
		for _, h := range list {
			if match(h) {
				some = append(some, h)
			}
		}
		list = some
	}
	matching = len(list)
	q.Page = max(1, min(q.Page, (matching+q.Per-1)/q.Per))
	from := (q.Page - 1) * q.Per
	to := min(from+q.Per, matching)
	if !q.Desc {
		return list[from:to], matching, all
	}
	page = slices.Clone(list[matching-to : matching-from])
	slices.Reverse(page)
	return page, matching, all
}

// matcher makes a test of what somebody searches for, nil if that is nothing. All words
// must match. A word is looked for in all that is known of a host, or, as name:text, in
// what it names.
func matcher(search string) func(*host) bool {
	var tests []func(*host) bool
	for i, word := range strings.Fields(strings.ToLower(search)) {
		if i == mostWords {
			break
		}
		name, text, named := strings.Cut(word, ":")
		if test := fieldTest(name, text); named && text != "" && test != nil {
			tests = append(tests, test)
			continue
		}
		tests = append(tests, func(h *host) bool { return strings.Contains(h.hay, word) })
	}
	if len(tests) == 0 {
		return nil
	}
	return func(h *host) bool {
		for _, test := range tests {
			if !test(h) {
				return false
			}
		}
		return true
	}
}

// fieldTest is the test of name:text, nil if there is no field of that name. The id of a
// host may have colons, too.
func fieldTest(name, text string) func(*host) bool {
	in := func(value func(*host) string) func(*host) bool {
		return func(h *host) bool { return strings.Contains(strings.ToLower(value(h)), text) }
	}
	switch name {
	case "host":
		return in(func(h *host) string { return h.id })
	case "hostname":
		return in(func(h *host) string { return h.told().hostname })
	case "os":
		return in(func(h *host) string { return h.told().os.Value() })
	case "arch":
		return in(func(h *host) string { return h.told().arch.Value() })
	case "version":
		return in(func(h *host) string { return h.told().version.Value() })
	case "listener":
		return func(h *host) bool { return strings.EqualFold(h.listener.Value(), text) }
	case "client":
		return func(h *host) bool { return h.client.Value() == text }
	case "ip":
		return func(h *host) bool {
			return strings.HasPrefix(h.addr.Addr().String(), text) ||
				slices.ContainsFunc(h.told().ipv4, func(ip string) bool { return strings.HasPrefix(ip, text) })
		}
	case "tag":
		// tag:role is any value of it, tag:role=db that one.
		return func(h *host) bool {
			return slices.ContainsFunc(h.told().tags, func(tag string) bool {
				tag = strings.ToLower(tag)
				return tag == text || strings.HasPrefix(tag, text+"=")
			})
		}
	}
	return nil
}
