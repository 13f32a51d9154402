// Package redistest gives each test a Redis of its own: a real redis-server where
// there is one, else the embedded one. It is the only Redis set-up in tests.
//
// The environment variable MUSTER_TEST_REDIS chooses: "real" fails a test when there
// is no redis-server, "embedded" uses the embedded one throughout, and without it
// the real one is used where redis-server is on the PATH.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/musterhq/muster/internal/embedded"
)

// Server is a Redis that belongs to one test.
type Server struct {
	URL    string        // for a --redis flag
	Addr   string        // host:port
	Client *redis.Client // closed at the end of the test
	Real   bool          // a redis-server process, not the embedded one

	t     testing.TB
	dir   string
	cmd   *exec.Cmd
	ended chan error // gets one value when cmd has ended
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
	if os.Getenv("MUSTER_TEST_REDIS") == "embedded" {
		t.Skip("needs a real redis-server, and MUSTER_TEST_REDIS is embedded")
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("MUSTER_TEST_REDIS") == "real" {
			t.Fatalf("MUSTER_TEST_REDIS=real: %v", err)
		}
		t.Skipf("needs a real redis-server: %v", err)
	}
	return openReal(t)
}

func openEmbedded(t testing.TB) *Server {
	t.Helper()
	e, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	s := &Server{t: t, Addr: e.Addr()}
	s.connect()
	return s
}

func openReal(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, Real: true, dir: t.TempDir()}
	// Another test can take the port between the look and the start.
	for try := 0; ; try++ {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Addr = ln.Addr().String()
		ln.Close()
		if err = s.start(); err == nil {
			break
		}
		if try == 4 {
			t.Fatalf("start redis-server: %v", err)
		}
	}
	t.Cleanup(s.Stop)
	s.connect()
	return s
}

func (s *Server) connect() {
	s.URL = "redis://" + s.Addr + "/0"
	s.Client = newClient(s.Addr, 3)
	s.t.Cleanup(func() { s.Client.Close() })
}

// newClient leaves out the commands that servers before 7.2 answer with an error.
func newClient(addr string, retries int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: retries, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Start starts a server that was stopped, on its old address and empty. Only a real
// server can be stopped.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("start redis-server: %v", err)
	}
}

func (s *Server) start() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	s.cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning")
	endWithTest(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := s.cmd, make(chan error, 1)
	s.ended = ended
	go func() { ended <- cmd.Wait() }()
	probe := newClient(s.Addr, -1)
	defer probe.Close()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		select {
		case err := <-ended:
			s.cmd = nil
			return fmt.Errorf("it ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
		// The answer of a stranger on the same port would be another process's.
		if info, err := probe.InfoMap(context.Background(), "server").Result(); err == nil &&
			info["Server"]["process_id"] == strconv.Itoa(cmd.Process.Pid) {
			return nil
		}
	}
	s.Stop()
	return fmt.Errorf("no answer in 10 s")
}

// Stop kills the server, as a crash would. Its data is lost.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// Pid is the process id of a real server.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Eventually waits until done returns true, asking again every few milliseconds, and
// fails the test with what after 10 seconds.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}
