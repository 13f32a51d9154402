package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// sorts are the links for a narrow screen, on which most columns have no head.
func (p *page) sorts() []*html.Node {
	p.t.Helper()
	navs := p.all(having("nav", "sorts"))
	if len(navs) != 1 {
		p.t.Fatalf("%d lists of orders", len(navs))
	}
	return all(navs[0], having("a", ""))
}

// The roll is sorted by plain links beside the heads of its columns, which a narrow screen
// has not all: by every column and both ways, with the search as it is, from the first page
// on.
func TestSortsOfANarrowScreen(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	many(s, 300)
	const kept = "q=tag%3Arack&per=100&span=1h"
	for i, c := range rollColumns {
		link := func(address string) (to string, words string, here string) {
			a := find(t, s, address).sorts()
			if len(a) != len(rollColumns) || attribute(a[i], "data-turn") != "roll" {
				t.Fatalf("%s: %d orders", address, len(a))
			}
			return strings.TrimSuffix(attribute(a[i], "href"), "#roll"), text(a[i]), attribute(a[i], "aria-current")
		}
		start := "/?page=2&" + kept
		if c.Name == "host" { // which is the order without a word
			start += "&sort=since"
		}
		up, name, here := link(start)
		if name != c.Title || here != "" {
			t.Errorf("%s: %q, %q", c.Name, name, here)
		}
		for _, way := range []string{"ascending", "descending"} {
			u, err := url.Parse(up)
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			if q.Get("q") != "tag:rack" || q.Get("per") != "100" || q.Get("span") != "1h" || q.Has("page") {
				t.Errorf("%s %s leads to %s", c.Name, way, up)
			}
			head := find(t, s, up).all(func(n *html.Node) bool { return attribute(n, "aria-sort") != "" })
			if len(head) != 1 || text(head[0]) != c.Title || attribute(head[0], "aria-sort") != way {
				t.Errorf("%s is not sorted by %s, %s", up, c.Title, way)
			}
			if up, name, here = link(up); name != c.Title+", "+way || here != "true" {
				t.Errorf("%s %s: %q, %q", c.Name, way, name, here)
			}
		}
	}
	address := find(t, s, "/").sorts()[2]
	asc := find(t, s, strings.TrimSuffix(attribute(address, "href"), "#roll")).rows()
	if !slices.Equal(asc[:3], []string{"node-0", "node-1", "node-2"}) {
		t.Errorf("by address: %v", asc[:3])
	}
	if w := ask(t, s, "/?q=nobody-is-called-so"); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "sorts") {
		t.Error("orders of no host")
	}
}
