// Package redisserver runs a redis-server process, for tests and for tools that kill
// it and start it again. It listens on a loopback address, and ends with the process
// that started it.
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Server is a redis-server process. Its methods are called by one goroutine at a time.
type Server struct {
	addr    string
	dir     string
	lasting bool
	cmd     *exec.Cmd
	ended   chan error // gets one value when cmd has ended
}

// Open starts a server on a free port, with dir as its working directory. With
// lasting, what it has answered for outlives it: each write is synced to a file in dir.
func Open(dir string, lasting bool) (*Server, error) {
	// Another process can take the port between the look and the start.
	var failed error
	for range 5 {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		s := &Server{addr: addr, dir: dir, lasting: lasting}
		if err := s.Start(); err == nil {
			return s, nil
		} else {
			failed = err
		}
	}
	return nil, failed
}

// freeAddr finds a port below those that systems give to outgoing connections: while
// the server is down, one of these could take its port, and it could not come back.
func freeAddr() (string, error) {
	const least, most, tries = 16_000, 32_000, 50
	for range tries {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", least+rand.IntN(most-least)))
		if err == nil {
			defer ln.Close()
			return ln.Addr().String(), nil
		}
	}
	return "", errors.New("no free port found")
}

// Addr is where the server listens, host:port; it stays the same.
func (s *Server) Addr() string { return s.addr }

// URL is Addr for a --redis flag.
func (s *Server) URL() string { return "redis://" + s.addr + "/0" }

// Pid is the process id of the server, while it runs.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// NewClient returns a client that tries a command again so many times; -1 means never.
// It leaves out the commands that servers before 7.2 answer with an error.
func (s *Server) NewClient(retries int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.addr, MaxRetries: retries, DisableIdentity: true,
		// The server has other work, too, and the machine may be busy.
		ReadTimeout:              30 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Start starts the server again after Kill, and returns when it answers: empty, or with
// its data if it is lasting.
func (s *Server) Start() error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir,
		"--save", "", "--daemonize", "no", "--loglevel", "warning", "--appendonly", "no"}
	if s.lasting {
		args = append(args[:len(args)-1], "yes", "--appendfsync", "always")
	}
	s.cmd = exec.Command("redis-server", args...)
	endWithUs(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("start redis-server: %w", err)
	}
	cmd, ended := s.cmd, make(chan error, 1)
	s.ended = ended
	go func() { ended <- cmd.Wait() }()
	probe := s.NewClient(-1)
	defer probe.Close()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		select {
		case err := <-ended:
			s.cmd = nil
			return fmt.Errorf("redis-server ended: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
		// The answer of a stranger on the same port would be another process's. One that
		// reads its data answers with an error.
		if info, err := probe.InfoMap(context.Background(), "server").Result(); err == nil &&
			info["Server"]["process_id"] == strconv.Itoa(cmd.Process.Pid) && probe.Ping(context.Background()).Err() == nil {
			return nil
		}
	}
	s.Kill()
	return errors.New("redis-server: no answer in 10 s")
}

// Kill ends the server as a crash would. It does nothing if it does not run.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}
