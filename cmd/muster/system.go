package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/internal/embedded"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/worker"
)

// freePort is an address of this machine with a port that nobody has.
const freePort = "127.0.0.1:0"

// systemConfig says what a system is to be.
type systemConfig struct {
	redis     string          // URL; empty for an embedded Redis
	redisAddr string          // where the embedded Redis is to listen, if that is free
	listener  listener.Config // without Redis and Log; Bind is where it is to listen,
	exact     bool            // if that is free, and with exact in any case
	worker    worker.Config   // without Redis and Log
	agents    int
	tags      map[string]string // of the agents
	stateDir  string            // of the agents; empty for one that is deleted at the end
	log       *logrus.Logger
}

// system is all of muster in one process.
type system struct {
	url      string // of its Redis
	embedded bool
	addr     string   // of its listener
	hosts    []string // the ids of its agents
	moved    []string // what was not where it was to be
	rdb      redis.UniversalClient

	undo   []func()   // what ends its parts, the last one first
	failed chan error // the first error of a part, or what it says of a part that just ended
}

// startSystem starts the parts: Redis, listener, worker, agents. Each ends before what
// it needs does, in stop.
func startSystem(ctx context.Context, cfg systemConfig) (*system, error) {
	s := &system{failed: make(chan error, 1)}
	if err := s.startParts(ctx, cfg); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *system) startParts(ctx context.Context, cfg systemConfig) error {
	if err := s.startRedis(ctx, cfg); err != nil {
		return err
	}
	connect, err := parseRedis(s.url)
	if err != nil {
		return err
	}
	client := func() redis.UniversalClient {
		rdb := connect(often)
		s.undo = append(s.undo, func() { rdb.Close() })
		return rdb
	}
	s.rdb = client()
	if err := s.startListener(client, cfg); err != nil {
		return err
	}
	cfg.worker.Redis, cfg.worker.Reader, cfg.worker.Log = s.rdb, client(), cfg.log
	w, err := worker.New(cfg.worker)
	if err != nil {
		return err
	}
	s.start("worker", w.Run)
	return s.startAgents(cfg)
}

func (s *system) startRedis(ctx context.Context, cfg systemConfig) error {
	if s.url = cfg.redis; s.url != "" {
		_, err := openFit(ctx, s.url, cfg.log)
		return err
	}
	r, err := embedded.Start(cfg.redisAddr)
	if taken(err) {
		s.moved = append(s.moved, cfg.redisAddr+" is taken, so Redis has a free port")
		r, err = embedded.Start(freePort)
	}
	if err != nil {
		return err
	}
	s.undo = append(s.undo, r.Close)
	s.url, s.embedded = "redis://"+r.Addr()+"/0", true
	return nil
}

func (s *system) startListener(client func() redis.UniversalClient, cfg systemConfig) error {
	cfg.listener.Redis, cfg.listener.Subscriber, cfg.listener.Log = s.rdb, client(), cfg.log
	srv, err := listener.New(cfg.listener)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", cfg.listener.Bind)
	if taken(err) && !cfg.exact {
		s.moved = append(s.moved, cfg.listener.Bind+" is taken, so the listener has a free port")
		ln, err = net.Listen("tcp", freePort)
	}
	if err != nil {
		return err
	}
	s.addr = ln.Addr().String()
	s.start("listener", func(ctx context.Context) error { return srv.Serve(ctx, ln) })
	return nil
}

func (s *system) startAgents(cfg systemConfig) error {
	dir := cfg.stateDir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "muster-"); err != nil {
			return err
		}
		s.undo = append(s.undo, func() { os.RemoveAll(dir) })
	}
	server, err := netip.ParseAddrPort(s.addr)
	if err != nil {
		return err
	}
	ip := server.Addr().Unmap()
	if ip.IsUnspecified() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	near := netip.AddrPortFrom(ip, server.Port()).String()
	var run []func(context.Context) error
	for i := range cfg.agents {
		id := fmt.Sprintf("local-%d", i+1)
		host, err := agent.New(agent.Config{
			Servers: []string{near}, ID: id, BindIP: ip,
			StateDir: filepath.Join(dir, id), Version: version, Tags: cfg.tags, Log: cfg.log,
		})
		if err != nil {
			s.start("agents", run...) // those that are made are released by running them
			return err
		}
		s.hosts = append(s.hosts, id)
		run = append(run, host.Run)
	}
	s.start("agents", run...)
	return nil
}

// start runs a part of the system until stop. A part that ends before that has
// failed.
func (s *system) start(name string, run ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, r := range run {
		parts.Go(func() {
			err := r(ctx)
			if ctx.Err() != nil && err == nil {
				return
			}
			if err == nil {
				err = fmt.Errorf("%s ended", name)
			}
			select {
			case s.failed <- err:
			default:
			}
		})
	}
	s.undo = append(s.undo, func() {
		cancel()
		parts.Wait()
	})
}

// stop ends the parts, the agents first, so that their last reports still arrive.
func (s *system) stop() {
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
	s.undo = nil
}

// err is the error of a part that has failed, nil if all are well.
func (s *system) err() error {
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// gathered waits until all its agents are online.
func (s *system) gathered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		missing, err := s.missing(ctx)
		if err == nil && len(missing) == 0 {
			return nil
		}
		if failed := s.err(); failed != nil {
			return failed
		}
		wait(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			if err == nil {
				err = fmt.Errorf("not online within 15 s: %s", strings.Join(missing, ", "))
			}
			return err
		}
	}
}

func (s *system) missing(ctx context.Context) (missing []string, err error) {
	view, err := tasks.NewRoll(s.rdb).View(ctx)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(s.hosts, tasks.Chunk) {
		found, err := view.Locate(ctx, part)
		if err != nil {
			return nil, err
		}
		for _, h := range found {
			if !h.Online {
				missing = append(missing, h.Host)
			}
		}
	}
	return missing, nil
}

// taken reports whether err says that somebody has the address.
func taken(err error) bool {
	const onWindows = syscall.Errno(10048) // WSAEADDRINUSE, which package syscall does not name
	return errors.Is(err, syscall.EADDRINUSE) || runtime.GOOS == "windows" && errors.Is(err, onWindows)
}
