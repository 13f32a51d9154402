package dashboard

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/musterhq/muster/tasks"
)

const fleetSize = 50_000

// find answers for an address of the first page.
func find(t testing.TB, s *Server, address string) *page {
	t.Helper()
	w := ask(t, s, address)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", address, w.Code, w.Body)
	}
	return parsed(t, w.Body.String())
}

// A fleet of 50,000 is searched, sorted and paged on the server, and every page has an
// address.
func TestRollOf50000(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	many(s, fleetSize)

	first := find(t, s, "/")
	if got := first.rows(); len(got) != 50 || got[0] != "node-0" || got[9] != "node-9" || got[49] != "node-49" {
		t.Errorf("first page %v", got)
	}
	if got := first.id("roll-count"); got != "1–50 of 50,000" {
		t.Errorf("count %q", got)
	}
	if got := first.id("hosts-online"); got != "50,000" {
		t.Errorf("online %q", got)
	}

	// From page to page by the links, as far as they lead.
	seen := map[string]bool{}
	address, pages := "/?per=100&q=tag:rack=r7", 0
	for address != "" {
		p := find(t, s, address)
		for _, id := range p.rows() {
			if seen[id] {
				t.Fatalf("%s shows %s again", address, id)
			}
			seen[id] = true
		}
		pages++
		address = strings.TrimSuffix(p.href("Next"), "#roll")
	}
	if len(seen) != 833 || pages != 9 {
		t.Errorf("%d hosts on %d pages", len(seen), pages)
	}
	last := find(t, s, strings.TrimSuffix(first.href("Last"), "#roll"))
	if got := last.rows(); got[len(got)-1] != "node-49999" || last.href("Next") != "" || last.href("Previous") == "" || last.href("First") != "/#roll" {
		t.Errorf("last page %v", got)
	}
	for page, want := range map[string]string{"123456": "node-49999", "99999999999999999999": "node-49999", "0": "node-49", "-1": "node-49", "x": "node-49"} {
		if got := find(t, s, "/?page="+page).rows(); got[len(got)-1] != want {
			t.Errorf("page %s ends with %s, want %s", page, got[len(got)-1], want)
		}
	}
}

func TestRollSearch(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	many(s, 600)
	for _, c := range []struct {
		search string
		count  int
		first  string
	}{
		{"node-59", 11, "node-59"},
		{"NODE-599", 1, "node-599"},
		{"srv00600", 1, "node-0"},             // host name
		{"10.0.2.7", 11, "node-519"},          // address: .7, .70 to .79
		{"192.168.7.7 node-12", 8, "node-12"}, // what it tells of its addresses; all words
		{"linux", 200, "node-0"},
		{"os:linux", 200, "node-0"},
		{"os:win arch:amd", 200, "node-1"},
		{"role=db", 200, "node-0"},
		{"tag:role=db", 200, "node-0"},
		{"tag:role", 400, "node-0"},
		{"tag:rol", 0, ""},
		{"tag:rack=r1", 10, "node-1"}, // and not r10
		{"listener:l1", 300, "node-0"},
		{"listener:l", 0, ""},
		{"client:text os:linux", 100, "node-4"},
		{"ip:10.0.1.", 256, "node-256"},
		{"version:0.8.10", 36, "node-10"},
		{"host:node-1 hostname:srv0059", 2, "node-1"}, // node-1 and node-10: srv00599 and srv00590
		{"nothing:like this", 0, ""},
		{"<script>", 0, ""},
	} {
		p := find(t, s, "/?per=200&q="+url.QueryEscape(c.search))
		count := 0
		fmt.Sscanf(strings.SplitN(p.id("roll-count")+" of 0 ", " of ", 2)[1], "%d", &count)
		got := p.rows()
		if count != c.count || (c.count > 0) != (len(got) > 0) || c.count > 0 && got[0] != c.first {
			t.Errorf("%q: %d hosts, first of %v; want %d, %s", c.search, count, got[:min(3, len(got))], c.count, c.first)
		}
		if len(got) == 0 && !strings.Contains(p.region("roll"), c.search) {
			t.Errorf("%q: nothing found, and the page says %q", c.search, p.region("roll"))
		}
		// What was searched for stands in the field.
		field := p.all(func(n *html.Node) bool { return attribute(n, "name") == "q" })
		if len(field) != 1 || attribute(field[0], "value") != c.search {
			t.Errorf("%q is not in the field", c.search)
		}
	}
}

