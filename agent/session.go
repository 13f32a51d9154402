package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/wire"
)

const (
	writeTimeout = 30 * time.Second       // for what the listener does not read
	farewell     = 200 * time.Millisecond // for the last reports, when the agent stops
	gathered     = 64 << 10               // bytes of frames that are written together
)

// session is one connection to a listener, from its welcome on. One goroutine
// reads, one writes; see write for what is written.
type session struct {
	agent    *Agent
	conn     net.Conn
	frames   *wire.Decoder
	welcome  wire.Welcome
	interval time.Duration // between two heartbeats
	obey     func(wire.Message)

	woken  chan struct{} // holds one: there may be something to write
	moving chan struct{} // holds one: the listener asks to move
	stop   context.CancelCauseFunc
	ended  chan struct{} // closed when it has ended; why is set then
	why    error
	sent   atomic.Int64 // number of the last report that was handed to the connection

	mu     sync.Mutex
	urgent []wire.Message // goes before the reports
}

func newSession(a *Agent, conn net.Conn, frames *wire.Decoder, w wire.Welcome, obey func(wire.Message)) *session {
	return &session{
		agent: a, conn: conn, frames: frames, welcome: w, obey: obey,
		interval: heartbeat(a.cfg.Heartbeat, w.HeartbeatMS),
		woken:    make(chan struct{}, 1), moving: make(chan struct{}, 1), ended: make(chan struct{}),
		urgent: []wire.Message{a.info(conn.LocalAddr())},
	}
}

// run works until ctx ends, as stop also has it, or the connection breaks, and
// returns why. It is called once, after stop is set.
func (s *session) run(ctx context.Context) error {
	defer s.stop(nil)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer s.conn.Close() // ends the reader
	reader.Go(func() { s.stop(s.read()) })
	defer context.AfterFunc(ctx, func() { s.allow(ctx) })()

	err := s.write(ctx)
	if cause := context.Cause(ctx); cause != nil {
		return cause // it came first, whatever the writer says
	}
	return err
}

// allow gives the writer time, and little of it once ctx has ended.
func (s *session) allow(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	patience := writeTimeout
	if ctx.Err() != nil {
		patience = farewell
	}
	s.conn.SetWriteDeadline(time.Now().Add(patience))
}

// read hands on what the listener sends, until the connection is no more.
func (s *session) read() error {
	passedOver := false
	for {
		body, err := s.frames.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("the listener closed the connection")
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		m, err := wire.Decode(body, wire.Listener)
		if err != nil {
			// A newer listener may say what this agent does not know; that is no
			// reason to leave it.
			if !passedOver {
				s.agent.log.WithError(err).Warn("message of the listener passed over")
			}
			passedOver = true
			continue
		}
		switch m := m.(type) {
		case wire.Confirm:
			s.confirm(m.Seq)
		case wire.Push:
			switch m.Action {
			case wire.ActionMove:
				s.move()
			case wire.ActionInfo:
				s.ask(s.agent.info(s.conn.LocalAddr()))
			default:
				s.obey(m)
			}
		default:
			s.obey(m)
		}
	}
}

// confirm drops the reports up to seq, but none that the listener has not seen.
func (s *session) confirm(seq int64) {
	seq = min(seq, s.sent.Load())
	if seq < 1 {
		return
	}
	// A confirmation that is lost costs sending again what changes nothing.
	if err := s.agent.journal.note(record{Kind: kindConfirm, Seq: seq}); err != nil {
		s.agent.log.WithError(err).Warn("confirmation not in the journal")
	}
}

// ask has m written before all reports.
func (s *session) ask(m wire.Message) {
	s.mu.Lock()
	if len(s.urgent) < 2*maxLookups { // it is repeated; who does not read gets no more
		s.urgent = append(s.urgent, m)
	}
	s.mu.Unlock()
	s.wake()
}

// wake has the writer look for what is to be written.
func (s *session) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// move has the agent connect anew.
func (s *session) move() {
	select {
	case s.moving <- struct{}{}:
	default:
	}
}
