// Package agent is muster's own client on a host. It keeps a connection to a
// listener, waits for task numbers, looks each number up, runs the set's commands
// one after another, and reports.
//
// It owns what happens on the host: processes, their output, and the journal that
// makes a number run once for each request, whatever dies in between. It never
// decides what is run: a task number is only ever looked up, in Redis or through
// the listener, and never carries a command itself.
//
// What a task number goes through:
//
//	datagram or push ─> look-up ─> none: answer 2
//	                       │
//	                       ├─> cancelled: answer 1, end what runs of it
//	                       │
//	                       ├─> known request: answer 1
//	                       │
//	                       └─> accepted in the journal: answer 1, report received
//	                              │
//	        ┌─> started in the journal: report working ─> run ─> report ended ─┐
//	        └──────────────── next command, before the deadline <──────────────┘
//
// Every answer and report is synced to the journal before it leaves, and stays
// there until the listener confirms it.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/wire"
)

// Defaults of a Config.
const (
	DefaultHeartbeat = 5 * time.Second
	DefaultKillAfter = 5 * time.Second
	DefaultParallel  = 8

	maxTags = 16 << 10 // bytes of all tags, so that what carries them fits in a frame
)

// Config configures an Agent. Servers and StateDir are required.
type Config struct {
	Servers []string   // listeners as host:port, tried in turn
	ID      string     // who this host is, see wire.ValidHost; "" means the host name
	BindIP  netip.Addr // local address for UDP and for dialing; the zero value means any
	UDPPort int        // port for task numbers; 0 means any free one

	// StateDir holds the journal and the agent's instance. It is made if it is not
	// there. Two agents can't share one.
	StateDir string

	Heartbeat time.Duration // until a welcome names its own; 0 means 5s
	KillAfter time.Duration // from asking a command to end to killing it; 0 means 5s
	Parallel  int           // task sets run side by side; 0 means 8

	Version string            // what the agent reports as its version
	Tags    map[string]string // what the agent reports as its tags

	Store Finder             // look-ups go there; nil means through the listener
	Log   logrus.FieldLogger // nil means none

	// Dial connects to a server; nil means TCP from BindIP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Finder looks a task number up for one host. It returns a Found that is not found
// only if Redis itself said that there is no such set for this host; whatever else
// keeps it from an answer is an error, and the agent asks again later.
type Finder interface {
	Find(ctx context.Context, number, host string) (wire.Found, error)
}

// Agent is the client on a host. New makes one, Run does its work.
type Agent struct {
	cfg     Config
	log     logrus.FieldLogger
	state   *stateDir
	journal *journal
	udp     *net.UDPConn
	clock   *clock
	stats   Stats

	// While there is no answer to a look-up, it is repeated after a random time
	// between these. So is what the journal's disk did not let happen.
	retryMin, retryMax time.Duration

	slots   chan struct{}           // held by each set that runs
	drains  drains                  // pipes that outlived their command
	session atomic.Pointer[session] // the connection reports go to; nil while there is none

	unverified chan struct{} // holds one: there is a new connection, see verify
	verified   chan struct{} // closed once verify is through for the first time
	patience   time.Duration // how long what an earlier run has begun waits for that

	mu       sync.Mutex
	stopping bool                      // no new look-up or set from here on
	lookups  map[string]*lookup        // by task number
	checks   map[string]chan<- checked // the same, of the questions of verify
	running  map[setKey]context.CancelCauseFunc
	work     sync.WaitGroup // look-ups and sets; added to under mu while not stopping
	crowded  limiter        // of warnings that there are too many look-ups

	garbled limiter // of answers to unreadable datagrams; the receiver's own
}

// New checks cfg and fills in its defaults, takes the state directory, reads the
// journal and binds the UDP port. The error wraps ErrStateInUse if another agent
// has the directory, and the system's error (syscall.EADDRINUSE, for one) if the
// port can't be had. What New took is released by Run, also if Run is called with
// a context that has ended.
func New(cfg Config) (*Agent, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	log := cfg.Log.WithField("host", cfg.ID)
	state, err := openState(cfg.StateDir, cfg.ID, log)
	if err != nil {
		return nil, err
	}
	redisTime := new(clock)
	j, err := openJournal(filepath.Join(cfg.StateDir, "journal"), state.reused, redisTime, log)
	if err != nil {
		return nil, errors.Join(err, state.close())
	}
	addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(cfg.BindIP, uint16(cfg.UDPPort)))
	udp, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for task numbers: %w", err), j.close(), state.close())
	}
	a := &Agent{
		cfg: cfg, log: log, state: state, journal: j, udp: udp, clock: redisTime,
		retryMin: 2 * time.Second, retryMax: 5 * time.Second,
		slots:      make(chan struct{}, cfg.Parallel),
		unverified: make(chan struct{}, 1),
		verified:   make(chan struct{}),
		patience:   10 * time.Second,
		lookups:    map[string]*lookup{},
		checks:     map[string]chan<- checked{},
		running:    map[setKey]context.CancelCauseFunc{},
	}
	j.reported = a.wake
	return a, nil
}

