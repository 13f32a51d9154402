package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/faults"
)

// process is a child that ends with the bench.
type process struct {
	cmd   *exec.Cmd
	lines chan string // its standard output
}

func start(path string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), lines: make(chan string, 1000)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.lines)
		s := bufio.NewScanner(out)
		for s.Scan() {
			p.lines <- s.Text()
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	return p, nil
}

// line returns the next line of its output.
func (p *process) line(ctx context.Context, within time.Duration) (string, error) {
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(within):
		return "", fmt.Errorf("%s said nothing for %v", filepath.Base(p.cmd.Path), within)
	case l, ok := <-p.lines:
		if !ok {
			return "", fmt.Errorf("%s has ended", filepath.Base(p.cmd.Path))
		}
		return l, nil
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// cpu is the processor time that a process has used.
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // a tick is 1/100 s on Linux
}

// system is Redis and muster's processes.
type system struct {
	redis, listener, worker *process
	rdb                     *redis.Client
	addr                    string // of the listener
	dir                     string
}

func startSystem(ctx context.Context, withWorker bool) (s *system, err error) {
	s = &system{}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "muster-bench-"); err != nil {
		return s, err
	}
	binary, err := faults.Build(ctx, s.dir)
	if err != nil {
		return s, err
	}
	server, err := faults.FreeAddr()
	if err != nil {
		return s, err
	}
	_, port, err := net.SplitHostPort(server)
	if err != nil {
		return s, err
	}
	s.redis, err = start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", s.dir, "--loglevel", "warning")
	if err != nil {
		return s, err
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: server, DisableIdentity: true})
	if err := wait(ctx, "redis-server", func() bool { return s.rdb.Ping(ctx).Err() == nil }); err != nil {
		return s, err
	}
	if s.addr, err = faults.FreeAddr(); err != nil {
		return s, err
	}
	url := "redis://" + server + "/0"
	if s.listener, err = start(binary, "listener", "--redis", url, "--bind", s.addr, "--log-level", "warn"); err != nil {
		return s, err
	}
	err = wait(ctx, "listener", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err == nil && withWorker {
		s.worker, err = start(binary, "worker", "--redis", url, "--log-level", "warn")
	}
	return s, err
}

func (s *system) stop() {
	for _, p := range []*process{s.worker, s.listener, s.redis} {
		if p != nil {
			p.stop()
		}
	}
	if s.rdb != nil {
		s.rdb.Close()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

func wait(ctx context.Context, what string, done func() bool) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: not ready within 60 s", what)
}

// self starts another part of this program.
func self(part string, o options, more ...string) (*process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{part, "-hosts", strconv.Itoa(o.hosts), "-heartbeat", o.heartbeat.String(),
		"-rounds", strconv.Itoa(o.rounds), "-commands", strconv.Itoa(o.commands)}
	return start(path, append(args, more...)...)
}

// printing keeps lines of several goroutines apart.
var printing sync.Mutex

func say(format string, args ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf(format+"\n", args...)
}
