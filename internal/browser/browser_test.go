package browser

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// need starts a browser for a test, or says that there is none.
func need(t *testing.T) *Browser {
	t.Helper()
	if _, err := Path(); err != nil {
		t.Skipf("not tested in a browser: %v", err)
	}
	b, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestBrowser holds the browser itself to what the other tests rely on: it is as it is
// asked to be, and tells what goes wrong.
func TestBrowser(t *testing.T) {
	t.Parallel()
	b := need(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'")
		if r.URL.Path == "/s.js" {
			w.Header().Set("Content-Type", "text/javascript")
			w.Write([]byte(`setTimeout(() => { document.title = "moved"; throw new Error("thrown"); }, 100)`))
			return
		}
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(`<!doctype html><meta name="viewport" content="width=device-width"><title>still</title><script src="/s.js"></script><img src="/forbidden.png">`))
	}))
	t.Cleanup(web.Close)
	phone := Phone
	phone.Dark = true
	tab, err := b.Open(phone)
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	if err := tab.Go(web.URL); err != nil {
		t.Fatal(err)
	}
	if err := tab.Until(`document.title === "moved"`); err != nil {
		t.Fatal(err)
	}
	width, err := Eval[int](tab, `innerWidth`)
	if err != nil || width != 375 {
		t.Errorf("a phone is %d wide, %v", width, err)
	}
	if dark, err := Eval[bool](tab, `matchMedia("(prefers-color-scheme: dark)").matches`); err != nil || !dark {
		t.Errorf("it is not dark: %v", err)
	}
	if png, err := tab.Picture(false); err != nil || len(png) < 100 {
		t.Errorf("a picture of %d bytes, %v", len(png), err)
	}
	problems := strings.Join(tab.Problems(), "\n")
	for _, want := range []string{"thrown", "forbidden.png"} {
		if !strings.Contains(problems, want) {
			t.Errorf("the problems do not tell of %s:\n%s", want, problems)
		}
	}
	if !slices.Contains(tab.Fetched(), web.URL+"/s.js") {
		t.Errorf("it does not tell that it fetched the script: %q", tab.Fetched())
	}
}
