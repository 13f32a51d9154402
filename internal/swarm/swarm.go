// Package swarm is thousands of hosts in one process, for benchmarks and for tests
// of what only shows in numbers. They speak the wire as agents or as old clients do,
// but run no command: each is said to have ended with status 0.
//
// Every host has a loopback address of its own, from 127.1.0.1 on, and all share one
// UDP socket that tells them apart by the address a datagram was sent to. So a host
// costs one open file, and ten thousand fit into a process. Linux only: other
// systems have no such addresses without set-up.
package swarm

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/musterhq/muster/wire"
)

// Config configures a Swarm. Servers and Hosts are required.
type Config struct {
	Servers   []string      // host:port of the listeners, dialed in turn
	Hosts     int           // at most 60,000
	Name      string        // what ids begin with; "" means swarm
	Heartbeat time.Duration // between two of one host; 0 means 5s
	Old       bool          // old clients; else agents
	Text      bool          // with Old: they speak the text form
	UDPPort   int           // 0 means any free one; old clients want 6655
	Dialing   int           // connections that are being made at once; 0 means 64
	Return    bool          // who loses its connection comes back

	// Lose says which datagrams a host does not get: nth counts those that were sent to
	// the host, from 0. Nil means none.
	Lose func(host, nth int) bool
	// Count keeps what Heard returns. It grows with hosts and task numbers.
	Count bool

	// Told is called with each datagram that a host gets, before it answers.
	Told func(host int, number string)
	// Confirmed is called with each confirmation that an agent gets.
	Confirmed func(host int, seq int64)
}

// Swarm is a running swarm.
type Swarm struct {
	cfg   Config
	udp   *net.UDPConn
	port  int
	hosts []*host
	dead  atomic.Int64
}

// ID is the id of host n: its address for an old client, else a name and the number.
func (s *Swarm) ID(n int) string {
	if s.cfg.Old {
		return addr(n).String()
	}
	return fmt.Sprintf("%s-%d", s.cfg.Name, n)
}

// Lost is how many connections ended before the swarm did.
func (s *Swarm) Lost() int { return int(s.dead.Load()) }

// Unconfirmed is how many answers and reports wait for their confirmation.
func (s *Swarm) Unconfirmed() int {
	n := 0
	for _, h := range s.hosts {
		h.mu.Lock()
		n += len(h.reports)
		h.mu.Unlock()
	}
	return n
}

// Heard returns what host n has heard of a task number, if Config.Count is set.
func (s *Swarm) Heard(n int, number string) Heard {
	h := s.hosts[n]
	h.mu.Lock()
	defer h.mu.Unlock()
	if heard := h.heard[number]; heard != nil {
		return *heard
	}
	return Heard{}
}

func addr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + n/62500), byte(n / 250 % 250), byte(1 + n%250)})
}

// index is the inverse of addr; -1 if a is no host's.
func index(a netip.Addr) int {
	b := a.Unmap().As4()
	if b[0] != 127 || b[1] == 0 || b[3] == 0 {
		return -1
	}
	return (int(b[1])-1)*62500 + int(b[2])*250 + int(b[3]) - 1
}

// New opens the swarm's UDP socket.
func New(cfg Config) (*Swarm, error) {
	if cfg.Hosts < 1 || cfg.Hosts > 60_000 {
		return nil, fmt.Errorf("swarm: %d hosts, want 1 to 60000", cfg.Hosts)
	}
	if len(cfg.Servers) == 0 {
		return nil, fmt.Errorf("swarm: no listener")
	}
	if cfg.Name == "" {
		cfg.Name = "swarm"
	}
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	if cfg.Dialing <= 0 {
		cfg.Dialing = 64
	}
	if cfg.Text && !cfg.Old {
		return nil, fmt.Errorf("swarm: agents do not speak the text form")
	}
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{Port: cfg.UDPPort})
	if err != nil {
		return nil, fmt.Errorf("swarm: %w", err)
	}
	_ = udp.SetReadBuffer(8 << 20) // as much as the system allows
	s := &Swarm{cfg: cfg, udp: udp, port: udp.LocalAddr().(*net.UDPAddr).Port, hosts: make([]*host, cfg.Hosts)}
	for n := range s.hosts {
		s.hosts[n] = &host{swarm: s, n: n}
	}
	return s, nil
}

// Run connects all hosts, calls ready once they are, and lives until ctx ends.
func (s *Swarm) Run(ctx context.Context, ready func()) error {
	defer s.udp.Close()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.udp.Close() })()

	if err := s.connect(ctx); err != nil {
		s.hangUp()
		return err
	}
	for _, h := range s.hosts {
		all.Go(func() { h.live(ctx) })
	}
	all.Go(func() { s.receive() })
	all.Go(func() { s.beat(ctx) })
	if ready != nil {
		ready()
	}
	<-ctx.Done()
	s.udp.Close() // ends receive, also where the AfterFunc is stopped before it began
	s.hangUp()
	return nil
}

func (s *Swarm) hangUp() {
	for _, h := range s.hosts {
		h.mu.Lock()
		h.gone = true
		if h.conn != nil {
			h.conn.Close()
		}
		h.mu.Unlock()
	}
}

func (s *Swarm) connect(ctx context.Context) error {
	var dialing sync.WaitGroup
	var failed error
	var once sync.Once
	next := atomic.Int64{}
	for range min(s.cfg.Dialing, s.cfg.Hosts) {
		dialing.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= s.cfg.Hosts || ctx.Err() != nil {
					return
				}
				if err := s.hosts[n].dial(ctx); err != nil {
					once.Do(func() { failed = err })
					return
				}
			}
		})
	}
	dialing.Wait()
	if failed != nil {
		return failed
	}
	return ctx.Err()
}

// beat sends each host's heartbeat once a period, spread evenly over it.
func (s *Swarm) beat(ctx context.Context) {
	const steps = 100
	tick := time.NewTicker(s.cfg.Heartbeat / steps)
	defer tick.Stop()
	for step := 0; ; step++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for n := step % steps; n < len(s.hosts); n += steps {
			s.hosts[n].beat()
		}
	}
}

func (s *Swarm) receive() {
	p := ipv4.NewPacketConn(s.udp)
	if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return
	}
	buf := make([]byte, 2*wire.MaxDatagram)
	for {
		n, cm, _, err := p.ReadFrom(buf)
		if err != nil {
			return
		}
		number, err := wire.ParseDatagram(buf[:n])
		if err != nil || cm == nil {
			continue
		}
		to, _ := netip.AddrFromSlice(cm.Dst)
		i := index(to)
		if i < 0 || i >= len(s.hosts) {
			continue
		}
		s.hosts[i].datagram(number)
	}
}

func now() float64 { return float64(time.Now().UnixMilli()) / 1000 }
