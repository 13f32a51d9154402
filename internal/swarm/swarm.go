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

// Config configures a Swarm. Server and Hosts are required.
type Config struct {
	Server    string        // host:port of the listener
	Hosts     int           // at most 60,000
	Heartbeat time.Duration // between two of one host; 0 means 5s
	Old       bool          // old clients; else agents
	UDPPort   int           // 0 means any free one; old clients want 6655
	Dialing   int           // connections that are being made at once; 0 means 64

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

type host struct {
	swarm *Swarm
	n     int
	conn  net.Conn
	mu    sync.Mutex // seq and writing
	seq   int64
}

// ID is the id of host n: its address for an old client, else swarm-n.
func (s *Swarm) ID(n int) string {
	if s.cfg.Old {
		return addr(n).String()
	}
	return fmt.Sprintf("swarm-%d", n)
}

// Lost is how many connections ended before the swarm did.
func (s *Swarm) Lost() int { return int(s.dead.Load()) }

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
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	if cfg.Dialing <= 0 {
		cfg.Dialing = 64
	}
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{Port: cfg.UDPPort})
	if err != nil {
		return nil, fmt.Errorf("swarm: %w", err)
	}
	_ = udp.SetReadBuffer(8 << 20) // as much as the system allows
	return &Swarm{cfg: cfg, udp: udp, port: udp.LocalAddr().(*net.UDPAddr).Port, hosts: make([]*host, cfg.Hosts)}, nil
}

// Run connects all hosts, calls ready once they are, and lives until ctx ends.
func (s *Swarm) Run(ctx context.Context, ready func()) error {
	defer s.udp.Close()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.udp.Close() })()

	if err := s.connect(ctx, &all); err != nil {
		return err
	}
	all.Go(func() { s.receive() })
	all.Go(func() { s.beat(ctx) })
	if ready != nil {
		ready()
	}
	<-ctx.Done()
	for _, h := range s.hosts {
		h.conn.Close()
	}
	return nil
}

func (s *Swarm) connect(ctx context.Context, all *sync.WaitGroup) error {
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
				h, err := s.dial(ctx, n)
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				s.hosts[n] = h
				all.Go(func() { h.read(ctx) })
			}
		})
	}
	dialing.Wait()
	if failed != nil {
		for _, h := range s.hosts {
			if h != nil {
				h.conn.Close()
			}
		}
		return failed
	}
	return ctx.Err()
}

func (s *Swarm) dial(ctx context.Context, n int) (*host, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr(n), 0)), KeepAlive: -1, Timeout: 30 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", s.cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("swarm: host %d: %w", n, err)
	}
	h := &host{swarm: s, n: n, conn: conn}
	first := wire.Message(wire.Heartbeat{})
	if !s.cfg.Old {
		first = wire.Hello{ID: s.ID(n), Instance: "swarm", UDP: s.port}
	}
	if _, err := conn.Write(wire.EncodeFrame(first)); err != nil {
		return nil, fmt.Errorf("swarm: host %d: %w", n, err)
	}
	return h, nil
}

// beat sends each host's heartbeat once a period, spread evenly over it.
func (s *Swarm) beat(ctx context.Context) {
	frame := wire.EncodeFrame(wire.Heartbeat{})
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
			h := s.hosts[n]
			h.mu.Lock()
			_, _ = h.conn.Write(frame) // its reader sees when it is broken
			h.mu.Unlock()
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
		if s.cfg.Told != nil {
			s.cfg.Told(i, number)
		}
		if s.cfg.Old {
			s.hosts[i].say(wire.Answer{Task: number, Time: now(), RCC: wire.RCCReceived})
		} else {
			s.hosts[i].say(wire.Lookup{Task: number})
		}
	}
}

func now() float64 { return float64(time.Now().UnixMilli()) / 1000 }

func (h *host) say(m wire.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch r := m.(type) {
	case wire.Answer:
		h.seq++
		r.Seq = h.seq
		m = r
	case wire.Status:
		h.seq++
		r.Seq = h.seq
		m = r
	}
	_, _ = h.conn.Write(wire.EncodeFrame(m)) // its reader sees when it is broken
}

func (h *host) read(ctx context.Context) {
	dec := wire.NewDecoder(h.conn, 0)
	for {
		body, err := dec.Next()
		if err != nil {
			if ctx.Err() == nil {
				h.swarm.dead.Add(1)
			}
			return
		}
		m, err := wire.Decode(body, wire.Listener)
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case wire.Confirm:
			if h.swarm.cfg.Confirmed != nil {
				h.swarm.cfg.Confirmed(h.n, m.Seq)
			}
		case wire.Found:
			h.run(m)
		}
	}
}

// run answers and reports as an agent whose commands end at once.
func (h *host) run(m wire.Found) {
	if !m.Found {
		h.say(wire.Answer{Task: m.Task, Time: now(), RCC: wire.RCCMissing})
		return
	}
	h.say(wire.Answer{Task: m.Task, Time: now(), RCC: wire.RCCReceived})
	oncall := make([]string, len(m.Commands))
	for i, c := range m.Commands {
		oncall[i] = c.Line
	}
	h.say(wire.Status{Task: m.Task, Phase: wire.PhaseReceived, Lists: true, OnCall: oncall})
	for _, line := range oncall {
		h.say(wire.Status{Task: m.Task, Phase: wire.PhaseEnded, Result: &wire.Result{Command: line, DurationMS: 1, Stdout: "ok\n", StdoutBytes: 3}})
	}
}
