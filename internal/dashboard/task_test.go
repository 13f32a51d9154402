package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

func TestTaskPage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC131", "ab", "web-1", "web-2", "web-3", "2001:db8::5", "offline-1")
	b.report(
		ended("AC131", "web-1", "a", 0, "fine\n"), ended("AC131", "web-1", "b", 0, ""),
		ended("AC131", "web-2", "a", 0, "fine\n"), ended("AC131", "web-2", "b", 7, ""),
		ended("AC131", "2001:db8::5", "a", 0, "other\n"),
		tasks.Report{Number: "AC131", Host: "web-3", Phase: 2, Working: "a"},
	)
	page := b.page("/tasks/AC131")
	if got := text(all(page, having("h1", ""))[0]); got != "AC131" {
		t.Errorf("title %q", got)
	}
	if got := attribute(all(page, having("svg", "bar"))[0], "aria-label"); got != "1 done, 1 failed, 1 offline, 2 working of 5" {
		t.Errorf("bar: %s", got)
	}
	if got := text(all(page, having("ol", "commands"))[0]); got != "a priority 100 b priority 99" {
		t.Errorf("commands: %s", got)
	}
	for class, want := range map[string]string{
		"c-host":    "[2001:db8::5 offline-1 web-1 web-2 web-3]",
		"c-state":   "[working offline done failed working]",
		"c-ended":   "[1 of 2 0 of 2 2 of 2 2 of 2 0 of 2]",
		"c-codes":   "[0  0 0 0 7 ]",
		"c-working": "[    a]",
	} {
		if got := fmt.Sprint(column(page, class)); got != want {
			t.Errorf("%s: %s, want %s", class, got, want)
		}
	}
	groups := all(page, having("article", "group"))
	var shown []string
	for _, g := range groups {
		shown = append(shown, text(g))
	}
	want := []string{
		"2 hosts exit 0 web-1 web-2 fine 5 bytes of standard output",
		"1 host exit 0 2001:db8::5 other 6 bytes of standard output",
		"1 host exit 0 web-1 It printed nothing.",
		"1 host exit 7 web-2 It printed nothing.",
	}
	if !slices.Equal(shown, want) {
		t.Errorf("outputs:\n%s\nwant\n%s", strings.Join(shown, "\n"), strings.Join(want, "\n"))
	}

	// The hosts of one output, and of one state.
	key := attribute(groups[0], "data-key")
	for query, want := range map[string]string{
		"?output=" + key:                   "web-1 web-2",
		"?output=" + key + "&state=failed": "web-2",
		"?state=working":                   "2001:db8::5 web-3",
		"?state=working&q=WEB":             "web-3",
		"?state=nonsense&q=offline":        "offline-1",
		"?state=waiting":                   "",
	} {
		if got := strings.Join(column(b.page("/tasks/AC131"+query), "c-host"), " "); got != want {
			t.Errorf("%s shows %s, want %s", query, got, want)
		}
	}

	// One region is the same as in the page, and nothing else.
	w := b.get("/tasks/AC131?state=failed", "members")
	if body := w.Body.String(); w.Code != http.StatusOK || strings.Contains(body, "<html") || strings.Join(column(parsed(t, body).root, "c-host"), " ") != "web-2" {
		t.Errorf("region members: %d %s", w.Code, body)
	}

	// What one host did.
	host := b.page("/tasks/AC131/hosts/web-2")
	if got := text(all(host, having("section", "wrong"))[0]); got != "b exit 7 after 7 ms It printed nothing." {
		t.Errorf("web-2: %s", got)
	}
	for _, a := range all(b.page("/tasks/AC131"), having("a", "")) {
		if text(a) == "2001:db8::5" {
			if b.get(attribute(a, "href"), "").Code != http.StatusOK {
				t.Errorf("no page at %s", attribute(a, "href"))
			}
		}
	}
}

func TestStagesOfTaskPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	request := func(n tasks.Number) tasks.Request {
		return tasks.Request{Key: n, Commands: []tasks.Command{{Line: "a", Priority: 1}}, Timeout: time.Minute, Deadline: time.Hour}
	}
	b.prepare(request("AC1"), "web-1")
	b.set("AC2", "a")
	b.set("AC3", "a", "web-1")
	b.must(b.store.Cancel(b.Context(), "AC3"))
	b.set("AC4", "a", "web-1")
	b.past("AC4")
	b.must(b.store.Expire(b.Context(), "AC4"))
	for n, want := range map[string][]string{
		"AC1": {"preparing", "nothing has been sent yet", "deadline"},
		"AC2": {"nobody", "It has no host", "closed"},
		"AC3": {"cancelled", "1 cancelled", "cancelled"},
		"AC4": {"expired", "1 expired", "deadline"},
	} {
		page := b.page("/tasks/" + n)
		if got := text(all(page, having("span", "tag"))[0]); got != want[0] {
			t.Errorf("%s is %s, want %s", n, got, want[0])
		}
		if got := text(page); !strings.Contains(got, want[1]) {
			t.Errorf("%s does not say %q: %s", n, want[1], got)
		}
		if got := text(all(page, having("ol", "steps"))[0]); !strings.Contains(got, want[2]) {
			t.Errorf("%s: timeline without %q: %s", n, want[2], got)
		}
	}
}

// The timeline has what the events and the set tell, in the order of time.
func TestTimeline(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	store := tasks.NewStore(b.rdb, tasks.StoreConfig{RetryAfter: time.Millisecond, Attempts: 3})
	r := tasks.Request{Key: "AC1", Commands: []tasks.Command{{Line: "a", Priority: 1}}, Timeout: time.Minute, Deadline: time.Hour}
	b.prepare(r, "web-1", "web-2")
	b.must(tasks.Record(b.Context(), b.rdb, tasks.Event{Type: "task.accepted", Key: "AC1"}))
	_, err := store.Open(b.Context(), "AC1")
	b.must(err)
	b.must(tasks.Record(b.Context(), b.rdb, tasks.Event{Type: "task.sent", Key: "AC0", More: map[string]string{"datagrams": "9"}}))
	b.must(tasks.Record(b.Context(), b.rdb, tasks.Event{Type: "task.sent", Key: "AC1", More: map[string]string{"datagrams": "2"}}))
	b.report(ended("AC1", "web-1", "a", 0, ""))
	redistest.Eventually(t, "web-2 has used up its sends", func() bool {
		again, err := store.CountSends(b.Context(), "AC1", []string{"web-2"})
		b.must(err)
		return len(again.Spent) == 1
	})
	b.must(store.GiveUp(b.Context(), "AC1", []string{"web-2"}))
	page := b.page("/tasks/AC1")
	steps := map[string]bool{}
	last := ""
	for _, li := range all(all(page, having("ol", "steps"))[0], having("li", "")) {
		at := attribute(all(li, having("time", ""))[0], "datetime")
		if when, before := mustTime(t, at), last; before != "" && when.Before(mustTime(t, before)) {
			t.Errorf("%s comes after %s", at, before)
		}
		last = at
		words := all(li, having("span", ""))
		steps[text(words[len(words)-1])] = true
	}
	for _, want := range []string{
		"created", "written whole, for 2 hosts", "number sent, 2 datagrams", "first command ended",
		"2nd send due for 1 host without an answer", "3rd send due for 1 host without an answer", "1 host had not answered", "closed",
	} {
		if !steps[want] {
			t.Errorf("no step %q in %v", want, steps)
		}
	}
	if got := attribute(all(all(page, having("figure", "curve"))[0], having("svg", ""))[0], "aria-label"); got != "1 of 2 commands have ended" {
		t.Errorf("curve: %s", got)
	}
}

func mustTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestNoSuchTask(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1")
	for url, want := range map[string]string{
		"/tasks/AC999":                      "There is no task set AC999",
		"/tasks/AC999/hosts/web-1":          "There is no task set AC999",
		"/tasks/" + strings.Repeat("x", 90): "is no task number",
		"/tasks/A%3Cscript%3E":              `A<script> is no task number`,
		"/tasks/AC1/hosts/web-9":            "web-9 is not a host of AC1",
		"/tasks/AC1/hosts/%1b[31m":          `\x1b[31m is not a host of AC1`,
		"/tasks/AC1/nonsense":               "There is no page",
	} {
		w := b.get(url, "")
		if got := text(parsed(t, w.Body.String()).root); w.Code != http.StatusNotFound || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", url, w.Code, got)
		}
	}
}

