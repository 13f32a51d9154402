package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/browser"
	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/internal/redistest"
)

// shared is one browser and one binary for all tests: each costs seconds.
var shared = struct {
	dir     string // set by TestMain only
	mu      sync.Mutex
	binary  string
	browser *browser.Browser
}{}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "muster-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared.dir = dir
	defer func() {
		if shared.browser != nil {
			shared.browser.Close()
		}
	}()
	return m.Run()
}

// needBrowser returns the one browser, or has the test say that there is none.
func needBrowser(t *testing.T) *browser.Browser {
	t.Helper()
	if _, err := browser.Path(); err != nil {
		t.Skipf("the pages are not tested in a browser: %v", err)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.browser == nil {
		b, err := browser.Start(context.Background()) // ends in TestMain
		if err != nil {
			t.Fatal(err)
		}
		shared.browser = b
	}
	return shared.browser
}

// site is a whole system with its dashboard, all real processes, and a browser.
type site struct {
	*testing.T
	*faults.System
	browser *browser.Browser
}

// newSite starts a site. Its tests do not run beside one another: each is eight processes
// and a browser, and what a page does in time is what they look at.
func newSite(t *testing.T, cfg faults.Config) *site {
	t.Helper()
	b := needBrowser(t)
	redistest.NeedReal(t)
	shared.mu.Lock()
	if shared.binary == "" {
		binary, err := faults.Build(t.Context(), shared.dir)
		if err != nil {
			shared.mu.Unlock()
			t.Fatal(err)
		}
		shared.binary = binary
	}
	cfg.Binary = shared.binary
	shared.mu.Unlock()
	cfg.Dir, cfg.Dashboard = t.TempDir(), true
	s, err := faults.Start(t.Context(), cfg)
	t.Cleanup(func() {
		s.Close()
		if t.Failed() && s.Dashboard != nil {
			log, _ := os.ReadFile(s.Dashboard.Log)
			t.Logf("dashboard:\n%s", log[max(0, len(log)-2000):])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, s, b}
}

// open opens a page, which is closed with the test at the latest.
func (s *site) open(v browser.View, path string) *tab {
	s.Helper()
	b, err := s.browser.Open(v)
	if err != nil {
		s.Fatal(err)
	}
	t := &tab{site: s, Tab: b, path: path}
	s.Cleanup(t.done)
	if err := t.Go(s.Page + path); err != nil {
		s.Fatal(err)
	}
	return t
}

// tab is a page under test.
type tab struct {
	site *site
	*browser.Tab
	path string

	forgiven bool // what the browser has logged is as it should be
}

// forgive passes over what the browser has logged up to now and from now on.
func (t *tab) forgive() { t.forgiven = true }

// done closes the page. It must have had nothing to complain of, and have fetched nothing
// from elsewhere.
func (t *tab) done() {
	if t.Tab == nil {
		return
	}
	for _, p := range t.Problems() {
		if t.forgiven {
			break
		}
		t.site.Errorf("%s: %s", t.path, p)
	}
	for _, url := range t.Fetched() {
		if !strings.HasPrefix(url, t.site.Page+"/") && !strings.HasPrefix(url, "data:") {
			t.site.Errorf("%s has fetched %s", t.path, url)
		}
	}
	t.Close()
	t.Tab = nil
}

// until waits for a JavaScript expression to become true.
func (t *tab) until(expression string) {
	t.site.Helper()
	if err := t.Until(expression); err != nil {
		text, _ := browser.Eval[string](t.Tab, `document.body.innerText`)
		t.site.Fatalf("%v; the page says:\n%s", err, text)
	}
}

// value is what a JavaScript expression comes to.
func value[T any](t *tab, expression string) T {
	t.site.Helper()
	v, err := browser.Eval[T](t.Tab, expression)
	if err != nil {
		t.site.Fatalf("%s: %v", expression, err)
	}
	return v
}

// press sends keys as a keyboard does.
func (t *tab) press(keys string) {
	t.site.Helper()
	if _, err := browser.Do(t.Tab, chromedp.KeyEvent(keys)); err != nil {
		t.site.Fatal(err)
	}
}

// mark marks the page as it is: a page that is loaded again has no mark.
func (t *tab) mark() { t.site.Helper(); value[bool](t, `window.marked = true`) }

// marked is that the page was not loaded again since mark.
func (t *tab) marked() {
	t.site.Helper()
	if !value[bool](t, `window.marked === true`) {
		t.site.Error("the page was loaded again")
	}
}

// text is the expression for what an element shows.
func text(selector string) string {
	return fmt.Sprintf(`(document.querySelector(%q) || {innerText: ""}).innerText`, selector)
}

// dispatch puts a request into the stream, as anyone would.
func (s *site) dispatch(key string, hosts []string, commands ...string) {
	s.Helper()
	priorities := map[string]int{}
	for i, c := range commands {
		priorities[c] = len(commands) - i
	}
	list, err := json.Marshal(priorities)
	if err != nil {
		s.Fatal(err)
	}
	names, err := json.Marshal(hosts)
	if err != nil {
		s.Fatal(err)
	}
	s.add("key", key, "commands", string(list), "hosts", string(names))
}

func (s *site) add(fields ...string) {
	s.Helper()
	err := s.DB.XAdd(s.Context(), &redis.XAddArgs{Stream: "muster:requests", Values: fields}).Err()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) ended(key string) {
	s.Helper()
	err := faults.Wait(s.Context(), 3*time.Minute, key+" ended", func() bool {
		return s.DB.HGet(s.Context(), "{"+key+"}:meta", "state").Val() == "closed"
	})
	if err != nil {
		s.Fatal(err)
	}
}

// TestHostsComeAndGo has a host come and go while somebody looks at the fleet.
func TestHostsComeAndGo(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 2})
	page := s.open(browser.Desktop, "/")
	page.until(text("#hosts-online") + ` === "2"`)
	page.mark()
	addr := s.Addrs[0]
	early := s.open(browser.Desktop, "/hosts/late:1")
	early.until(text("main") + `.includes("Nobody has heard of the host late:1")`)
	late := faults.NewProcess("late", s.Dir, shared.binary, nil, "agent", "--id", "late:1", "--udp-port", "0", "--bind-ip", "127.0.0.1",
		"--server", addr, "--state-dir", filepath.Join(s.Dir, "late"))
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(late.Kill)
	page.until(text("#hosts-online") + ` === "3"`)
	page.until(`document.querySelector('[data-region="roll"] tr[data-key="late:1"]') !== null`)
	page.until(text(`[data-region="news"] li`) + `.includes("late:1")`)
	early.until(text("#host-state") + `.startsWith("online")`) // without the reader's doing
	early.forgive()                                            // it was answered with 404
	early.done()
	host := s.open(browser.Desktop, "/hosts/late:1")
	host.until(text("#host-state") + `.startsWith("online")`)
	host.until(text("#host-info") + `.includes("linux")`) // it tells of itself a moment later
	host.mark()
	if err := late.Stop(); err != nil {
		t.Fatal(err)
	}
	page.until(text("#hosts-online") + ` === "2"`)
	page.until(`document.querySelector('[data-region="roll"] tr[data-key="late:1"]') === null`)
	host.until(text("#host-state") + `.startsWith("offline")`)
	page.marked()
	host.marked()
}

// TestDispatchMoves follows a dispatch from running to done on three pages at once.
func TestDispatchMoves(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 3})
	fleet := s.open(browser.Desktop, "/")
	list := s.open(browser.Desktop, "/tasks")
	fleet.until(text("#hosts-online") + ` === "3"`)
	fleet.mark()
	list.mark()
	early := s.open(browser.Desktop, "/tasks/AC131")
	early.until(text("main") + `.includes("There is no task set AC131")`)
	gate := filepath.Join(s.Dir, "gate")
	s.dispatch("AC131", s.Hosts(), "echo same everywhere", fmt.Sprintf("while [ ! -e %s ]; do sleep 0.1; done", gate))
	fleet.until(text(`[data-region="running"]`) + `.includes("AC131")`)
	list.until(text(`[data-region="sets"] tr[data-key="AC131"]`) + `.includes("running")`)
	early.until(`document.body.innerText.includes("same everywhere")`) // without the reader's doing
	early.forgive()                                                    // it was answered with 404
	early.done()
	set := s.open(browser.Desktop, "/tasks/AC131")
	set.until(`document.body.innerText.includes("same everywhere")`)
	width := func(state string) string {
		return fmt.Sprintf(`Number(document.querySelector("[data-region=ledger] svg.bar rect.s-%s").getAttribute("width"))`, state)
	}
	set.until(width("working") + ` > 0`)
	set.mark()
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.ended("AC131")
	set.until(width("working") + ` === 0 && ` + width("done") + ` > 0`)
	set.until(text(`[data-region="members"] .filters`) + `.includes("done 3")`)
	fleet.until(`!` + text(`[data-region="running"]`) + `.includes("AC131")`)
	list.until(text(`[data-region="sets"] tr[data-key="AC131"]`) + `.includes("done")`)
	fleet.marked()
	list.marked()
	set.marked()
	host := s.open(browser.Desktop, "/hosts/agent-1")
	host.until(text("#host-dispatches") + `.includes("AC131")`)
}

