// Package redistest gives each test a Redis of its own: a real redis-server where
// there is one, else the embedded one. It is the only Redis set-up in tests.
//
// The environment variable MUSTER_TEST_REDIS chooses: "real" fails a test when there
// is no redis-server, "embedded" uses the embedded one throughout, and without it
// the real one is used where redis-server is on the PATH.
package redistest

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/musterhq/muster/internal/embedded"
	"github.com/musterhq/muster/internal/redisserver"
)

// Server is a Redis that belongs to one test.
type Server struct {
	URL    string        // for a --redis flag
	Addr   string        // host:port
	Client *redis.Client // closed at the end of the test
	Real   bool          // a redis-server process, not the embedded one

	t      testing.TB
	server *redisserver.Server // nil for the embedded one
}

// Open starts a Redis that ends with the test.
func Open(t testing.TB) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	switch os.Getenv("MUSTER_TEST_REDIS") {
	case "real":
		if err != nil {
			t.Fatalf("MUSTER_TEST_REDIS=real: %v", err)
		}
	case "embedded":
		path = ""
	case "":
	default:
		t.Fatalf("MUSTER_TEST_REDIS=%q, want real or embedded", os.Getenv("MUSTER_TEST_REDIS"))
	}
	if path == "" {
		return openEmbedded(t)
	}
	return openReal(t)
}

// OpenReal is Open for a test that stops the server, or needs what the embedded one
// has not. Where there is no redis-server the test is skipped, and says so.
func OpenReal(t testing.TB) *Server {
	t.Helper()
	NeedReal(t)
	return openReal(t)
}

// NeedReal is for a test that starts a redis-server by itself: where there is none it is
// skipped, and says so.
func NeedReal(t testing.TB) {
	t.Helper()
	if os.Getenv("MUSTER_TEST_REDIS") == "embedded" {
		t.Skip("needs a real redis-server, and MUSTER_TEST_REDIS is embedded")
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("MUSTER_TEST_REDIS") == "real" {
			t.Fatalf("MUSTER_TEST_REDIS=real: %v", err)
		}
		t.Skipf("needs a real redis-server: %v", err)
	}
}

func openEmbedded(t testing.TB) *Server {
	t.Helper()
	e, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	s := &Server{t: t, Addr: e.Addr(), URL: "redis://" + e.Addr() + "/0"}
	s.Client = redis.NewClient(&redis.Options{
		Addr: s.Addr, DisableIdentity: true,
		// It runs in this process, under the race detector and beside other tests: what takes a
		// server milliseconds may take it seconds, and the usual 3 s would be a test of the machine.
		ReadTimeout:              30 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { s.Client.Close() })
	return s
}

func openReal(t testing.TB) *Server {
	t.Helper()
	server, err := redisserver.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	s := &Server{t: t, Real: true, server: server, Addr: server.Addr(), URL: server.URL(), Client: server.NewClient(3)}
	t.Cleanup(func() { s.Client.Close() })
	return s
}

// Start starts a server that was stopped, on its old address and empty. Only a real
// server can be stopped.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.server.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// Stop kills the server, as a crash would. Its data is lost.
func (s *Server) Stop() { s.server.Kill() }

// Pid is the process id of a real server.
func (s *Server) Pid() int { return s.server.Pid() }

// patience is how long is waited for what takes a moment where nothing else runs.
const patience = 3 * time.Minute

// Eventually waits until done returns true, asking again every few milliseconds, more
// seldom the longer it takes, and fails the test with what after some minutes.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	wait := 5 * time.Millisecond
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(wait) {
		if done() {
			return
		}
		wait = min(wait+wait/10, 50*time.Millisecond)
	}
	t.Fatalf("not within %v: %s", patience, what)
}