// hostile is what a host may print, or a request may say.
func hostile() []string {
	return []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</pre></textarea><svg onload=alert(1)>", "{{.Data}}",
		"\x1b[31mred\x1b[0m\x1b]0;title\x07", "\u202eevil\u202c \u200b\u2066x\u2069", "nul\x00here", "\xff\xfe bad \xc3", "a\r\nb\tc\n\n d",
		"\nfirst line is empty", strings.Repeat("x", 64<<10), "javascript:alert(1)", "<!--", "]]>", "&lt;b&gt;",
	}
}

// Text of others is text on each page: it makes no element, no attribute that does
// something, and nothing that a terminal or a reader would be led astray by.
func TestHostileTextOfSets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = "AC1"
	r := tasks.Request{Key: n, Timeout: time.Minute, Deadline: time.Hour}
	for i, h := range hostile() {
		r.Commands = append(r.Commands, tasks.Command{Line: h[:min(len(h), 8000)], Priority: float64(-i)})
	}
	b.prepare(r, "web-1")
	_, err := b.store.Open(b.Context(), n)
	b.must(err)
	b.report(tasks.Report{Number: n, Host: "web-1", Phase: 2, Working: r.Commands[0].Line})
	working := b.page("/tasks/" + n)
	if got := column(working, "c-working"); got[0] != hostile()[0] {
		t.Errorf("working: %q", got)
	}
	inert(t, "a command that runs", working)
	for i, h := range hostile() {
		rep := ended(n, "web-1", r.Commands[i].Line, 1, h)
		rep.Result.Stderr, rep.Result.Error = h, h[:min(len(h), 8000)]
		b.report(rep)
		b.must(tasks.Record(b.Context(), b.rdb, tasks.Event{Type: "request.rejected", Request: h[:min(len(h), 100)], Reason: h}))
	}
	events, err := tasks.Events(b.Context(), b.rdb, "0", 100, 0)
	b.must(err)
	for _, e := range events {
		b.srv.happened(e)
	}
	b.index()

	want := map[string]int{}
	for _, h := range hostile() {
		want[strings.Join(visible.Lines(h), "\n")] += 2
	}
	whole := b.page("/tasks/" + n + "/hosts/web-1")
	inert(t, "the page of a host", whole)
	for _, pre := range all(whole, having("pre", "")) {
		want[raw(pre)]--
	}
	for h, n := range want {
		if n != 0 {
			t.Errorf("%.80q is there %d times too few", h, n)
		}
	}
	for _, url := range []string{"/tasks/" + n, "/tasks/" + n + "?g=2", "/tasks/" + n + "?c=11", "/tasks", "/tasks/" + n + "?q=%22%3E%3Cscript%3E&state=%3Cb%3E"} {
		page := b.page(url)
		inert(t, url, page)
		for _, pre := range all(page, having("pre", "")) {
			if len(raw(pre)) > outputShown*4+1 {
				t.Errorf("%s: an output of %d bytes", url, len(raw(pre)))
			}
		}
	}
	if got := text(all(b.page("/tasks/"+n+"?c=11"), having("article", "group"))[0]); !strings.Contains(got, "The first 8,192 bytes of it. The whole output of web-1") {
		t.Errorf("a long output: %.300s", got)
	}
	inert(t, "/tasks", b.page("/tasks"))
	if got := text(all(b.page("/tasks"), having("ul", "rejected"))[0]); !strings.Contains(got, "<script>alert(1)</script>") {
		t.Errorf("rejected: %.300s", got)
	}
	region, err := b.srv.ledgerRegion(b.Context(), n)
	b.must(err)
	inert(t, "region ledger", parsed(t, region).root)
}

