package browser_test

import (
	"fmt"
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

	// Nobody sees it: it has no look before it, and none after the one that is under way.
	value[bool](page, `(() => {
		const set = setTimeout, clear = clearTimeout;
		window.looks = new Set();
		window.setTimeout = (f, ms) => {
			const id = set(() => { looks.delete(id); f(); }, ms);
			if (ms >= 5000) looks.add(id);
			return id;
		};
		window.clearTimeout = (id) => { looks.delete(id); clear(id); };
		return true;
	})()`)
	page.until(`looks.size === 1`)
	see := func(hidden bool) string {
		return fmt.Sprintf(`Object.defineProperty(document, "hidden", { value: %v, configurable: true });
			document.dispatchEvent(new Event("visibilitychange"));`, hidden)
	}
	if n := value[int](page, see(true)+`looks.size`); n != 0 {
		t.Errorf("a page that nobody sees has %d looks before it", n)
	}
	value[bool](page, see(false)+`
		const ask = fetch;
		window.fetch = async (...what) => {
			window.fetch = ask;
			`+see(true)+`
			const answer = await ask(...what);
			setTimeout(() => { window.answered = true; }, 500); // when the page has dealt with it
			return answer;
		};
		true`)
	page.until(`window.answered`)
	if n := value[int](page, `looks.size`); n != 0 {
		t.Errorf("a page that nobody sees is to look again after an answer: %d", n)
	}
	value[bool](page, see(false)+`true`)
	page.until(`looks.size === 1`)
	allow("~*")
	page.until(text("main") + `.includes("kept")`)
}
