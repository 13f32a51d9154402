package dashboard

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// put makes a task set of the given hosts, as a dispatch does.
func (s *site) put(n tasks.Number, hosts ...string) {
	s.t.Helper()
	ctx := s.t.Context()
	now := time.Now()
	s.must(s.rdb.HSet(ctx, tasks.KeyMeta(n), "state", "open", "created_ms", now.UnixMilli(), "commands", 3).Err())
	for _, h := range hosts {
		s.must(s.rdb.HSet(ctx, tasks.KeyHosts(n), h, "sent").Err())
	}
	s.must(s.rdb.ZAdd(ctx, tasks.KeySets, setEntry(n, now.Add(time.Hour))).Err())
	s.must(s.sets.reconcile(ctx))
}

func TestHostPage(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	const id = "2001:db8::7"
	s.join("l1", id)
	s.must(tasks.NewRoll(s.rdb).Depart(t.Context(), nil, nil, []tasks.HostInfo{{
		Host: id, Fields: map[string]string{"hostname": "db-7", "os": "linux", "mac": "52-54-00-12-34-56", "tags": `{"role":"db","zone":"b"}`}, IPv4: []string{"10.9.8.7", "172.16.0.1"},
	}}))
	s.must(s.rdb.HSet(t.Context(), tasks.KeyHost(id, "info"), "kernel", "6.1").Err())
	s.put("ACmine", id, "another")
	s.put("ACother", "another")
	s.must(s.rdb.SAdd(t.Context(), tasks.KeyWaiting(id), "AClater").Err())

	// The roll leads there, and what is special in an id is no harm in an address.
	p := s.eventually("/", "the host is on the roll", func(p *page) bool { return len(p.rows()) == 1 })
	address := p.href(id)
	p = s.eventually(address, "online since", func(p *page) bool { return strings.HasPrefix(p.id("host-state"), "online since 2") })
	if got := p.id("host-id"); got != id {
		t.Errorf("id %q", got)
	}
	all := words(p.root)
	for _, want := range []string{
		"10.0.0.0:6655", "l1", "agent i", "AClater", "hostname db-7", "os linux", "mac 52-54-00-12-34-56", "kernel 6.1",
		"10.9.8.7 172.16.0.1", "role=db zone=b", "came at l1", "Those among all events that Redis still has.", "told 2",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not on the page: %s", want, all)
		}
	}
	if got := p.id("host-dispatches"); !strings.Contains(got, "ACmine sent open 3") || strings.Contains(got, "ACother") {
		t.Errorf("dispatches %q", got)
	}
	if got := p.all(func(n *html.Node) bool { return attribute(n, "class") == "host-state s-sent" }); len(got) != 1 {
		t.Errorf("%d states of class s-sent", len(got))
	}
	if got := p.href("ACmine"); got != "/tasks/ACmine" {
		t.Errorf("dispatch leads to %q", got)
	}

	live := s.follow("host:"+id, "sets")
	s.leave("l1", id)
	live.until("the host is stale", func(m sent) bool { return m.event == "stale" && m.data.Region == "host" })
	p = s.eventually(address, "offline", func(p *page) bool { return strings.HasPrefix(p.id("host-state"), "offline since 2") })
	if got := p.region("host"); !strings.Contains(got, "Reason connection ended") || !strings.Contains(got, "Redis forgets it") {
		t.Errorf("offline: %q", got)
	}

	// Without anything but a dispatch it is still known; without that nobody knows it.
	s.must(s.rdb.Del(t.Context(), tasks.KeyEvents, tasks.KeyWaiting(id)).Err())
	if got := s.get(address, http.StatusOK).id("host-dispatches"); !strings.Contains(got, "ACmine") {
		t.Errorf("dispatches %q", got)
	}
	s.must(s.rdb.Del(t.Context(), tasks.KeyHosts("ACmine")).Err())
	if got := words(s.get(address, http.StatusNotFound).root); !strings.Contains(got, "Nobody has heard of the host "+id) {
		t.Errorf("unknown: %q", got)
	}
	for _, bad := range []string{"-a", "a b", "%00", "%3Cscript%3E", strings.Repeat("h", 129), "%FF", "a%2Fb"} {
		if got := words(s.get("/hosts/"+bad, http.StatusNotFound).root); !strings.Contains(got, "is no id of a host") {
			t.Errorf("%s: %q", bad, got)
		}
	}
}

