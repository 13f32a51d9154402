package swarm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/musterhq/muster/wire"
)

const (
	askAgain   = 2 * time.Second // how long an agent waits for the answer to a look-up
	backMost   = 500 * time.Millisecond
	forgetSets = 100 // so many sets that were run are worth a look which of them are over
)

// Heard is what one host has heard of one task number.
type Heard struct {
	Datagrams int // that were sent to it, also those that it lost
	Lost      int // of these
	Pushes    int // over its connection
	Runs      int // how often it was run: once for each request
	Answered  time.Time
	Confirmed time.Time // when the first answer was confirmed
	Late      int       // datagrams and pushes after that

	seq int64 // of the first answer
}

// host is one host. As an agent it keeps what is not confirmed and what it has run, in
// memory only: it is never started again.
type host struct {
	swarm *Swarm
	n     int

	mu      sync.Mutex
	conn    net.Conn // nil while there is none
	gone    bool     // the swarm ends
	dials   int
	seq     int64
	nth     int                  // datagrams that were sent to it
	reports []report             // not confirmed
	asking  map[string]time.Time // numbers that are looked up, and when that was asked last
	ran     map[ran]int64        // sets that were run, and their deadlines
	heard   map[string]*Heard
}

type ran struct{ number, request string }

type report struct {
	seq   int64
	frame []byte
}

// dial connects the host, and sends again what is not confirmed.
func (h *host) dial(ctx context.Context) error {
	s := h.swarm
	h.mu.Lock()
	server := s.cfg.Servers[(h.n+h.dials)%len(s.cfg.Servers)]
	h.dials++
	h.mu.Unlock()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr(h.n), 0)), KeepAlive: -1, Timeout: 30 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return fmt.Errorf("swarm: host %d: %w", h.n, err)
	}
	first := wire.Message(wire.Heartbeat{})
	if !s.cfg.Old {
		first = wire.Hello{ID: s.ID(h.n), Instance: "swarm", UDP: s.port}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		conn.Close()
		return context.Canceled
	}
	old := h.conn
	h.conn = conn
	if old != nil {
		old.Close()
	}
	frames := h.frame(first)
	for number := range h.asking {
		frames = append(frames, wire.EncodeFrame(wire.Lookup{Task: number})...)
	}
	for _, r := range h.reports {
		frames = append(frames, r.frame...)
	}
	if _, err := conn.Write(frames); err != nil {
		return fmt.Errorf("swarm: host %d: %w", h.n, err)
	}
	return nil
}

// live reads what the listener sends, and connects again where that is wanted.
func (h *host) live(ctx context.Context) {
	for {
		h.mu.Lock()
		conn := h.conn
		h.mu.Unlock()
		moved := conn != nil && h.read(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		if !moved {
			h.swarm.dead.Add(1)
			h.hangUp(conn)
			if !h.swarm.cfg.Return {
				return
			}
		}
		for {
			wait := time.NewTimer(rand.N(backMost))
			select {
			case <-ctx.Done():
				wait.Stop()
				return
			case <-wait.C:
			}
			if h.dial(ctx) == nil {
				break
			}
		}
	}
}

func (h *host) hangUp(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if conn != nil && h.conn == conn {
		conn.Close()
		h.conn = nil
	}
}

// read returns true when the listener asks to move.
func (h *host) read(ctx context.Context, conn net.Conn) (move bool) {
	dec := wire.NewDecoder(conn, 0)
	for {
		body, err := dec.Next()
		if err != nil || ctx.Err() != nil {
			return false
		}
		m, err := wire.Decode(body, wire.Listener)
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case wire.Confirm:
			h.confirmed(m.Seq)
		case wire.Found:
			h.run(m)
		case wire.Push:
			switch {
			case m.Action == wire.ActionMove && h.swarm.cfg.Return:
				return true
			case m.Action == wire.ActionStart:
				h.pushed(m.Task)
			}
		}
	}
}

func (h *host) datagram(number string) {
	s := h.swarm
	h.mu.Lock()
	lost := s.cfg.Lose != nil && s.cfg.Lose(h.n, h.nth)
	h.nth++
	h.note(number, func(heard *Heard) {
		heard.Datagrams++
		if lost {
			heard.Lost++
		} else if !heard.Confirmed.IsZero() {
			heard.Late++
		}
	})
	h.mu.Unlock()
	if lost {
		return
	}
	if s.cfg.Told != nil {
		s.cfg.Told(h.n, number)
	}
	if s.cfg.Old {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.note(number, func(heard *Heard) { heard.Runs++ })
		h.write(h.frame(h.oldAnswer(number)))
		return
	}
	h.told(number)
}

// oldAnswer is what an old client says to a number. The text form has no answers but
// reports; since nothing is looked up here, this one names no commands.
func (h *host) oldAnswer(number string) wire.Message {
	if h.swarm.cfg.Text {
		return wire.Status{Task: number, Phase: wire.PhaseReceived, Lists: true}
	}
	return wire.Answer{Task: number, Time: now(), RCC: wire.RCCReceived}
}

