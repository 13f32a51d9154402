package dashboard

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/musterhq/muster/tasks"
)

// odd are ids that no listener would let in, but that can stand in Redis: what they have is
// special in addresses, in paths, in messages and in headers.
func odd() []string {
	return []string{
		"plain", "a/b", "a/../b", "../../x", "a?b=c", "a#b", "a%2Fb", "%", "%zz", "a b", " ", "a\\b", "a&b=c;d", "a+b", "//evil.example", "https://evil.example",
		"a\nb", "a\r\nSet-Cookie: x=y\r\n\r\n<script>alert(1)</script>", "a\ndata: x\n\nevent: swap\ndata: {\"region\":\"redis\",\"html\":\"<h1>\"}\n\n",
		"\u202egnp", "\u200f", "\u2028", "\x00", "\x1b[2J", "\xff\xfe", `"><script>alert(1)</script>`, `' onx='`, `javascript:alert(1)`, "é", "a:b", strings.Repeat("h", 400),
	}
}

// Whatever is special in an id does nothing in an address, and the page of a host of a set
// is reached by its link. Dots alone are no name in an address: those are for browsers.
func TestOddIDsInAddresses(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.put("AC1", odd()...)
	page := s.get("/tasks/AC1", http.StatusOK)
	inert(t, "the set", page.root)
	links := map[string]string{}
	for _, row := range page.all(func(n *html.Node) bool { return n.Data == "tr" && attribute(n, "data-key") != "" }) {
		for _, a := range all(row, having("a", "")) {
			links[attribute(row, "data-key")] = attribute(a, "href")
		}
	}
	if len(links) != len(odd()) {
		t.Errorf("%d hosts are listed, %d are in the set", len(links), len(odd()))
	}
	for row, href := range links {
		target, err := url.Parse(href)
		if err != nil || target.Host != "" || target.RawQuery != "" || target.Fragment != "" || !strings.HasPrefix(target.EscapedPath(), "/tasks/AC1/hosts/") {
			t.Errorf("%q leads to %q: %v", row, href, err)
			continue
		}
		p := s.get(href, http.StatusOK)
		inert(t, fmt.Sprintf("%q", row), p.root)
		if got := p.region("results"); !strings.Contains(got, "State sent") {
			t.Errorf("%q: %s", row, got)
		}
		for _, about := range []string{"/hosts/" + strings.TrimPrefix(href, "/tasks/AC1/hosts/")} {
			resp, err := http.Get(s.base + about)
			s.must(err)
			body, err := io.ReadAll(resp.Body)
			s.must(err)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound || resp.Header.Get("Set-Cookie") != "" || resp.Request.URL.Host != strings.TrimPrefix(s.base, "http://") {
				t.Errorf("%s: %s %v", about, resp.Status, resp.Header)
			}
			inert(t, about, parsed(t, string(body)).root)
		}
	}
}

// An id or a reason with line ends makes no message of its own on a live connection.
func TestOddIDsInMessages(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	live := s.follow("news", "rejected", "roll")
	for _, id := range odd() {
		s.must(tasks.RecordAll(t.Context(), s.rdb, []tasks.Event{
			{Type: "host.online", Host: id, Reason: id}, {Type: "request.rejected", Request: id, Reason: id, Key: tasks.Number(id)},
		}))
	}
	s.raw("l1\ndata: x", odd()...)
	s.must(tasks.RecordAll(t.Context(), s.rdb, []tasks.Event{{Type: "host.offline", Host: "the-last"}, {Type: "request.rejected", Request: "the-last"}}))
	last := map[string]bool{}
	for deadline := time.Now().Add(60 * time.Second); len(last) < 2 && time.Now().Before(deadline); {
		m := live.next()
		if m.event != "swap" && m.event != "stale" || m.data.Region != "news" && m.data.Region != "rejected" && m.data.Region != "roll" {
			t.Fatalf("message %+v", m)
		}
		if m.event == "swap" {
			inert(t, m.data.Region, parsed(t, m.data.HTML).root)
			if strings.Contains(m.data.HTML, "the-last") {
				last[m.data.Region] = true
			}
		}
	}
	if len(last) != 2 {
		t.Errorf("the last messages: %v", last)
	}
	for _, path := range []string{"/", "/tasks", "/?q=" + url.QueryEscape(odd()[17]), "/tasks?q=" + url.QueryEscape(odd()[17])} {
		inert(t, path, s.get(path, http.StatusOK).root)
	}
}
