package dashboard

import (
	"context"
	"testing"

	chromium "github.com/musterhq/muster/internal/browser"
	"github.com/musterhq/muster/internal/redistest"
)

// A link within a page leaves it as it is, and the way back from a page of a list leads to
// the page before.
func TestLinksWithinPages(t *testing.T) {
	t.Parallel()
	if _, err := chromium.Path(); err != nil {
		t.Skipf("the pages are not tested in a browser: %v", err)
	}
	b := newBench(t)
	b.many(setsPage + 10)
	at := b.serve()
	chrome, err := chromium.Start(context.Background())
	b.must(err)
	t.Cleanup(chrome.Close)
	tab, err := chrome.Open(chromium.Desktop)
	b.must(err)
	t.Cleanup(tab.Close)
	b.must(tab.Go(at + "/tasks"))
	do := func(script string) {
		t.Helper()
		_, err := chromium.Eval[bool](tab, script+"; true")
		b.must(err)
	}
	b.must(tab.Until(`document.querySelector("a[rel=next]") !== null`))
	// A page that is loaded again forgets the mark.
	do(`window.marked = true; document.querySelector("a.skip").click(); setTimeout(() => { window.calm = true }, 500)`)
	b.must(tab.Until(`location.hash === "#main" && window.calm === true && window.marked === true`))
	do(`window.calm = false; history.back(); setTimeout(() => { window.calm = true }, 500)`)
	b.must(tab.Until(`location.hash === "" && window.calm === true && window.marked === true`))
	do(`document.querySelector("a[rel=next]").click()`)
	b.must(tab.Until(`location.search === "?page=2" && window.marked === true && document.querySelector("a[rel=prev]") !== null`))
	do(`history.back()`)
	redistest.Eventually(t, "the first page, loaded again", func() bool { // an answer is lost while it is loaded
		first, err := chromium.Eval[bool](tab, `location.search === "" && window.marked !== true && document.querySelector("a[rel=next]") !== null`)
		return err == nil && first
	})
}