// A host that is in few of many sets is found further back, and the page says how far it
// has looked.
func TestDispatchesFurtherBack(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	deadline := time.Now().Add(time.Hour)
	for i := range 5 * hostSetsLook / 2 {
		n := tasks.Number(fmt.Sprintf("AC%05d", i))
		s.must(s.rdb.HSet(t.Context(), tasks.KeyMeta(n), "state", "closed", "created_ms", i+1).Err())
		s.must(s.rdb.ZAdd(t.Context(), tasks.KeySets, setEntry(n, deadline.Add(time.Duration(i)*time.Second))).Err())
	}
	s.must(s.sets.reconcile(t.Context()))
	s.must(s.rdb.HSet(t.Context(), tasks.KeyHosts("AC00007"), "web-1", "done").Err())
	s.must(s.rdb.Set(t.Context(), tasks.KeyHosts("AC00008"), "another type", 0).Err())
	s.must(s.rdb.HSet(t.Context(), tasks.KeyHost("web-1", "info"), "hostname", "x").Err())
	address := "/hosts/web-1"
	for i := range 3 {
		p := s.get(address, http.StatusOK)
		back := p.href("Look further back")
		list := p.id("host-dispatches")
		if last := i == 2; last != strings.Contains(list, "AC00007 done") || last != (back == "") {
			t.Errorf("%s: back %q, dispatches %q", address, back, list)
		}
		if i < 2 && !strings.Contains(p.region("dispatches"), "2,000 task sets") {
			t.Errorf("%s: %q", address, p.region("dispatches"))
		}
		address = back
	}
}

// nasty are texts that a host may tell of itself.
func nasty() []string {
	return []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, "\x1b[31mred\x07\x1b]0;title\x07",
		"\u202egnp.exe\u202c \u200bzero\u200b width\u2066", strings.Repeat("X", 10_000), "nul\x00byte", "שלום مرحبا", `{{.Evil}} ${x} javascript:alert(1)`,
		"\xff\xfe bytes", `<!--`, `</td></tr></table><h1>broken</h1>`, `&lt;b&gt; &amp;`, "line\nline\r\n\tend", strings.Repeat("é", 300), "=cmd|' /C calc'!A0",
		`javascript:alert(1)`, `data:text/html,<script>`, "`${alert(1)}`", `]]>`, "\u2028\u2029",
	}
}

// shape is a page without its texts: elements and the names of their attributes, with
// the values of those that lead somewhere or do something.
func shape(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		switch d.Type {
		case html.ElementNode:
			b.WriteString("<" + d.Data)
			for _, a := range d.Attr {
				b.WriteString(" " + a.Key)
				if a.Key == "href" || a.Key == "src" || a.Key == "class" || a.Key == "id" || a.Key == "action" || strings.HasPrefix(a.Key, "data-") && a.Key != "data-key" && a.Key != "data-stamp" {
					b.WriteString("=" + a.Val)
				}
			}
			b.WriteString(">")
		case html.CommentNode:
			b.WriteString("<!>")
		}
	}
	return b.String()
}

