package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// marks are the places that mark a host of the roll as contested: where there is room for a
// column of states, and where there is not.
func (p *page) marks() (list []string) {
	for _, n := range p.all(having("span", "state-warn")) {
		if n.Parent.Data == "td" {
			list = append(list, "column")
		} else if having("span", "sub")(n.Parent) {
			list = append(list, "narrow: "+text(n))
		}
	}
	return list
}

// A host is marked for ten minutes after another instance of it was last refused. Who looks
// at the roll learns when a mark comes and when it goes, not of each refusal.
func TestContestedForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := unasked(t)
		many(s, 2)
		b := visit(t, s.hub, "roll", "host:node-0")
		topics := s.hub.topics
		touched := func(name string) bool {
			was := topics[name].touched
			topics[name].touched = false
			return was
		}
		refuse := func(host string) {
			s.fleet.heard(tasks.Event{Type: "host.duplicate", Host: host, Time: time.Now()})
		}
		touched("roll")
		for i := range 3 {
			refuse("node-0")
			if got := touched("roll"); got != (i == 0) {
				t.Errorf("refusal %d: the roll is new: %v", i, got)
			}
			time.Sleep(4 * time.Minute)
			s.fleet.compare(check{})
		}
		s.fleet.heard(tasks.Event{Type: "host.duplicate", Host: "node-0", Time: time.Now().Add(-time.Hour)}) // told late
		if got, want := find(t, s, "/").marks(), []string{"narrow: contested: another instance was refused", "column"}; !slices.Equal(got, want) {
			t.Errorf("marks %q", got)
		}
		// Redis is away by now: the page has what is in memory.
		if got := find(t, s, "/hosts/node-0").id("host-contested"); !strings.Contains(got, "another instance with this id was refused 2000-01-01 00:08:00") {
			t.Errorf("the host's page: %q", got)
		}
		if got := find(t, s, "/hosts/node-1").id("host-contested"); got != "none" {
			t.Errorf("another host's page: %q", got)
		}
		time.Sleep(contested - 4*time.Minute - time.Second)
		if s.fleet.compare(check{}); touched("roll") || touched("host:node-0") {
			t.Error("nothing has happened, and the roll is new")
		}
		time.Sleep(time.Second)
		if s.fleet.compare(check{}); !touched("roll") || !touched("host:node-0") {
			t.Error("nobody learns that the mark has gone")
		}
		if got := find(t, s, "/").marks(); got != nil || find(t, s, "/hosts/node-0").id("host-contested") != "none" {
			t.Errorf("marks after a while: %q", got)
		}
		if s.fleet.compare(check{}); touched("roll") {
			t.Error("it goes twice")
		}
		if refuse("node-0"); !touched("roll") {
			t.Error("it does not come back")
		}
		s.hub.leave(b)
	})
}

// A process that was just started knows from the events of before which hosts are contested,
// and that what was before a host came is not about it.
func TestContestedSinceBefore(t *testing.T) {
	t.Parallel()
	r := redistest.Open(t)
	s := &site{t: t, rdb: r.Client, Server: newServer(t, r.Client, r.Client)}
	duplicate := func(host string) {
		s.must(tasks.Record(t.Context(), r.Client, tasks.Event{Type: "host.duplicate", Host: host, Reason: "another instance is connected to l1"}))
	}
	s.join("l1", "web-1", "web-2")
	duplicate("web-1")
	duplicate("web-2")
	s.leave("l1", "web-2")
	s.join("l1", "web-2")
	s = serveOn(t, r, brisk())
	s.eventually("/?q=web-1", "the mark", func(p *page) bool { return len(p.marks()) == 2 })
	if got := s.get("/?q=web-2", http.StatusOK).marks(); got != nil {
		t.Errorf("a mark of another stay: %q", got)
	}

	// One that comes now is seen live, on both pages.
	live := s.follow("roll", "host:web-2")
	duplicate("web-2")
	seen := map[string]bool{}
	live.until("both pages are new", func(m sent) bool {
		seen[m.data.Region] = m.event == "stale"
		return seen["roll"] && seen["host"]
	})
	if got := s.get("/?q=web-2", http.StatusOK).marks(); len(got) != 2 {
		t.Errorf("marks %q", got)
	}
	p := s.get("/hosts/web-2", http.StatusOK)
	if got := p.id("host-contested"); !strings.Contains(got, "refused 2") || !strings.Contains(got, "--id") {
		t.Errorf("the host's page: %q", got)
	}
	if got := p.all(func(n *html.Node) bool { return attribute(n, "id") == "host-contested" }); len(all(got[0], having("time", ""))) != 1 {
		t.Error("no time")
	}
}