// frame is the frame of a message in the form that the host speaks.
func (h *host) frame(m wire.Message) []byte {
	if body, ok := wire.EncodeText(m); ok && h.swarm.cfg.Text {
		return wire.AppendFrame(nil, body)
	}
	return wire.EncodeFrame(m)
}

func (h *host) pushed(number string) {
	h.mu.Lock()
	h.note(number, func(heard *Heard) {
		heard.Pushes++
		if !heard.Confirmed.IsZero() {
			heard.Late++
		}
	})
	h.mu.Unlock()
	h.told(number)
}

// told looks a number up, unless that is under way.
func (h *host) told(number string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, under := h.asking[number]; under {
		return
	}
	if h.asking == nil {
		h.asking = map[string]time.Time{}
	}
	h.asking[number] = time.Now()
	h.write(wire.EncodeFrame(wire.Lookup{Task: number}))
}

// beat sends a heartbeat, and asks again what was not answered.
func (h *host) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	frames := h.frame(wire.Heartbeat{})
	for number, asked := range h.asking {
		if time.Since(asked) >= askAgain {
			h.asking[number] = time.Now()
			frames = append(frames, wire.EncodeFrame(wire.Lookup{Task: number})...)
		}
	}
	h.write(frames)
}

// run answers and reports as an agent whose commands end at once. A set that it has run
// it only answers.
func (h *host) run(m wire.Found) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, asked := h.asking[m.Task]; !asked {
		return // the answer to a question that was repeated
	}
	delete(h.asking, m.Task)
	if !m.Found {
		h.answer(m.Task, wire.RCCMissing)
		return
	}
	h.answer(m.Task, wire.RCCReceived)
	key := ran{m.Task, m.Request}
	if _, known := h.ran[key]; known || time.Now().UnixMilli() >= m.DeadlineMS {
		return
	}
	h.remember(key, m.DeadlineMS)
	h.note(m.Task, func(heard *Heard) { heard.Runs++ })
	oncall := make([]string, len(m.Commands))
	for i, c := range m.Commands {
		oncall[i] = c.Line
	}
	h.report(wire.Status{Task: m.Task, Phase: wire.PhaseReceived, Lists: true, OnCall: oncall})
	for _, line := range oncall {
		h.report(wire.Status{Task: m.Task, Phase: wire.PhaseEnded, Result: &wire.Result{Command: line, DurationMS: 1, Stdout: "ok\n", StdoutBytes: 3}})
	}
}

// remember notes that a set was run, and forgets those whose deadline has passed.
func (h *host) remember(key ran, deadline int64) {
	if h.ran == nil {
		h.ran = map[ran]int64{}
	}
	if len(h.ran) >= forgetSets {
		for k, until := range h.ran {
			if until < time.Now().UnixMilli() {
				delete(h.ran, k)
			}
		}
	}
	h.ran[key] = deadline
}

func (h *host) answer(number string, rcc wire.RCC) {
	seq := h.report(wire.Answer{Task: number, Time: now(), RCC: rcc})
	if rcc == wire.RCCReceived {
		h.note(number, func(heard *Heard) {
			if heard.seq == 0 {
				heard.seq, heard.Answered = seq, time.Now()
			}
		})
	}
}

// report numbers an answer or a status, keeps it until it is confirmed, and sends it.
func (h *host) report(m wire.Message) int64 {
	h.seq++
	switch r := m.(type) {
	case wire.Answer:
		r.Seq = h.seq
		m = r
	case wire.Status:
		r.Seq = h.seq
		m = r
	}
	r := report{h.seq, wire.EncodeFrame(m)}
	h.reports = append(h.reports, r)
	h.write(r.frame)
	return r.seq
}

func (h *host) confirmed(seq int64) {
	h.mu.Lock()
	n := 0
	for n < len(h.reports) && h.reports[n].seq <= seq {
		n++
	}
	if h.reports = h.reports[n:]; len(h.reports) == 0 {
		h.reports = nil
	}
	for _, heard := range h.heard {
		if heard.seq > 0 && heard.seq <= seq && heard.Confirmed.IsZero() {
			heard.Confirmed = time.Now()
		}
	}
	h.mu.Unlock()
	if h.swarm.cfg.Confirmed != nil {
		h.swarm.cfg.Confirmed(h.n, seq)
	}
}

// note counts something about a number. h.mu is held.
func (h *host) note(number string, count func(*Heard)) {
	if !h.swarm.cfg.Count {
		return
	}
	if h.heard == nil {
		h.heard = map[string]*Heard{}
	}
	if h.heard[number] == nil {
		h.heard[number] = &Heard{}
	}
	count(h.heard[number])
}

// write sends frames. h.mu is held. The reader sees when the connection is broken.
func (h *host) write(frames []byte) {
	if h.conn != nil {
		_ = h.conn.SetWriteDeadline(time.Now().Add(5 * time.Second)) // a listener may be stopped
		if _, err := h.conn.Write(frames); err != nil {
			h.conn.Close()
		}
	}
}