// Each column sorts both ways, and says so; the links keep what was searched for.
func TestRollSort(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	many(s, 300)
	for _, c := range rollColumns {
		for _, desc := range []string{"", "&desc=1"} {
			p := find(t, s, "/?per=100&q=node&sort="+c.Name+desc)
			var heads []string
			for _, n := range p.all(func(n *html.Node) bool { return attribute(n, "aria-sort") != "" }) {
				heads = append(heads, words(n)+" "+attribute(n, "aria-sort"))
				want := "/?desc=1&per=100&q=node&sort=" + c.Name + "#roll"
				if desc != "" || c.Name == "host" && desc != "" {
					want = "/?per=100&q=node&sort=" + c.Name + "#roll"
				}
				if c.Name == "host" && desc != "" {
					want = "/?per=100&q=node#roll"
				}
				if got := attribute(n.FirstChild, "href"); got != want {
					t.Errorf("%s%s: its head leads to %q, want %q", c.Name, desc, got, want)
				}
			}
			want := c.Title + " ascending"
			if desc != "" {
				want = c.Title + " descending"
			}
			if !slices.Equal(heads, []string{want}) {
				t.Errorf("sorted by %q, want %q", heads, want)
			}
			var hosts []*host
			for _, id := range p.rows() {
				hosts = append(hosts, s.fleet.host(id))
			}
			if desc != "" {
				slices.Reverse(hosts)
			}
			if len(hosts) != 100 || !slices.IsSortedFunc(hosts, c.less) {
				t.Errorf("%s%s: %d hosts, not in order", c.Name, desc, len(hosts))
			}
		}
	}
}

func TestQueryInAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"/", "/?q=a+b", "/?desc=1&sort=host", "/?sort=since", "/?page=3&per=100&q=%3Cb%3E&sort=system&span=24h", "/?span=1h",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseQuery(u.Query()).URL(); got != address {
			t.Errorf("%s became %s", address, got)
		}
	}
	for _, address := range []string{"/?sort=nonsense&desc=1", "/?per=7", "/?page=-3", "/?span=9y", "/?page=x", "/?q=+++"} {
		u, _ := url.Parse(address)
		if got := parseQuery(u.Query()).URL(); got != "/" {
			t.Errorf("%s became %s, want what is so by default", address, got)
		}
	}
}

func TestNatural(t *testing.T) {
	t.Parallel()
	want := []string{"", "10.0.0.2", "10.0.0.10", "a", "a2", "a02b", "a10", "b", "web-1", "web-2", "web-10", "web-10a"}
	for i, a := range want {
		for k, b := range want {
			if got := natural(a, b); (got < 0) != (i < k) || (got > 0) != (i > k) {
				t.Errorf("natural(%q, %q) = %d", a, b, got)
			}
		}
	}
}

// What it costs to answer for a fleet of 50,000, and what such a fleet takes of memory.
func BenchmarkRoll(b *testing.B) {
	s := unasked(b)
	many(s, fleetSize)
	for _, c := range []struct{ name, address string }{
		{"first", "/"}, {"search", "/?q=srv+os:linux+tag:role"}, {"far", "/?sort=system&page=700&per=100"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				ask(b, s, c.address)
			}
		})
	}
	b.Run("changed", func(b *testing.B) { // one host is new since the last time
		for b.Loop() {
			s.fleet.mu.Lock()
			h := *s.fleet.hosts["node-7"]
			s.fleet.putLocked(&h)
			s.fleet.mu.Unlock()
			ask(b, s, "/")
		}
	})
	b.Run("region", func(b *testing.B) {
		for b.Loop() {
			ask(b, s, "/", regionHeader, "roll")
		}
	})
}

// What a fleet of 50,000 takes of memory, sorted once.
func BenchmarkRollMemory(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		s := unasked(b)
		runtime.GC()
		runtime.ReadMemStats(&before)
		many(s, fleetSize)
		ask(b, s, "/")
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/fleetSize, "B/host")
}

// The order that is mended after changes is the one that sorting all would give.
func TestOrderAfterChanges(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	many(s, 500)
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		s.fleet.mu.Lock()
		for range random.IntN(5) {
			id := fmt.Sprintf("node-%s%d", []string{"", "0"}[random.IntN(2)], random.IntN(600))
			s.fleet.seenLocked(tasks.Presence{
				Host: id, Online: random.IntN(3) > 0, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, 9, byte(random.IntN(3))}), 1), Listener: "l9", Client: "json",
			}, 0)
		}
		s.fleet.mu.Unlock()
		for _, c := range rollColumns {
			got := s.fleet.sorted(c.Name)
			var want []*host
			for _, h := range s.fleet.hosts {
				want = append(want, h)
			}
			slices.SortFunc(want, c.compare)
			if !slices.Equal(got, want) {
				t.Fatalf("by %s: %d hosts in another order, or others, than %d", c.Name, len(got), len(want))
			}
		}
	}
}