// hostile is what a command prints to get at who looks at it.
const hostile = `<script>document.title="owned"</script><img src=x onerror='document.title="owned"'>`

// TestHostileText has hosts say what would run, load, colour or hide something if a page
// took it for more than text.
func TestHostileText(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 2})
	command := `printf '%s\033[31mred\033]0;owned\007\342\200\256back\n' ` + "'" + strings.ReplaceAll(hostile, "'", `'\''`) + "'"
	s.dispatch("AC666", s.Hosts(), command)
	s.ended("AC666")
	// A host that is a liar in all that it tells of itself.
	lie := hostile + "\x1b[31m\u202e"
	ctx := t.Context()
	for _, err := range []error{
		s.DB.HSet(ctx, "muster:host:{agent-1}:info", "hostname", lie, "os", lie, "version", strings.Repeat("W", 9000), lie, lie).Err(),
		s.DB.RPush(ctx, "muster:host:{agent-1}:ipv4", lie).Err(),
		s.DB.XAdd(ctx, &redis.XAddArgs{Stream: "{muster}:events", Values: []string{"type", "host.duplicate", "host", "agent-1", "reason", lie}}).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.add("key", "AC667", "commands", lie)
	if err := faults.Wait(ctx, 3*time.Minute, "a rejected request", func() bool {
		return s.DB.ZCard(ctx, "asynq:{dispatch}:archived").Val() == 1
	}); err != nil {
		t.Fatal(err)
	}
	for path, shown := range map[string]string{
		"/":                          `[data-region="roll"]`,
		"/hosts/agent-1":             `#host-info`,
		"/tasks":                     `[data-region="rejected"]`,
		"/tasks/AC666":               `main`,
		"/tasks/AC666/hosts/agent-1": `main`,
	} {
		for _, view := range []browser.View{browser.Desktop, browser.Phone} {
			page := s.open(view, path)
			page.until(fmt.Sprintf(`(document.querySelector(%q) || {textContent: ""}).textContent.includes("<script>document.title")`, shown))
			if strings.HasPrefix(path, "/tasks/") {
				page.until(`document.querySelector("main").textContent.includes("\\x1b[31mred\\x1b]0;owned\\a\\u202eback")`)
			}
			if title := value[string](page, `document.title`); strings.Contains(title, "owned") {
				t.Errorf("%s: the title is %q", path, title)
			}
			if odd := value[int](page, `document.querySelectorAll("main script, main img, main iframe, main style, main [onerror], main [style]").length`); odd != 0 {
				t.Errorf("%s has %d elements that nobody but a host can have made", path, odd)
			}
			if seen := value[bool](page, `/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(document.documentElement.textContent)`); seen {
				t.Errorf("%s has characters that are obeyed, not shown", path)
			}
			if wide := value[int](page, `document.documentElement.scrollWidth`); wide > view.Width {
				t.Errorf("%s is %d wide on a screen of %d", path, wide, view.Width)
			}
			page.done() // a browser has six connections to a server, and each page keeps one
		}
	}
}

