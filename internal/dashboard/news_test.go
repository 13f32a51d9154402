package dashboard

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// told is the event of a host, as the n-th of all.
func told(n int, kind, host, reason string) tasks.Event {
	return tasks.Event{ID: fmt.Sprintf("%d-1", at(n).UnixMilli()), Type: "host." + kind, Host: host, Reason: reason, Time: at(n)}
}

// brieflyOf are rows in a few words: what, who, how often, from when to when, and the row.
func brieflyOf(rows []happening) (list []string) {
	for _, h := range rows {
		list = append(list, fmt.Sprintf("%s %s x%d %d-%d", strings.TrimPrefix(h.Type, "host."), h.Host, h.Times, h.First.Unix()-begin.Unix(), h.Time.Unix()-begin.Unix()))
		if want := told(int(h.First.Unix()-begin.Unix()), "", "", "").ID; h.Row != want {
			list = append(list, "row "+h.Row)
		}
	}
	return list
}

// An agent that is refused again and again has one row, however its events come: as they
// happen, or from the newest one back.
func TestRefusalsAreOneRow(t *testing.T) {
	t.Parallel()
	events := []tasks.Event{
		told(1, "online", "a", ""), told(2, "duplicate", "a", "l1"), told(3, "online", "b", ""), told(4, "duplicate", "a", "l1"),
		told(5, "duplicate", "b", "l1"), told(6, "duplicate", "a", "l2"), told(7, "offline", "c", "gone"), told(8, "offline", "c", "gone"),
		told(9, "duplicate", "a", "l1"), told(10, "online", "d", ""),
	}
	want := []string{
		"online d x1 10-10", "duplicate a x3 2-9", "offline c x1 8-8", "offline c x1 7-7", "duplicate a x1 6-6", "duplicate b x1 5-5", "online b x1 3-3", "online a x1 1-1",
	}
	live := news{most: newsShown}
	for _, e := range events {
		if !live.add(e) || live.add(e) {
			t.Errorf("%s %s: not counted, or twice", e.Type, e.Host)
		}
	}
	for _, e := range events {
		if live.add(e) {
			t.Errorf("%s %s: counted again", e.Type, e.Host)
		}
	}
	if got := brieflyOf(live.newest()); !slices.Equal(got, want) {
		t.Errorf("as they happen:\n%q, want\n%q", got, want)
	}
	var back []happening
	for _, e := range slices.Backward(events) {
		back = withOlder(back, e, newsShown)
	}
	if got := brieflyOf(back); !slices.Equal(got, want) {
		t.Errorf("from the newest one back:\n%q, want\n%q", got, want)
	}
	// Where there is no room for another row, there is for one more of those that are there.
	if got := brieflyOf(withOlder(back, told(0, "duplicate", "b", "l1"), len(back))); got[5] != "duplicate b x2 0-5" || len(got) != len(want) {
		t.Errorf("one more: %q", got)
	}
	if got := withOlder(back, told(0, "duplicate", "x", "l1"), len(back)); len(got) != len(want) {
		t.Errorf("%d rows", len(got))
	}
}

// Who came and went stays readable while an agent is refused, on the first page and on the
// host's own, after a start as well as live.
func TestRefusalsLeaveRoom(t *testing.T) {
	t.Parallel()
	r := redistest.Open(t)
	s := &site{t: t, rdb: r.Client, Server: newServer(t, r.Client, r.Client)}
	refuse := func(times int) {
		for range times {
			s.must(tasks.Record(t.Context(), r.Client, tasks.Event{Type: "host.duplicate", Host: "web-1", Reason: "another instance is connected to l1"}))
		}
	}
	s.join("l1", "web-1", "web-2")
	refuse(3 * newsShown)
	s = serveOn(t, r, brisk())
	reads := func(times string) func(*page) bool {
		return func(p *page) bool {
			got := p.region("news")
			return strings.Count(got, "refused ") == 1 && strings.Contains(got, "refused web-1 "+times+" times since 2") &&
				strings.Contains(got, "another instance is connected to l1") && strings.Contains(got, "came web-1") && strings.Contains(got, "came web-2")
		}
	}
	p := s.eventually("/", "one row of what was before", reads("60"))
	rows := func(p *page, region string) (keys []string) {
		for _, n := range p.all(func(n *html.Node) bool { return attribute(n, "data-region") == region }) {
			for _, li := range all(n, having("li", "")) {
				keys = append(keys, attribute(li, "data-key"))
			}
		}
		return keys
	}
	was := rows(p, "news")
	live := s.follow("news")
	refuse(newsShown)
	live.until("the row grows", func(m sent) bool {
		return m.data.Region == "news" && strings.Contains(words(parsed(t, m.data.HTML).root), "80 times")
	})
	p = s.eventually("/", "one row", reads("80"))
	if got := rows(p, "news"); !slices.Equal(got, was) {
		t.Errorf("the rows are %q, and were %q", got, was)
	}
	s.leave("l1", "web-1")
	p = s.eventually("/hosts/web-1", "the host's page", func(p *page) bool { return strings.Contains(p.id("host-events"), "went") })
	if got := p.id("host-events"); strings.Count(got, "refused") != 1 || !strings.Contains(got, "refused 80 times since 2") || !strings.Contains(got, "came at l1") {
		t.Errorf("the host's events: %q", got)
	}
	refuse(newsShown) // it is known when it went, whatever came since
	if got := s.get("/hosts/web-1", http.StatusOK).id("host-state"); !strings.HasPrefix(got, "offline since 2") {
		t.Errorf("state %q", got)
	}
}