// inert fails unless a page is made of muster's own elements and harmless text.
func inert(t *testing.T, what string, page *html.Node) {
	t.Helper()
	elements := strings.Fields("html head meta title link script body a header nav span main section article h1 h2 h3 p form label input button " +
		"div table caption thead tbody tr th td time ul ol li pre bdi option select nav svg rect polyline figure figcaption path b dl dt dd code footer details summary")
	for n := range page.Descendants() {
		switch n.Type {
		case html.TextNode, html.CommentNode:
			if i := strings.IndexFunc(n.Data, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 && n.Data[i:] != "\ufffd" {
				t.Errorf("%s: text with %q", what, n.Data[i:min(i+10, len(n.Data))])
			}
			if n.Type == html.CommentNode {
				t.Errorf("%s: comment %q", what, n.Data)
			}
		case html.ElementNode:
			if !slices.Contains(elements, n.Data) {
				t.Errorf("%s: element %s", what, n.Data)
			}
			if n.Data == "script" && (n.FirstChild != nil || !strings.HasPrefix(attribute(n, "src"), "/static/")) {
				t.Errorf("%s: a script of its own", what)
			}
			for _, a := range n.Attr {
				if n.Data != "input" && strings.ContainsFunc(a.Val, func(r rune) bool { return r != '\ufffd' && !unicode.IsPrint(r) }) {
					t.Errorf("%s: %s has %s=%q", what, n.Data, a.Key, a.Val)
				}
				link := (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#")
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || link {
					t.Errorf("%s: %s has %s=%q", what, n.Data, a.Key, a.Val)
				}
			}
		}
	}
}

// A set of 100,000 hosts is paged, filtered and searched.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 100_000
	hosts := hostNames("web-%06d", n)
	for i := 0; i < n; i += 1000 {
		hosts[i] = fmt.Sprintf("offline-%06d", i)
	}
	b.set("AC1", "a", hosts...)
	var reports []tasks.Report
	for i := 1; i < n; i += 100 {
		reports = append(reports, ended("AC1", hosts[i], "a", i/100%2, fmt.Sprint(i/100%10)))
	}
	b.report(reports...)
	for _, c := range []struct {
		query, first, last, filters string
		rows                        int
	}{
		{"", "offline-000000", "offline-049000", "all 100,000 sent 98,900 done 500 failed 500 offline 100", 50},
		{"?page=3", "web-000001", "web-000050", "all 100,000 sent 98,900 done 500 failed 500 offline 100", 50},
		{"?page=2000", "web-099950", "web-099999", "all 100,000 sent 98,900 done 500 failed 500 offline 100", 50},
		{"?page=777777", "web-099950", "web-099999", "all 100,000 sent 98,900 done 500 failed 500 offline 100", 50},
		{"?state=failed&page=10", "web-090101", "web-099901", "all 100,000 sent 98,900 done 500 failed 500 offline 100", 50},
		{"?q=0990&state=done", "web-099001", "web-099001", "all 120 sent 117 done 1 failed 1 offline 1", 1},
	} {
		page := b.page("/tasks/AC1" + c.query)
		got := column(page, "c-host")
		if len(got) != c.rows || got[0] != c.first || got[len(got)-1] != c.last {
			t.Errorf("%s: %d rows from %s to %s, want %d from %s to %s", c.query, len(got), got[0], got[len(got)-1], c.rows, c.first, c.last)
		}
		if got := text(all(page, having("nav", "filters"))[0]); got != c.filters {
			t.Errorf("%s: %s", c.query, got)
		}
	}
	// Ten outputs, each of a hundred hosts, and the way to all of these.
	page := b.page("/tasks/AC1?c=1")
	groups := all(page, having("article", "group"))
	if len(groups) != 10 {
		t.Fatalf("%d outputs", len(groups))
	}
	for _, a := range all(groups[0], having("a", "")) {
		if text(a) == "all 100 hosts" {
			if got := b.page(strings.TrimSuffix(attribute(a, "href"), "#members")); text(all(got, having("nav", "paging"))[0]) != "first previous 1–50 of 100 next last" {
				t.Errorf("its hosts: %s", text(all(got, having("nav", "paging"))[0]))
			}
			return
		}
	}
	t.Errorf("no way to the hosts of %s", text(groups[0]))
}

// Nothing is read again while the counters stand still; and when they move, the hosts are.
func TestHostsAreReadWhenTheyMove(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set("AC1", "a", "web-1", "web-2")
	read := func() (taken time.Time, states string) {
		l, err := b.store.Ledger(b.Context(), "AC1")
		b.must(err)
		b.must(b.srv.looks.at(l, func(k *look) error {
			k.taken = k.taken.Add(-membersFor) // as if some time had passed
			if k.taken.Year() < 2000 {
				k.taken = time.Time{}
			}
			before := k.taken
			b.must(k.readMembers(b.Context(), b.srv.store, l))
			taken = before
			if k.taken != before {
				taken = time.Time{}
			}
			states = fmt.Sprint(k.members)
			return nil
		}))
		return taken, states
	}
	if again, states := read(); !again.IsZero() || states != "[{web-1 1} {web-2 1}]" {
		t.Errorf("first: %v %s", again, states)
	}
	if again, _ := read(); again.IsZero() {
		t.Error("read again, though nothing has moved")
	}
	b.report(ended("AC1", "web-1", "a", 0, ""))
	if again, states := read(); !again.IsZero() || states != "[{web-1 5} {web-2 1}]" {
		t.Errorf("after a report: %v %s", again, states)
	}
}

// live follows topics, and gives the messages that come.
func (b *bench) live(at string, topics ...string) <-chan map[string]string {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", at+"/live?of="+strings.Join(topics, "&of="), nil)
	b.must(err)
	w, err := http.DefaultClient.Do(r)
	b.must(err)
	messages, ended := make(chan map[string]string, 1000), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(w.Body)
		lines.Buffer(nil, 1<<20)
		for event := ""; lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				m := map[string]string{}
				json.Unmarshal([]byte(data), &m)
				m["event"] = event
				messages <- m
			}
		}
	}()
	b.Cleanup(func() {
		cancel()
		w.Body.Close()
		<-ended
	})
	return messages
}