// rejection waits until a request was rejected and returns the reason.
func (s *site) rejection() (reason string) {
	s.Helper()
	err := faults.Wait(s.Context(), 3*time.Minute, "a rejected request", func() bool {
		for _, e := range s.DB.XRange(s.Context(), "{muster}:events", "-", "+").Val() {
			if e.Values["type"] == "request.rejected" {
				reason, _ = e.Values["reason"].(string)
			}
		}
		return reason != ""
	})
	if err != nil {
		s.Fatal(err)
	}
	return reason
}

// TestQueues sees the job queue, and a job that was archived with its reason.
func TestQueues(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 1})
	s.dispatch("AC131", s.Hosts(), "echo a job that was done")
	s.ended("AC131")
	s.add("commands", `{"echo": 1}`, "hosts", `[]`)
	reason := s.rejection()
	page := s.open(browser.Desktop, "/queues/")
	page.until(`document.body.innerText.includes("dispatch")`)
	page.until(`document.querySelector('a[href*="/queues/dispatch"]') !== null`)
	archived := s.open(browser.Desktop, "/queues/queues/dispatch?status=archived")
	archived.until(fmt.Sprintf(`document.body.innerText.includes(%q)`, reason))
	archived.until(`document.body.innerText.includes("muster:dispatch")`)
	for _, path := range []string{"/queues/api/queues/dispatch:pause", "/queues/api/queues/dispatch/archived_tasks:delete_all", "/", "/tasks", "/live"} {
		answer, err := http.Post(s.Page+path, "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %s", path, answer.Status)
		}
	}
}

