package browser_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/browser"
	"github.com/musterhq/muster/internal/faults"
)

// TestRejectedRequest waits for a task set whose request is rejected, and then for the next
// one of the same number: the page follows by itself.
func TestRejectedRequest(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 1})
	page := s.open(browser.Phone, "/tasks/AC131")
	page.until(text("main") + `.includes("There is no task set AC131")`)
	page.mark()
	s.add("key", "AC131", "commands", hostile)
	s.rejection()
	page.until(text("main") + `.includes("A request with this number was rejected")`)
	page.until(`document.querySelector("main .reason").textContent.length > 10 && document.querySelector("main time[datetime]") !== null && document.title.startsWith("AC131")`)
	page.marked()
	late := s.open(browser.Desktop, "/tasks/AC131")
	late.until(text("main .tag") + ` === "rejected"`)
	s.dispatch("AC131", s.Hosts(), "echo taken at last")
	for _, p := range []*tab{page, late} {
		p.until(`document.body.innerText.includes("taken at last") && !document.body.innerText.includes("rejected")`)
		p.forgive() // it was answered with 404
	}
}

// narrow is a small phone.
var narrow = browser.View{Width: 360, Height: 740, Phone: true} // never changes

// fits fails if a page is wider than its screen.
func (t *tab) fits(v browser.View) {
	t.site.Helper()
	if wide := value[int](t, `document.documentElement.scrollWidth`); wide > v.Width {
		t.site.Errorf("%s is %d wide on a screen of %d", t.path, wide, v.Width)
	}
}

// TestSortOnAPhone sorts the roll by every column, by keyboard, on a screen that shows two
// of them.
func TestSortOnAPhone(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 1})
	ctx := t.Context()
	_, err := s.DB.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, "{muster}:listeners", redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: "made"})
		for i := range 60 {
			id := fmt.Sprintf("made-%02d", i)
			p.HSet(ctx, "{muster}:online", id, fmt.Sprintf("127.0.0.%d:6655@made", 100-i))
			p.HSet(ctx, "{muster}:clients", id, "json")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page := s.open(narrow, "/?q=made&page=2")
	page.until(text("#roll-count") + ` === "51–60 of 60 found, 61 online"`)
	page.mark()
	page.fits(narrow)
	first := `document.querySelector('[data-region="roll"] tbody tr').dataset.key`
	for i, name := range []string{"host", "hostname", "address", "system", "version", "client", "listener", "since", "state"} {
		link := fmt.Sprintf(`document.querySelectorAll(".sorts a")[%d]`, i)
		box := link + `.getBoundingClientRect()`
		if !value[bool](page, box+`.width > 20 && `+box+`.height >= 24 && `+box+`.left >= 0 && `+box+`.right <= innerWidth`) {
			t.Fatalf("the order by %s can't be touched", name)
		}
		if name == "host" { // it is in this order: the other way round
			value[bool](page, link+`.focus() === undefined`)
			page.press(kb.Enter)
			page.until(first + ` === "made-59"`)
			page.until(`new URLSearchParams(location.search).get("desc") === "1"`)
			continue
		}
		page.press(kb.Tab) // the focus has stayed on the one before
		page.press(kb.Enter)
		page.until(fmt.Sprintf(`%s.getAttribute("aria-current") === "true" && new URLSearchParams(location.search).get("sort") === %q`, link, name))
		want := "made-00"
		if name == "address" {
			want = "made-59"
		}
		page.until(fmt.Sprintf(`%s === %q`, first, want))
		if !value[bool](page, `document.activeElement === `+link+` && location.search.includes("q=made") && !location.search.includes("page")`) {
			t.Errorf("by %s: the focus or the search is lost: %s", name, value[string](page, `location.search`))
		}
	}
	page.marked()
	page.fits(narrow)
	desk := s.open(browser.Desktop, "/")
	desk.until(text("#roll-count") + `.includes("61")`)
	if value[bool](desk, `document.querySelector(".sorts").checkVisibility()`) {
		t.Error("a wide screen has the orders twice")
	}
}

// refused starts a second agent with the id of the first one, which is refused again and
// again.
func (s *site) refused() {
	s.Helper()
	second := faults.NewProcess("second", s.Dir, shared.binary, nil, "agent", "--id", s.AgentID(0), "--udp-port", "0", "--bind-ip", "127.0.0.1",
		"--server", s.Addrs[0], "--state-dir", filepath.Join(s.Dir, "second"))
	if err := second.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(second.Kill)
}

// TestContestedHost sees, on a small phone and on a desktop, that another agent with the id of
// a host is refused.
func TestContestedHost(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 2})
	phone, desk := s.open(narrow, "/"), s.open(browser.Desktop, "/")
	host := s.open(narrow, "/hosts/"+s.AgentID(0))
	for _, p := range []*tab{phone, desk} {
		p.until(text("#hosts-online") + ` === "2"`)
		p.mark()
	}
	host.until(text("#host-state") + `.startsWith("online")`)
	host.mark()
	if value[bool](host, `document.querySelector("#host-contested") !== null`) {
		t.Error("it is contested by nobody")
	}
	s.refused()
	desk.until(`/refused agent-1 [0-9]+ times since/.test(` + text(`[data-region="news"]`) + `)`) // it tries again and again
	desk.until(`document.querySelectorAll('[data-region="news"] .state-warn').length === 1 && ` + text(`[data-region="news"]`) + `.includes("came agent-2")`)
	row := fmt.Sprintf(`[data-region="roll"] tr[data-key=%q]`, s.AgentID(0))
	phone.until(text(row) + `.includes("contested: another instance was refused")`)
	desk.until(text(row+" .c-state") + ` === "contested"`)
	host.until(text("#host-contested") + `.includes("another instance with this id was refused")`)
	if shown := value[string](desk, text(row)); strings.Count(shown, "contested") != 1 {
		t.Errorf("a wide screen says it twice: %q", shown)
	}
	if other := value[string](phone, text(fmt.Sprintf(`[data-region="roll"] tr[data-key=%q]`, s.AgentID(1)))); strings.Contains(other, "contested") {
		t.Errorf("the other host: %q", other)
	}
	for _, p := range []*tab{phone, host} {
		p.fits(narrow)
		p.marked()
	}
	desk.marked()
}
