package browser_test

import (
	"testing"

	"github.com/musterhq/muster/internal/browser"
	"github.com/musterhq/muster/internal/faults"
)

// TestOutage looks at pages while Redis is away, and when it is back: nobody has to load
// them again.
func TestOutage(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 1, Lasting: true})
	s.dispatch("AC131", s.Hosts(), "echo kept")
	s.ended("AC131")
	fleet := s.open(browser.Desktop, "/")
	fleet.until(text("#hosts-online") + ` === "1"`)
	fleet.mark()
	s.Redis.Kill()
	fleet.until(`document.querySelector("#redis-away") !== null`)
	set := s.open(browser.Desktop, "/tasks/AC131")
	set.until(`document.querySelector("main").dataset.failed !== undefined`)
	if err := s.Redis.Start(); err != nil {
		t.Fatal(err)
	}
	set.until(`document.body.innerText.includes("kept") && document.querySelector("#redis-away") === null`)
	fleet.until(`document.querySelector("#redis-away") === null && ` + text("#hosts-online") + ` === "1"`)
	fleet.marked()
	set.forgive() // it was answered with 503
}

// TestPageThatCouldNotBeMade mends what was in the way of a page, of which no event tells.
func TestPageThatCouldNotBeMade(t *testing.T) {
	s := newSite(t, faults.Config{Listeners: 1, Workers: 1, Agents: 1})
	s.dispatch("AC131", s.Hosts(), "echo kept")
	s.ended("AC131")
	allow := func(keys ...any) {
		t.Helper()
		if err := s.DB.Do(t.Context(), append([]any{"ACL", "SETUSER", "default", "resetkeys"}, keys...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	allow("~{muster}:*", "~muster:*", "~asynq:*")
	page := s.open(browser.Desktop, "/tasks/AC131")
	page.until(`document.querySelector("main").dataset.failed !== undefined && ` + text("main") + `.includes("Redis refuses")`)
	page.forgive()                                                                                      // it was answered with 503
	page.until(`performance.getEntriesByType("resource").some((e) => e.name.endsWith("/tasks/AC131"))`) // it has looked again, in vain
	allow("~*")
	page.until(text("main") + `.includes("kept")`)
}
