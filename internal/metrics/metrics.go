// Package metrics shows over HTTP what a process counts and how it is: /metrics for
// Prometheus, /healthz and /readyz for who keeps processes up.
//
// It is the only package that knows of Prometheus. The others count for themselves, in
// plain counters that are read when somebody asks, and what is measured as it happens
// they tell an Observer. No label and no line holds text from outside: no host, no task
// number, no command, so that whoever reads them learns counts only.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"
)

const (
	headTime  = 2 * time.Second  // to send a request
	writeTime = 15 * time.Second // to be sent the answer
	lastTime  = time.Second      // for what is under way at the end

	mostConns   = 64 // connections at the same time
	mostScrapes = 4  // of them answered with metrics at the same time

	// ReadyTime is how long a part, or Redis, may take to say that it is ready.
	ReadyTime = time.Second
	// An answer to /readyz is given again for so long: who asks more often costs nothing.
	readyAgain = 200 * time.Millisecond
)

// Config configures a Server. All of it may be left out.
type Config struct {
	Bind    string // TCP address; empty means a free port of 127.0.0.1
	Version string // of the program

	// Redis is asked whether it answers, and for what the fleet is. It must heed the
	// deadlines of contexts; with AddFleet a command of it that has none is given one. It
	// stays the caller's to close. nil: the process has none.
	Redis redis.UniversalClient

	Log logrus.FieldLogger // nil discards
}

// Server serves the metrics of one process, and how it is.
type Server struct {
	cfg      Config
	registry *prometheus.Registry
	observer *Observer
	hook     *hook
	parts    []part

	mu    sync.Mutex // held while the parts are asked whether they are ready
	asked time.Time
	said  []string
}

// part is what a process is made of.
type part struct {
	healthy func() error                // nil: it always is
	ready   func(context.Context) error // nil: it always is
}

// New returns a Server of a process that has no part yet.
func New(cfg Config) (*Server, error) {
	if cfg.Bind == "" {
		cfg.Bind = "127.0.0.1:0"
	}
	if _, _, err := net.SplitHostPort(cfg.Bind); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if cfg.Log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		cfg.Log = discard
	}
	s := &Server{cfg: cfg, registry: prometheus.NewRegistry(), observer: newObserver()}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.gauge("muster_build_info", "The program that this is: always 1.", func() float64 { return 1 },
		"version", cfg.Version, "goversion", runtime.Version())
	if cfg.Redis != nil {
		s.hook = newHook(s.registry)
		s.watchPools()
		s.parts = append(s.parts, part{ready: s.redisReady})
	}
	return s, nil
}

// AddCheck adds a part that has no metrics of its own. healthy and ready say in their
// errors what is wrong, a line for each thing; either may be nil.
func (s *Server) AddCheck(healthy func() error, ready func(context.Context) error) {
	s.parts = append(s.parts, part{healthy, ready})
}

// Observer is told what is measured as it happens.
func (s *Server) Observer() *Observer { return s.observer }

// counter adds a counter that is read when somebody asks. labels are names and values in
// turn.
func (s *Server) counter(name, help string, value func() int64, labels ...string) {
	s.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: name, Help: help, ConstLabels: pairs(labels),
	}, func() float64 { return float64(value()) }))
}

// gauge is counter for what may also fall.
func (s *Server) gauge(name, help string, value func() float64, labels ...string) {
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: name, Help: help, ConstLabels: pairs(labels),
	}, value))
}

func pairs(labels []string) prometheus.Labels {
	if len(labels) == 0 {
		return nil
	}
	all := prometheus.Labels{}
	for i := 0; i+1 < len(labels); i += 2 {
		all[labels[i]] = labels[i+1]
	}
	return all
}

// share adds a collector that several parts have in common.
func (s *Server) share(all ...prometheus.Collector) {
	for _, c := range all {
		var already prometheus.AlreadyRegisteredError
		if err := s.registry.Register(c); err != nil && !errors.As(err, &already) {
			panic(err) // a mistake in this package
		}
	}
}

// Run listens on Config.Bind and serves until ctx ends, then returns nil. An address that
// can't be listened on is an error at once.
func (s *Server) Run(ctx context.Context) error {
	ln, err := net.Listen("tcp", s.cfg.Bind)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve serves who connects to ln until ctx ends, then returns nil. It closes ln. All
// parts must have been added before.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	log := s.cfg.Log.WithField("addr", ln.Addr().String())
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headTime, ReadTimeout: headTime, WriteTimeout: writeTime,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       stdlog.New(debugLines{log}, "", 0),
	}
	// A connection that nobody asks on would be in the way of whoever watches over the
	// process: there are few of them.
	srv.SetKeepAlivesEnabled(false)
	log.Info("metrics are served")
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		short, done := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
		defer done()
		if srv.Shutdown(short) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(netutil.LimitListener(ln, mostConns))
	if stop() {
		return fmt.Errorf("metrics: %w", err)
	}
	<-ended
	return nil
}

// debugLines takes what the HTTP server has to say of its clients.
type debugLines struct{ log logrus.FieldLogger }

func (d debugLines) Write(line []byte) (int, error) {
	d.log.WithField("said", strings.TrimSpace(string(line))).Debug("metrics server")
	return len(line), nil
}

// Handler is what is served: GET and HEAD of /metrics, /healthz and /readyz.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: mostScrapes, Timeout: writeTime - headTime,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.unhealthy()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answer(w, s.unready(r.Context())) })
	return mux
}

// answer says ok, or what is wrong, a line for each thing.
func answer(w http.ResponseWriter, wrong []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if len(wrong) == 0 {
		_, _ = io.WriteString(w, "ok\n") // who has gone does not hear it
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, strings.Join(wrong, "\n")+"\n")
}

// unhealthy is what does not run.
func (s *Server) unhealthy() (wrong []string) {
	for _, p := range s.parts {
		if p.healthy != nil {
			wrong = append(wrong, linesOf(p.healthy())...)
		}
	}
	return wrong
}

// unready is what can't do its work.
func (s *Server) unready(ctx context.Context) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked.IsZero() && time.Since(s.asked) < readyAgain {
		return s.said
	}
	// The answer is for the next one too, whatever becomes of who asks now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ReadyTime)
	defer cancel()
	s.said = s.unhealthy()
	for _, p := range s.parts {
		if p.ready == nil {
			continue
		}
		for _, line := range linesOf(p.ready(ctx)) {
			if !slices.Contains(s.said, line) {
				s.said = append(s.said, line)
			}
		}
	}
	s.asked = time.Now()
	return s.said
}

func linesOf(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