// TestLargeFleet looks at 50,000 hosts that are in Redis and nowhere else, on a phone and
// by keyboard.
func TestLargeFleet(t *testing.T) {
	const hosts = 50_000
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 1})
	page := s.open(browser.Phone, "/")
	page.until(text("#hosts-online") + ` === "1"`)
	page.mark()
	ctx := t.Context()
	_, err := s.DB.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, "{muster}:listeners", redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: "made"})
		for from := 0; from < hosts-1; from += 5000 {
			var places, clients []string
			for i := from; i < min(from+5000, hosts-1); i++ {
				id := fmt.Sprintf("made-%05d", i)
				places, clients = append(places, id, "127.0.0.1:6655@made"), append(clients, id, "json")
			}
			p.HSet(ctx, "{muster}:online", places)
			p.HSet(ctx, "{muster}:clients", clients)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page.until(text("#hosts-online") + ` === "50,000"`)
	page.until(text("#roll-count") + `.includes("50,000")`)
	if rows := value[int](page, `document.querySelectorAll('[data-region="roll"] tbody tr').length`); rows != 50 {
		t.Errorf("a page has %d hosts", rows)
	}
	page.press("/")
	if !value[bool](page, `document.activeElement.matches("input[type=search]")`) {
		t.Fatal("the key / does not go to the search field")
	}
	// The protocol sends the character apart from the key, so it stands in the field, where
	// a keyboard's does not.
	value[bool](page, `document.activeElement.select() === undefined`)
	page.press("made-04321")
	page.until(text("#roll-count") + `.startsWith("1–1 of 1")`)
	page.until(`document.querySelector('tr[data-key="made-04321"]') !== null`)
	if !value[bool](page, `location.search.includes("made-04321") && document.activeElement.matches("input[type=search]")`) {
		t.Error("the address does not tell what is searched, or the field has lost the focus")
	}
	page.press("\r") // what is typed is found already: nothing is loaded
	if !value[bool](page, `document.activeElement.matches("input[type=search]") && !location.search.includes("per=")`) {
		t.Error("Enter loads the page anew")
	}
	page.marked()
	if wide := value[int](page, `document.documentElement.scrollWidth`); wide > browser.Phone.Width {
		t.Errorf("the page is %d wide on a phone", wide)
	}
	// Another page, sorted the other way, by its address alone.
	last := s.open(browser.Desktop, "/?sort=host&desc=1&page=2&per=100")
	last.until(text("#roll-count") + `.startsWith("101–200 of 50,000")`)
}