func TestTaskPagesAreLive(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	at := b.serve()
	messages := b.live(at, "ledger:AC1", "members:AC1", "outputs:AC1", "running", "sets", "rejected")
	wait := func(what string, is func(m map[string]string) bool) {
		t.Helper()
		limit := time.After(60 * time.Second)
		for {
			select {
			case m := <-messages:
				if is(m) {
					return
				}
			case <-limit:
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}
	wait("hello", func(m map[string]string) bool { return m["event"] == "hello" })
	b.set("AC1", "a", "web-1", "web-2")
	b.must(tasks.Record(b.Context(), b.rdb, tasks.Event{Type: "task.accepted", Key: "AC1"}))
	wait("the set runs", func(m map[string]string) bool {
		return m["event"] == "swap" && m["region"] == "running" && strings.Contains(m["html"], "2 sent")
	})
	b.report(ended("AC1", "web-1", "a", 0, "out"))
	got := map[string]bool{}
	wait("all regions of the set are new", func(m map[string]string) bool {
		switch {
		case m["event"] == "stale":
			got[m["region"]] = true
		case m["region"] == "ledger" && strings.Contains(m["html"], "1 done, 1 sent of 2"):
			got["ledger"] = true
		case m["region"] == "running" && strings.Contains(m["html"], "1 done, 1 sent of 2"):
			got["running"] = true
		}
		return got["ledger"] && got["running"] && got["members"] && got["outputs"] && got["sets"]
	})
	b.must(tasks.Record(b.Context(), b.rdb, tasks.Event{Type: "request.rejected", Reason: "no <b>good</b>"}))
	wait("the rejected request is there", func(m map[string]string) bool {
		return m["region"] == "rejected" && strings.Contains(m["html"], "no &lt;b&gt;good")
	})
	b.report(ended("AC1", "web-2", "a", 1, "out"))
	failed, over := false, false
	wait("the set has failed, and nothing runs", func(m map[string]string) bool {
		failed = failed || m["region"] == "ledger" && strings.Contains(m["html"], ">failed</span>")
		over = over || m["region"] == "running" && strings.Contains(m["html"], "Nothing runs")
		return failed && over
	})
}
