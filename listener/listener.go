// Package listener is the door through which hosts come in over TCP, and the writer
// of the roll: who is online.
//
// It owns the hosts' connections. It never starts a dispatch, and it keeps nothing
// that is not in Redis but the connections themselves, so that any number of
// listeners work side by side on one Redis.
//
//	host ──TCP──> session ──> members (who is connected here)
//	                │             │ changes of presence, information
//	                │             v
//	                │         presence ──pipeline──> roll in Redis ──> welcome
//	                ├── reports ──────────pipeline──> ledger in Redis ──> ADH35
//	                └── look-ups ─────────pipeline──> task sets in Redis ──> ADH37
//
// A heartbeat ends in the session: it costs no Redis command and no memory. All
// else is gathered, so that many hosts share a round trip.
package listener

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// Defaults of a Config.
const (
	DefaultBind             = "127.0.0.1:11451"
	DefaultHeartbeatTimeout = 60 * time.Second
	DefaultHeartbeat        = 5 * time.Second
	DefaultDrain            = 5 * time.Second
)

// Config configures a Server. Only Redis is required.
type Config struct {
	Redis      redis.UniversalClient // stays the caller's to close
	Subscriber redis.UniversalClient // for pub/sub; nil: Redis

	Bind string // TCP address that hosts dial; empty means 127.0.0.1:11451
	ID   string // of this listener, unique on its Redis; empty: made from the host name

	HeartbeatTimeout time.Duration // silence after which a connection is closed; 0 means 60s
	Heartbeat        time.Duration // how often agents are told to send one; 0 means 5s
	Drain            time.Duration // how long agents get to move when the listener stops; 0 means 5s
	MaxFrame         int           // bytes in a message; 0 means wire.MaxFrame, the most
	ClientUDPPort    int           // where old clients wait for datagrams; 0 means 6655

	// OfflineDelete names the keys of a host, what follows muster:host:{<host>}:, that
	// are deleted when it goes offline. Nil means info and ipv4.
	OfflineDelete []string

	Observer Observer           // nil: nobody
	Log      logrus.FieldLogger // nil discards
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

func (cfg *Config) fill() error {
	if cfg.Redis == nil {
		return errors.New("listener: no Redis client")
	}
	if cfg.Subscriber == nil {
		cfg.Subscriber = cfg.Redis
	}
	if cfg.Bind == "" {
		cfg.Bind = DefaultBind
	}
	if cfg.ID == "" {
		cfg.ID = madeUpID()
	}
	if !idForm.MatchString(cfg.ID) {
		return fmt.Errorf("listener: id %q: want 1 to 128 of A-Z a-z 0-9 . _ : -", cfg.ID)
	}
	if cfg.HeartbeatTimeout == 0 {
		cfg.HeartbeatTimeout = DefaultHeartbeatTimeout
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = DefaultHeartbeat
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	if cfg.HeartbeatTimeout < 0 || cfg.Heartbeat < 0 || cfg.Drain < 0 {
		return fmt.Errorf("listener: heartbeat %v, its timeout %v and the time to move %v must be above zero",
			cfg.Heartbeat, cfg.HeartbeatTimeout, cfg.Drain)
	}
	if cfg.MaxFrame < 0 || cfg.MaxFrame > wire.MaxFrame {
		return fmt.Errorf("listener: frame limit %d, want 1 to %d", cfg.MaxFrame, wire.MaxFrame)
	}
	if cfg.ClientUDPPort == 0 {
		cfg.ClientUDPPort = wire.DefaultUDPPort
	}
	if cfg.ClientUDPPort < 0 || cfg.ClientUDPPort > 65535 {
		return fmt.Errorf("listener: UDP port %d, want 1 to 65535", cfg.ClientUDPPort)
	}
	if cfg.OfflineDelete == nil {
		cfg.OfflineDelete = []string{"info", "ipv4"}
	}
	for _, name := range cfg.OfflineDelete {
		if name == "" || name == "waiting" || name == "session" {
			return fmt.Errorf("listener: %q is not to be deleted when a host goes offline", name)
		}
	}
	if cfg.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		cfg.Log = silent
	}
	return nil
}

// madeUpID is the host name, made fit, and four random bytes: two listeners on one
// machine, and one that is started again, are different listeners.
func madeUpID() string {
	name, _ := os.Hostname()
	name = strings.TrimLeft(strings.Map(func(r rune) rune {
		if r < 128 && idForm.MatchString("a"+string(r)) {
			return r
		}
		return '-'
	}, name), "._:-")
	if len(name) > 100 {
		name = name[:100]
	}
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	return strings.TrimPrefix(name+"-"+hex.EncodeToString(salt[:]), "-")
}

// Server is a listener.
type Server struct {
	cfg   Config
	log   *logrus.Entry
	pace  pace
	again supervise.Pace // of services that failed
	roll  *tasks.Roll
	store *tasks.Store

	beats     wire.Heartbeats
	members   members
	stats     Stats
	condition condition

	changes  *gather[change]
	reports  *gather[report]
	lookups  *gather[lookup]
	arrived  *gather[string]
	arrivals arrivals
	redisUp  *outage.Watch // whether Redis works, said once a change
	sweeper  *tasks.Sweeper
	clock    clock // of the goroutine that writes changes, once it runs

	called  chan struct{} // holds one: a worker has found that Redis lost its roll
	ending  atomic.Bool   // connections are read for the last time
	settled atomic.Bool   // the hosts of a predecessor have had the time to come back

	sending  sync.WaitGroup // goroutines that write to connections
	services *supervise.Supervisor

	// fault is called when a service goes round, with its name; an error or a panic is
	// the service's. Only tests set it.
	fault func(service string) error
}

// New returns a Server that is not yet running.
func New(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	log := cfg.Log.WithField("listener", cfg.ID)
	observed := tasks.StoreConfig{OnClosed: func(l tasks.Ledger) {
		log.WithFields(l.Fields()).Info("task set closed")
		if cfg.Observer != nil {
			cfg.Observer.Closed(l)
		}
	}}
	if cfg.Observer != nil {
		observed.OnAnswer = cfg.Observer.Answered
	}
	s := &Server{
		cfg: cfg, log: log, pace: usualPace(),
		roll: tasks.NewRoll(cfg.Redis), store: tasks.NewStore(cfg.Redis, observed),
		changes: newGather[change](), reports: newGather[report](), lookups: newGather[lookup](), arrived: newGather[string](),
	}
	s.arrivals, s.called, s.redisUp = s.roll, make(chan struct{}, 1), s.watchRedis()
	s.members.init()
	return s, nil
}

// ID is the id under which this listener stands in Redis.
func (s *Server) ID() string { return s.cfg.ID }

// Run listens on Config.Bind and serves until ctx ends, then returns nil. An address
// that can't be listened on is an error at once.
func (s *Server) Run(ctx context.Context) error {
	ln, err := net.Listen("tcp", s.cfg.Bind)
	if err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve serves the hosts that connect to ln until ctx ends, then returns nil. It
// closes ln; if someone else does, and it is TCP without more, its address is listened
// on again. What fails inside is started again; an error says what can't be kept up, or
// that Redis does not let the listener begin. The agents are then asked to connect to another listener, and are served
// until they have, for Config.Drain at most; see stop. When it returns no goroutine of
// it is left, and what the hosts had reported is in Redis, if Redis answers within five
// seconds.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	d := newDoor(ln)
	defer d.close()
	s.sweeper = tasks.NewSweeper(s.roll, s.cfg.OfflineDelete, s.pace.calm)
	s.sweeper.Spare(s.cfg.ID)
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.log.WithField("addr", ln.Addr().String()).Info("listening")

	// What serves the hosts goes on when ctx has ended.
	lasting := context.WithoutCancel(ctx)
	s.services = supervise.New(s.log, s.again)
	s.condition.services.Store(s.services)
	defer s.condition.services.Store(nil)
	p := parts{
		accepting: s.services.Group(ctx), serving: s.services.Group(lasting), writing: s.services.Group(lasting),
	}
	p.reading, p.hurry = context.WithCancel(lasting)
	defer p.hurry()
	s.startServices(p, d)
	select {
	case <-ctx.Done():
	case <-s.services.Failed():
	}
	p.accepting.Stop()
	d.close()
	s.stop(p)
	s.log.WithField("hosts", s.members.count()).Info("stopped")
	if err := s.services.Err(); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	return nil
}

// startServices starts what serves the hosts. Each is started again by itself where it
// fails, and the connections are part of none of them.
func (s *Server) startServices(p parts, d *door) {
	write(s, p.writing, "presence", s.changes, s.writeChanges)
	write(s, p.writing, "arrivals", s.arrived, s.writeArrivals)
	write(s, p.writing, "reports", s.reports, s.writeReports)
	write(s, p.writing, "look-ups", s.lookups, s.answerLookups)
	p.serving.Go("lease", s.keepLease)
	p.serving.Go("roll", s.keepRoll)
	p.serving.Go("returns", s.awaitReturns)
	p.serving.Go("sweep", s.sweep)
	subscribed := false
	p.serving.Go("messages", func(ctx context.Context) error { return s.hear(ctx, &subscribed) })
	p.serving.Go("memory", s.giveBack)
	p.accepting.Go("connections", func(ctx context.Context) error { return s.accept(ctx, p.reading, d) })
}

// write keeps up a service that writes what is gathered. When it fails at a batch, the
// next run takes the batch again: all that is written is safe to repeat.
func write[T any](s *Server, in *supervise.Group, service string, g *gather[T], batch func(context.Context, []T)) {
	in.Go(service, func(ctx context.Context) error {
		return g.run(ctx, func(ctx context.Context, items []T) error {
			if err := s.round(service); err != nil {
				return err
			}
			batch(ctx, items)
			return s.round(service)
		})
	})
}

// round is where a service may fail in a test.
func (s *Server) round(service string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(service)
}

// begin takes the listener's place in Redis. What a predecessor of the same id has left
// on the roll stays there, unless its lease has ended: then those hosts were offline,
// and the lease that begins now must not say otherwise.
func (s *Server) begin(ctx context.Context) error {
	view, err := s.roll.View(ctx)
	if err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	s.clock.set(view.Now())
	if err := s.checkID(ctx, view); err != nil {
		return err
	}
	if !view.Runs(s.cfg.ID) {
		held, err := s.roll.Held(ctx, s.cfg.ID)
		if err != nil {
			return fmt.Errorf("listener: %w", err)
		}
		for part := range slices.Chunk(held, tasks.Chunk) {
			if err := s.sweeper.SweepHosts(ctx, s.cfg.ID, part); err != nil {
				return fmt.Errorf("listener: %w", err)
			}
		}
	}
	// Before the first host: a host of a listener without a lease is not online.
	if _, err := s.lease(ctx, s.roll.Lease); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	return nil
}

// checkID fails if another listener with this id runs: the two would take each
// other's hosts off the roll without end. One that was killed is told by its
// subscription, which ends with it; one whose machine is gone, by its lease.
func (s *Server) checkID(ctx context.Context, view *tasks.View) error {
	channel := tasks.ChannelFor(s.cfg.ID)
	hearing, err := s.cfg.Redis.PubSubNumSub(ctx, channel).Result()
	if err != nil {
		return fmt.Errorf("listener: who listens under id %s: %w", s.cfg.ID, err)
	}
	if hearing[channel] > 0 && view.Runs(s.cfg.ID) {
		return fmt.Errorf("listener: another listener with id %s runs on this Redis", s.cfg.ID)
	}
	return nil
}
