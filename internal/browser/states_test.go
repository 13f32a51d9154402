package browser_test

import (
	"testing"

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
