package dashboard

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
)

// routes are all that the door answers to, and what does not exist.
func routes() map[string]int {
	return map[string]int{
		"/": 200, "/?q=%3Cscript%3E": 200, "/hosts/node-1": 200, "/hosts/%3Cscript%3E": 404, "/hosts/": 404, "/hosts/a/b": 404,
		"/nothing": 404, "/static/style.css": 200, "/static/fleet.css": 200, "/static/live.js": 200, "/static/places.js": 200, "/static/icon.svg": 200,
		"/static/": 404, "/static/nothing.css": 404, "/live": 400, "/live?of=": 400, "/static/..%2fdashboard.go": 404,
	}
}

// Every answer has the headers that keep a browser from being tricked, and none changes
// anything.
func TestDoor(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	s.contact.last = time.Now().Add(-time.Hour) // pages are answered without Redis
	many(s, 10)
	door := s.door()
	for path, status := range routes() {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "MOVE"} {
			r := httptest.NewRequest(method, path, nil)
			r.Host = "127.0.0.1:8080"
			w := httptest.NewRecorder()
			door.ServeHTTP(w, r)
			want := status
			if method != "GET" && method != "HEAD" {
				want = http.StatusMethodNotAllowed
			}
			h := w.Header()
			if w.Code != want || (want == http.StatusMethodNotAllowed) != (h.Get("Allow") != "") {
				t.Errorf("%s %s: %d, want %d, Allow %q", method, path, w.Code, want, h.Get("Allow"))
			}
			if h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" ||
				h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" || h.Get("Set-Cookie") != "" {
				t.Errorf("%s %s: headers %v", method, path, h)
			}
			if strings.Contains(w.Body.String(), "<script>") {
				t.Errorf("%s %s: %s", method, path, w.Body)
			}
		}
	}
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	// Only what has the tag of these very files is kept by browsers.
	w := ask(t, s, "/static/style.css?"+s.pages.tag)
	if w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("tagged: %q", w.Header().Get("Cache-Control"))
	}
}

// Who is led here by another name than this machine's is turned away.
func TestHostHeader(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	turnedAway := func(door http.Handler, host, path string) bool {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		return w.Code == http.StatusMisdirectedRequest
	}
	stub := s.guard(http.NotFoundHandler())
	for host, ok := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LOCALHOST.:8080": true, "127.0.0.1": true, "127.0.0.1:1": true, "127.7.7.7:80": true,
		"[::1]:8080": true, "[::1]": true, "[::ffff:127.0.0.1]:8080": true,
		"": false, "evil.example": false, "evil.example:8080": false, "localhost.evil.example": false, "127.0.0.1.evil.example:8080": false,
		"10.0.0.1:8080": false, "[::2]:8080": false, "0.0.0.0:8080": false, "localhost@evil.example": false, "2130706433": false,
	} {
		if turnedAway(stub, host, "/") == ok {
			t.Errorf("host %q is to be let in: %v", host, ok)
		}
	}
	door := s.door()
	for path := range routes() { // each is behind the guard
		if !turnedAway(door, "evil.example", path) {
			t.Errorf("%s is for everyone", path)
		}
	}
	s.cfg.Reach = true
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "fleet.example:8080"
	w := httptest.NewRecorder()
	if s.door().ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Errorf("others are to reach it: %d", w.Code)
	}
}

// A page of another site can neither read nor take up live connections; it may link here.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	for _, c := range []struct {
		site, mode string
		status     int
	}{
		{"cross-site", "cors", 403}, {"cross-site", "no-cors", 403}, {"same-site", "cors", 403},
		{"cross-site", "navigate", 200}, {"same-origin", "cors", 200}, {"none", "navigate", 200}, {"", "", 200},
	} {
		if w := ask(t, s, "/", "Sec-Fetch-Site", c.site, "Sec-Fetch-Mode", c.mode); w.Code != c.status {
			t.Errorf("%s %s: %d, want %d", c.site, c.mode, w.Code, c.status)
		}
	}
}

func TestLiveRefusals(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.get("/live", http.StatusBadRequest)
	s.get("/live?of="+strings.Repeat("a", maxTopic+1), http.StatusBadRequest)
	s.get("/live?of=a"+strings.Repeat("&of=a", maxTopics), http.StatusBadRequest)
	s.follow("host:" + strings.Repeat("h", 128)) // the longest id
	resp, err := http.Head(s.base + "/live?of=roll")
	s.must(err)
	if resp.StatusCode != http.StatusOK { // and it has ended
		t.Errorf("HEAD: %s", resp.Status)
	}
	s.hub.mu.Lock()
	for i := range maxBrowsers {
		s.hub.browsers[newBrowser([]string{fmt.Sprint(i)}, func() {})] = true
	}
	s.hub.mu.Unlock()
	s.get("/live?of=roll", http.StatusServiceUnavailable)
}

// A region that is asked for is that region alone.
func TestRegion(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	many(s, 3)
	if w := ask(t, s, "/?q=node-1", regionHeader, "roll"); w.Code != 200 || strings.Contains(w.Body.String(), "<html") ||
		!strings.Contains(w.Body.String(), "node-1") || strings.Contains(w.Body.String(), "node-2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, s, "/", regionHeader, "nonsense"); w.Code != 404 {
		t.Errorf("no region: %d", w.Code)
	}
}

// The server ends at once although browsers are connected, and so do they.
func TestEndWithBrowsers(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	live := s.follow("roll")
	s.end()
	if m := live.until("the end", func(m sent) bool { return m.event == "end" }); m.event != "end" {
		t.Error(m)
	}
	if live.err != nil { // the server had waited for it in vain
		t.Errorf("the connection was broken off: %v", live.err)
	}
}

// A browser that has gone without a word, or does not read, is let go, and leaves nothing.
func TestGoneBrowser(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
	s.must(err)
	fmt.Fprintf(c, "GET /live?of=roll HTTP/1.1\r\nHost: localhost\r\n\r\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "200") {
		t.Fatalf("%q %v", line, err)
	}
	browsers := func() int {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		return len(s.hub.browsers)
	}
	if browsers() != 1 {
		t.Errorf("%d browsers", browsers())
	}
	c.Close()
	redistest.Eventually(t, "it has left", func() bool { return browsers() == 0 })
}
