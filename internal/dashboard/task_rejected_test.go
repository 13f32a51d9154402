package dashboard

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

// absent asks for the page of a task set that is not there.
func (b *bench) absent(url string) *html.Node {
	b.Helper()
	w := b.get(url, "")
	if w.Code != http.StatusNotFound {
		b.Fatalf("%s: %d %s", url, w.Code, w.Body)
	}
	page := parsed(b.T, w.Body.String()).root
	inert(b.T, url, page)
	return page
}

// rejection is the event of a rejected request; n is its place among them.
func rejection(n int, key tasks.Number, reason string) tasks.Event {
	return tasks.Event{
		ID: fmt.Sprintf("%d-0", at(n).UnixMilli()), Time: at(n), Type: "request.rejected", Key: key, Request: fmt.Sprintf("r%d", n), Reason: reason,
	}
}

// The page of a number says why its request was rejected and when, as long as no task set
// has it.
func TestPageOfRejectedRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := text(b.absent("/tasks/AC7")); !strings.Contains(got, "There is no task set AC7.") || !strings.Contains(got, "on its way") || strings.Contains(got, "was rejected") {
		t.Errorf("nothing is known: %s", got)
	}
	b.srv.happened(rejection(1, "AC7", "no such thing"))
	for n := 2; n < 2+2*newsShown; n++ { // more than a list shows
		b.srv.happened(rejection(n, tasks.Number(fmt.Sprintf("ACmany%d", n)), "another"))
	}
	for _, url := range []string{"/tasks/AC7", "/tasks/AC7?state=done&page=3", "/tasks/AC7/hosts/web-1"} {
		page := b.absent(url)
		got := text(page)
		for _, want := range []string{"There is no task set AC7. A request with this number was rejected " + at(1).UTC().Format(time.DateTime) + ".", "no such thing", "Request r1."} {
			if !strings.Contains(got, want) {
				t.Errorf("%s does not say %q: %s", url, want, got)
			}
		}
		if strings.Contains(got, "on its way") || len(all(page, having("span", "bad"))) != 1 {
			t.Errorf("%s: %s", url, got)
		}
	}
	if got := text(b.absent("/tasks/AC8")); strings.Contains(got, "was rejected") {
		t.Errorf("another number: %s", got)
	}
	if got := len(all(all(b.page("/tasks"), having("ul", "rejected"))[0], having("li", ""))); got != newsShown {
		t.Errorf("the list shows %d", got)
	}
	// The newest one counts, whatever it says.
	for i, reason := range hostile() {
		b.srv.happened(rejection(100+i, "AC7", reason))
		got := all(b.absent("/tasks/AC7"), having("p", "reason"))
		if want := visible.Cut(2000, clip(reason, 2048)); len(got) != 1 || raw(got[0]) != want {
			t.Errorf("reason %.80q is shown as %.80q", reason, raw(got[0]))
		}
	}
	b.srv.happened(rejection(50, "AC7", "an older one"))
	if got := text(b.absent("/tasks/AC7")); strings.Contains(got, "an older one") {
		t.Errorf("not the newest: %.300s", got)
	}
	b.set("AC7", "a", "web-1")
	if got := text(b.page("/tasks/AC7")); strings.Contains(got, "rejected") {
		t.Errorf("the set is there: %s", got)
	}
	b.srv.forgotten()
	if got := b.srv.rejected.of("ACmany2"); got != nil {
		t.Errorf("of a Redis that has lost all: %+v", got)
	}
}

// A page that waits for a task set is told when its request was rejected, each time, and when
// a later one was taken.
func TestRejectedRequestIsLive(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	p := s.get("/tasks/AC7", http.StatusNotFound)
	main := p.all(having("main", ""))[0]
	if _, awaits := attributes(main)["data-awaits"]; !awaits {
		t.Error("the page does not wait")
	}
	live := s.follow(strings.Fields(attribute(main, "data-live"))...)
	for _, reason := range []string{"first", "second"} {
		s.must(tasks.Record(t.Context(), s.rdb, tasks.Event{Type: "request.rejected", Key: "AC7", Reason: reason}))
		live.until("it was rejected", func(m sent) bool { return m.event == "stale" && m.data.Region == "absent" })
		if got := words(s.get("/tasks/AC7", http.StatusNotFound).root); !strings.Contains(got, reason) {
			t.Errorf("%s: %s", reason, got)
		}
	}
	s.put("AC7", "web-1")
	live.until("it was taken", func(m sent) bool { return m.event == "swap" && m.data.Region == "ledger" })
	s.get("/tasks/AC7", http.StatusOK)
}

func attributes(n *html.Node) map[string]string {
	all := map[string]string{}
	for _, a := range n.Attr {
		all[a.Key] = a.Val
	}
	return all
}