// complete checks c and fills in its defaults.
func (c *Config) complete() error {
	if len(c.Servers) == 0 {
		return errors.New("agent: no server to connect to")
	}
	for _, s := range c.Servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			return fmt.Errorf("agent: server %q is not of the form host:port", s)
		}
	}
	if c.StateDir == "" {
		return errors.New("agent: no state directory")
	}
	if c.ID == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("agent: no id, and no host name to take instead: %w", err)
		}
		c.ID = name
	}
	if !wire.ValidHost(c.ID) {
		return fmt.Errorf("agent: %q can't be a host's id", c.ID)
	}
	if c.UDPPort < 0 || c.UDPPort > 65535 {
		return fmt.Errorf("agent: UDP port %d, want 0 to 65535", c.UDPPort)
	}
	tags := 0
	for name, value := range c.Tags {
		tags += len(name) + len(value)
	}
	if tags > maxTags {
		return fmt.Errorf("agent: tags of %d bytes, want at most %d", tags, maxTags)
	}
	if c.Heartbeat < 0 || c.KillAfter < 0 || c.Parallel < 0 {
		return errors.New("agent: heartbeat, kill-after and parallel can't be negative")
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = DefaultHeartbeat
	}
	if c.KillAfter == 0 {
		c.KillAfter = DefaultKillAfter
	}
	if c.Parallel == 0 {
		c.Parallel = DefaultParallel
	}
	if c.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		c.Log = silent
	}
	if c.Dial == nil {
		c.Dial = dialer(c.BindIP).DialContext
	}
	c.Tags = maps.Clone(c.Tags)
	return nil
}

// Run works until ctx ends; then it ends the commands that run, reports them as
// interrupted, releases all that New took and returns nil. That takes at most
// KillAfter and three seconds. An error means that the journal could not be closed in
// order. Run is called once.
func (a *Agent) Run(ctx context.Context) error {
	a.resume(ctx)

	// The connection outlives the commands, so that their last reports can leave.
	linked, unlink := context.WithCancel(context.WithoutCancel(ctx))
	defer unlink()
	var link, receiver sync.WaitGroup
	link.Go(func() { a.stayConnected(linked, func(m wire.Message) { a.obey(ctx, m) }) })
	link.Go(func() { a.verify(ctx) })
	receiver.Go(func() { a.receive(ctx) })

	<-ctx.Done()
	a.udp.Close()
	receiver.Wait()
	a.mu.Lock()
	a.stopping = true
	a.mu.Unlock()
	a.work.Wait()
	unlink()
	link.Wait()
	a.drains.close()
	return errors.Join(a.journal.close(), a.state.close())
}

// ID returns the id by which the agent says hello.
func (a *Agent) ID() string { return a.cfg.ID }

// UDPAddr returns the address on which the agent waits for task numbers.
func (a *Agent) UDPAddr() netip.AddrPort {
	return a.udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// obey does what a message of the listener asks, once the agent is welcome.
func (a *Agent) obey(ctx context.Context, m wire.Message) {
	switch m := m.(type) {
	case wire.Found:
		a.answered(m)
	case wire.Push:
		switch m.Action {
		case wire.ActionStart:
			a.told(ctx, m.Task)
		case wire.ActionCancel:
			a.cancel(m.Task)
		}
	}
}

// wake has the connection, if there is one, look for what is to be sent.
func (a *Agent) wake() {
	if s := a.session.Load(); s != nil {
		s.wake()
	}
}
