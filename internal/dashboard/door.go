package dashboard

import (
	"context"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// policy is what a page may load and do: its own files, and nothing from elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// answerLimit is how long an answer may take; live connections have a limit for each
// message.
const answerLimit = time.Minute

// door is all that the server answers to.
func (s *Server) door() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /static/", s.pages.static())
	mux.HandleFunc("GET /live", s.live)
	mux.HandleFunc("GET /healthz", healthPage(s.Healthy))
	mux.HandleFunc("GET /readyz", healthPage(func() error { return s.Ready(context.Background()) }))
	mux.HandleFunc("GET /{$}", s.fleetPage)
	mux.HandleFunc("GET /hosts/{id}", s.hostPage)
	s.taskRoutes(mux)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusNotFound, "There is no page "+r.URL.Path)
	})
	return s.guard(s.stamped(mux))
}

// guard turns away what would change something, and who was led here by a name that is
// not this machine's: a page of another site that has its name point to this address may
// not read the roll. Every answer has the headers that keep a browser from being tricked.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the dashboard only reads", http.StatusMethodNotAllowed)
			return
		}
		if from := r.Header.Get("Sec-Fetch-Site"); (from == "cross-site" || from == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			// A page of another site could not read the answer, but it could take all live connections.
			http.Error(w, "this page is for itself only", http.StatusForbidden)
			return
		}
		if !s.cfg.Reach && !isLoopback(r.Host) {
			http.Error(w, "this page is for this machine only, as localhost or 127.0.0.1", http.StatusMisdirectedRequest)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerLimit)) // a recorder has none
		next.ServeHTTP(w, r)
	})
}

// isLoopback reports whether the host of a request is a name of this machine to itself.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// quiet is where net/http logs what broken connections it has seen: at debug, one entry
// a line.
func quiet(log logrus.FieldLogger) *stdlog.Logger {
	return stdlog.New(debugWriter{log}, "", 0)
}

type debugWriter struct{ log logrus.FieldLogger }

func (d debugWriter) Write(p []byte) (int, error) {
	d.log.WithField("err", strings.TrimSpace(string(p))).Debug("web connection")
	return len(p), nil
}

var _ io.Writer = debugWriter{}
