package browser_test

import (
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/internal/browser"
	"github.com/musterhq/muster/internal/faults"
)

// A browser has six connections to a server. However many of its windows show the page, each
// loads and is kept true; four are live, and another takes the place of one that is closed.
func TestManyWindows(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1})
	const state = `document.querySelector("#link").dataset.state`
	var live, crowded []*tab
	for range 7 {
		page := s.open(browser.Desktop, "/")
		page.until(state + ` !== undefined`)
		page.mark()
		if value[string](page, state) == "live" {
			live = append(live, page)
		} else {
			crowded = append(crowded, page)
		}
	}
	if len(live) != 4 {
		t.Fatalf("%d of 7 windows are live, want 4", len(live))
	}
	for _, page := range crowded {
		page.until(text("#link") + `.startsWith("Many windows are open")`)
	}
	agent := faults.NewProcess("web-1", s.Dir, shared.binary, nil, "agent", "--id", "web-1", "--udp-port", "0", "--bind-ip", "127.0.0.1",
		"--server", s.Addrs[0], "--state-dir", filepath.Join(s.Dir, "web-1"))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Kill)
	for _, page := range append(crowded, live...) {
		page.until(text("#hosts-online") + ` === "1"`)
		page.marked()
	}
	live[0].done()
	last := crowded[len(crowded)-1]
	for _, page := range crowded[:len(crowded)-1] { // whichever it is, the others go, too
		page.done()
	}
	last.until(state + ` === "live"`)
	last.until(`document.querySelector("#link").hidden`)
	last.marked()
}
