// Package dashboard is muster's web page: the roll, the task sets, and the job queue.
//
// It only reads. What it shows it takes from Redis by package tasks, and it keeps an index
// of the hosts and of the task sets in memory, so that a page of a large fleet costs no
// walk through Redis. Browsers are told of changes by server-sent events (live.go); they
// never poll.
//
// Text from hosts and from requests is hostile: it goes through package visible and
// through html/template, and the content security policy (door.go) allows no script but
// the files in static/.
package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

// DefaultBind is where the page is, unless somebody says otherwise.
const DefaultBind = "127.0.0.1:8080"

// goodbye is how long requests may still take when the server ends. Live connections are
// ended at once.
const goodbye = 2 * time.Second

// Config configures a Server. Redis, Reader and Log are required.
type Config struct {
	Bind    string                // TCP address; empty: DefaultBind
	Redis   redis.UniversalClient // stays the caller's to close
	Reader  redis.UniversalClient // for reads that wait: a client of its own, or they would hold up the rest
	Version string                // shown at the foot of each page
	Reach   bool                  // names of this machine other than loopback may stand in a request: others are to reach it
	Log     logrus.FieldLogger
}

// Server is the dashboard.
type Server struct {
	cfg     Config
	store   *tasks.Store
	contact *contact
	fleet   *fleet
	news    *news
	pages   *pages
	hub     *hub
	answers answers

	sets     *sets
	rejected *rejected
	looks    *looks
	queues   *queues

	services atomic.Pointer[supervise.Supervisor] // nil while it does not run
}

// New returns a Server. The error says what is missing in cfg.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Redis == nil || cfg.Reader == nil:
		return nil, errors.New("dashboard: no Redis")
	case cfg.Log == nil:
		return nil, errors.New("dashboard: no Log")
	}
	if cfg.Bind == "" {
		cfg.Bind = DefaultBind
	}
	pages, err := loadPages(cfg.Version)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, store: tasks.NewStore(cfg.Redis, tasks.StoreConfig{}), pages: pages,
		contact: newContact(), news: &news{most: newsShown},
	}
	s.hub = newHub(s.regions(), cfg.Log)
	s.fleet = newFleet(cfg.Redis, s.contact, s.hub.touch, failures{log: cfg.Log})
	s.fleet.watched = s.hub.watched
	s.sets = newSets(s.store, s.hub, failures{log: cfg.Log})
	s.sets.types = s.broken
	s.rejected = newRejected(s.hub, failures{log: cfg.Log})
	s.looks = newLooks(s.store, s.hub)
	s.queues = newQueues(cfg.Redis, pages.tag)
	return s, nil
}

// Run listens on the address of the Config and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ln, err := net.Listen("tcp", s.cfg.Bind)
	if err != nil {
		return err
	}
	return s.Serve(ctx, ln)
}

// Serve serves on ln, which it closes, until ctx ends; then it returns nil. Any other
// return is an error: of ln, or of a service that can't stay up.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	services := supervise.New(s.cfg.Log, supervise.Pace{})
	s.services.Store(services)
	defer s.services.Store(nil)
	group := services.Group(context.WithoutCancel(ctx))
	defer group.Stop()
	s.startServices(group)

	requests, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	web := &http.Server{
		Handler:           s.door(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          quiet(s.cfg.Log),
	}
	s.cfg.Log.WithField("addr", ln.Addr().String()).Info("dashboard is up")
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("dashboard: %w", err)
	case <-services.Failed():
	case <-ctx.Done():
	}
	s.hub.end() // live connections have no end of their own
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if web.Shutdown(end) != nil {
		web.Close()
	}
	<-ended
	return services.Err()
}

// startServices starts what runs beside the requests.
func (s *Server) startServices(group *supervise.Group) {
	group.Go("live", s.hub.run)
	group.Go("redis", s.watch)
	group.Go("roll checks", s.fleet.checks)
	group.Go("roll", s.fleet.keep)
	group.Go("host information", s.fleet.readInfos)
	group.Go("events", s.follow)
	s.startTasks(group)
}

// regions are the parts of pages that look the same to everyone and are sent out when
// they change, by topic.
func (s *Server) regions() map[string]renderer {
	all := map[string]renderer{
		"redis": func(context.Context, string) (string, error) { return s.region("error", "redis", nil) },
	}
	s.fleetRegions(all)
	s.taskRegions(all)
	return all
}
