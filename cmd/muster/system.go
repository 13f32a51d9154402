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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/internal/dashboard"
	"github.com/musterhq/muster/internal/embedded"
	"github.com/musterhq/muster/internal/metrics"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/worker"
)

// freePort is an address of this machine with a port that nobody has.
const freePort = "127.0.0.1:0"

// systemConfig says what a system is to be.
type systemConfig struct {
	redis     redisAt          // without a URL for an embedded Redis
	redisAddr string           // where the embedded Redis is to listen, if that is free
	listener  listener.Config  // without Redis and Log; Bind is where it is to listen,
	exact     bool             // if that is free, and with exact in any case
	worker    worker.Config    // without Redis and Log
	dashboard dashboard.Config // likewise; none without a Bind
	exactPage bool
	agents    int
	tags      map[string]string // of the agents
	stateDir  string            // of the agents; empty for one that is deleted at the end
	log       *logrus.Logger

	// metrics opens the metrics once Redis is known; nil: there are none.
	metrics func(dial) (*meter, error)
}

// system is all of muster in one process.
type system struct {
	url      string // of its Redis
	embedded bool
	addr     string   // of its listener
	page     string   // address of its dashboard
	hosts    []string // the ids of its agents
	moved    []string // what was not where it was to be
	rdb      redis.UniversalClient
	metrics  *meter

	// What runs now of those that may be started again, for the metrics.
	listener  atomic.Pointer[listener.Server]
	worker    atomic.Pointer[worker.Worker]
	dashboard atomic.Pointer[dashboard.Server]

	undo     []func() // what ends its parts, the last one first
	services *supervise.Supervisor
}

// startSystem starts the parts: Redis, listener, worker, agents. Each ends before what
// it needs does, in stop.
func startSystem(ctx context.Context, cfg systemConfig) (*system, error) {
	s := &system{services: supervise.New(cfg.log, supervise.Pace{})}
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
	if cfg.metrics != nil {
		if s.metrics, err = cfg.metrics(connect); err != nil {
			return err
		}
		s.undo = append(s.undo, s.metrics.close)
	}
	client := func() redis.UniversalClient {
		rdb := connect(often)
		s.metrics.watch(rdb)
		s.undo = append(s.undo, func() { rdb.Close() })
		return rdb
	}
	s.rdb = client()
	if err := s.startListener(client, cfg); err != nil {
		return err
	}
	wcfg := cfg.worker
	wcfg.Redis, wcfg.Reader, wcfg.Log, wcfg.Observer = s.rdb, client(), cfg.log, s.metrics.workerObserver()
	wcfg.Place = place(s.url)
	s.start("worker", func(ctx context.Context) error {
		w, err := worker.New(wcfg)
		if err != nil {
			return supervise.Final(err)
		}
		s.worker.Store(w)
		return w.Run(ctx)
	})
	if cfg.dashboard.Bind != "" {
		if err := s.startDashboard(client, cfg); err != nil {
			return err
		}
	}
	// Before the agents, so that they end while it is still served how they are.
	s.metrics.serve(func(m *metrics.Server) {
		m.AddListener(s.listener.Load)
		m.AddWorker(s.worker.Load)
		m.AddFleet()
		m.AddCheck(s.healthy, s.ready)
	})
	return s.startAgents(cfg)
}

// healthy says which parts do not run.
func (s *system) healthy() error { return s.services.Healthy("up") }

// ready says why the page can't be shown, where there is to be one.
func (s *system) ready(ctx context.Context) error {
	if page := s.dashboard.Load(); page != nil {
		return page.Ready(ctx)
	}
	return nil
}

func (s *system) startRedis(ctx context.Context, cfg systemConfig) error {
	if s.url = cfg.redis.url; s.url != "" {
		_, err := openFit(ctx, cfg.redis, cfg.log)
		if by := cfg.redis.by; err != nil && by != "" && by != "--redis" && ctx.Err() == nil {
			// Who starts everything in one process may not know that something names a Redis.
			return failf(statusFailure, "%w; --redis '' takes the embedded one", err)
		}
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
	lcfg := cfg.listener
	lcfg.Redis, lcfg.Subscriber, lcfg.Log, lcfg.Observer = s.rdb, client(), cfg.log, s.metrics.listenerObserver()
	addr, err := s.serve("listener", lcfg.Bind, cfg.exact, func() (serving, error) {
		srv, err := listener.New(lcfg)
		s.listener.Store(srv)
		return srv, err
	})
	s.addr = addr
	return err
}

func (s *system) startDashboard(client func() redis.UniversalClient, cfg systemConfig) error {
	dcfg := cfg.dashboard
	dcfg.Redis, dcfg.Reader, dcfg.Log = s.rdb, client(), cfg.log
	addr, err := s.serve("dashboard", dcfg.Bind, cfg.exactPage, func() (serving, error) {
		srv, err := dashboard.New(dcfg)
		s.dashboard.Store(srv)
		return srv, err
	})
	s.page = addr
	return err
}

// serving is a part that others connect to.
type serving interface {
	Serve(ctx context.Context, ln net.Listener) error // closes ln
}

// serve starts a server where it is to listen, or, unless it is to be exactly there, on a
// free port where that is taken. It returns where it listens.
func (s *system) serve(name, bind string, exact bool, create func() (serving, error)) (string, error) {
	ln, err := net.Listen("tcp", bind)
	if taken(err) && !exact {
		s.moved = append(s.moved, bind+" is taken, so the "+name+" has a free port")
		ln, err = net.Listen("tcp", freePort)
	}
	if err != nil {
		return "", err
	}
	addr := ln.Addr().String()
	s.start(name, func(ctx context.Context) error {
		srv, err := create()
		if err != nil {
			return supervise.Final(err)
		}
		if ln == nil { // it was started before
			if ln, err = net.Listen("tcp", addr); err != nil {
				return err
			}
		}
		defer func() { ln = nil }() // Serve closes it
		return srv.Serve(ctx, ln)
	})
	return addr, nil
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
	agents := s.services.Group(context.Background())
	s.undo = append(s.undo, agents.Stop)
	for i := range cfg.agents {
		id := fmt.Sprintf("local-%d", i+1)
		acfg := agent.Config{
			Servers: []string{near}, ID: id, BindIP: ip,
			StateDir: filepath.Join(dir, id), Version: version, Tags: cfg.tags, Log: cfg.log,
		}
		host, err := agent.New(acfg)
		if err != nil {
			return err
		}
		s.hosts = append(s.hosts, id)
		agents.Go("agent "+id, func(ctx context.Context) (err error) {
			if host == nil { // it was started before
				if host, err = agent.New(acfg); err != nil {
					return err
				}
			}
			defer func() { host = nil }() // Run releases it
			return host.Run(ctx)
		})
	}
	return nil
}

// start keeps a part of the system up until stop. A part that ends before that is
// started again, unless it says of itself that it can't stay up.
func (s *system) start(name string, run func(context.Context) error) {
	part := s.services.Group(context.Background())
	part.Go(name, run)
	s.undo = append(s.undo, part.Stop)
}

// stop ends the parts, the agents first, so that their last reports still arrive.
func (s *system) stop() {
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
	s.undo = nil
}

// err is the error of a part that can't stay up, nil if all are well.
func (s *system) err() error { return s.services.Err() }

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
		pause.For(ctx, 10*time.Millisecond)
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