// Whatever a host tells of itself, the page is made of the same elements and attributes as
// with plain text, and nothing in it is invisible.
func TestHostileTextOfHosts(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	ctx := t.Context()
	texts := append([]string{"plain"}, nasty()...)
	host := func(i int) string { return fmt.Sprintf("h%02d", i) }
	someHost := regexp.MustCompile(`h\d\d`)
	events := func(i int) (list []tasks.Event) {
		for _, kind := range []string{"online", "offline", "duplicate", texts[i]} {
			list = append(list, tasks.Event{
				Type: "host." + kind, Host: host(i), Reason: texts[i], More: map[string]string{"listener": texts[i], "client": texts[i]},
			})
		}
		return list
	}
	var hosts []string
	for i, bad := range texts {
		hosts = append(hosts, host(i))
		s.must(s.rdb.HSet(ctx, tasks.KeyHost(host(i), "info"), "hostname", bad, "os", bad, "arch", bad, "version", bad, "mac", bad,
			"tags", encode(map[string]string{bad: bad}), "_"+bad, bad).Err())
		s.must(s.rdb.RPush(ctx, tasks.KeyHost(host(i), "ipv4"), bad).Err())
		n := tasks.Number("AC" + host(i))
		s.must(s.rdb.HSet(ctx, tasks.KeyHosts(n), host(i), bad).Err())
		s.must(s.rdb.HSet(ctx, tasks.KeyMeta(n), "state", bad, "created_ms", "1", "commands", bad).Err())
		s.must(s.rdb.ZAdd(ctx, tasks.KeySets, setEntry(n, time.Now())).Err())
	}
	s.must(s.sets.reconcile(ctx))
	s.raw("l1", hosts...)
	for i, bad := range texts {
		s.must(s.rdb.HSet(ctx, tasks.KeyClients, host(i), bad).Err())
	}
	redistest.Eventually(t, "all were read", func() bool {
		for _, id := range hosts {
			if h := s.fleet.host(id); h == nil || h.info == nil || h.info.empty() {
				return false
			}
		}
		return !s.sets.Running(1).Wait && len(s.fleet.leases()) > 0
	})
	// Only a host that is known to be online is marked as contested.
	for i := range texts {
		s.must(tasks.RecordAll(ctx, s.rdb, events(i)))
	}
	redistest.Eventually(t, "all events were heard", func() bool {
		for _, id := range hosts {
			if s.fleet.host(id).refused.IsZero() {
				return false
			}
		}
		return len(s.news.newest()) == newsShown
	})
	var plain []*page
	for i, bad := range texts {
		var rows []happening
		for _, e := range events(i) {
			rows = withOlder(rows, e, newsShown)
		}
		s.news.set(rows)
		pages := []*page{s.get("/?q=host:"+host(i), http.StatusOK), s.get("/hosts/"+host(i), http.StatusOK)}
		if i == 0 {
			plain = pages
		}
		for k, p := range pages {
			// The chart is made of numbers alone, and of other parts when the clock turns.
			for _, chart := range p.all(func(n *html.Node) bool { return attribute(n, "data-region") == "chart" }) {
				chart.Parent.RemoveChild(chart)
			}
			shown := words(p.root)
			if i == 0 && strings.Count(shown, "plain") < 10 {
				t.Errorf("page %d does not show all: %s", k, shown)
			}
			if got, want := someHost.ReplaceAllString(shape(p.root), "HOST"), someHost.ReplaceAllString(shape(plain[k].root), "HOST"); got != want {
				same := 0
				for same < min(len(got), len(want)) && got[same] == want[same] {
					same++
				}
				t.Errorf("page %d with %.40q has %.99q where it has %.99q with plain text", k, bad, got[same:], want[same:])
			}
			for _, r := range shown {
				if r < ' ' || r == 0x7f || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f {
					t.Errorf("page %d with %.40q shows %U as it is", k, bad, r)
				}
			}
			if len(shown) > 20_000 {
				t.Errorf("page %d with %.40q has %d bytes of text", k, bad, len(shown))
			}
		}
	}
}

// An id that no listener would have let in is shown for what it is.
func TestHostileID(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	s.contact.most = time.Hour // nobody asks Redis, however long this takes
	shapes := map[string]string{}
	for i, id := range append([]string{"plain"}, nasty()...) {
		s.fleet.mu.Lock()
		clear(s.fleet.hosts)
		s.fleet.seenLocked(tasks.Presence{Host: id, Online: true, Listener: id, Client: "json"}, 0)
		s.fleet.mu.Unlock()
		if len(id) > mostID {
			if got := s.fleet.size(); got != 0 {
				t.Errorf("an id of %d bytes is kept", len(id))
			}
			continue
		}
		p := find(t, s, "/")
		shapes[id] = strings.ReplaceAll(shape(p.root), hostAddress(id), "/hosts/HOST")
		if i > 0 && shapes[id] != shapes["plain"] {
			t.Errorf("%.40q: made of other things", id)
		}
		if got := p.region("roll"); strings.ContainsAny(got, "\x00\x1b\u202e\u200b") {
			t.Errorf("%.40q: shown as it is", id)
		}
	}
}
