package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

const (
	sendTimeout = 10 * time.Second // for a peer that does not read
	sendRoom    = 4 << 20          // bytes that may wait for it
	earlyRoom   = 8 << 10          // bytes of pushes that may wait for the welcome

	// Before a connection counts as silent, or is closed because the listener stops, it
	// is read once more for this long. What has arrived is then read, however late this
	// process was to look: a deadline that is over hides it.
	lastLook = 100 * time.Millisecond
)

// session is one connection, from its first byte to its goodbye.
type session struct {
	srv  *Server
	conn net.Conn
	dec  wire.Decoder

	// Written once, before the session becomes a member.
	host   string
	client string // as in the hash {muster}:clients
	addr   netip.AddrPort
	agent  bool

	joining chan joined // the answer to a hello; nil before and after

	next *session // another connection of the same old client; members.mu

	mu      sync.Mutex
	reason  string // why it was closed from this side; empty if the peer did
	out     []byte // what waits to be sent
	sending bool
	closed  bool
	answer  chan joined // joining, until there is an answer
	welcome bool        // an agent has been welcomed; out is not sent before that
}

func newSession(srv *Server, conn net.Conn) *session {
	ss := &session{srv: srv, conn: conn}
	ss.dec.Init(conn, srv.cfg.MaxFrame)
	return ss
}

// serve reads the connection until it ends. The stack of this goroutine is most of
// what an idle connection costs, so all that needs a deeper one runs in another. What
// panics in either ends this connection, and no other.
func (ss *session) serve(ctx context.Context) {
	err := ss.read(ctx)
	if err := ss.deep(func() error { ss.goodbye(err); return nil }); err != nil {
		_ = ss.deep(func() error { ss.drop(err); return nil })
	}
}

func (ss *session) read(ctx context.Context) (err error) {
	defer supervise.Catch(&err)
	for last := false; ; {
		// The deadline is for a whole message: one that trickles in is silence.
		wait := ss.srv.cfg.HeartbeatTimeout
		if last {
			wait = lastLook
		}
		if err := ss.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
		if ss.srv.ending.Load() { // see endReading: it may have been called just before
			if ctx.Err() != nil {
				return errStopping
			}
			last = true
			if err := ss.conn.SetReadDeadline(time.Now().Add(lastLook)); err != nil {
				return err
			}
		}
		body, err := ss.dec.Next()
		if err != nil {
			switch timeout := isTimeout(err); {
			case timeout && !last:
				last = true
				continue
			case timeout && ss.srv.ending.Load():
				return errStopping
			}
			return err
		}
		last = false
		if ss.host != "" && (isJSON(body) || !ss.agent) && ss.srv.beats.Known(body) {
			ss.srv.stats.Heartbeats.Add(1)
			continue
		}
		if err := ss.handleDeep(ctx, body); err != nil {
			return err
		}
		if ss.joining != nil {
			if err := ss.awaitRoll(ctx); err != nil {
				return err
			}
		}
	}
}

// handleDeep is apart from read because what a closure holds lies on the heap: there
// it would cost each heartbeat an allocation.
func (ss *session) handleDeep(ctx context.Context, body []byte) error {
	return ss.deep(func() error { return ss.handle(ctx, body) })
}

// deep runs f on a stack of its own and waits for it. A panic becomes an error.
func (ss *session) deep(f func() error) error {
	done := make(chan error)
	go func() { done <- supervise.Safely(f) }()
	return <-done
}

var (
	errRefused  = errors.New("refused")        // ends a session that may not join
	errStopping = errors.New("listener stops") // ends reading, not the connection
	errBusy     = errors.New("busy")           // ends a session that comes while too much waits for Redis
)

// handle takes one message. An error ends the session.
func (ss *session) handle(ctx context.Context, body []byte) error {
	from := wire.OldClient
	if ss.agent {
		from = wire.Agent
	}
	m, err := wire.Decode(body, from)
	if err != nil {
		if errors.Is(err, wire.ErrUnknownCode) {
			ss.srv.stats.Unknown.Add(1)
			if ss.agent {
				return nil
			}
		}
		return err
	}
	if hello, ok := m.(wire.Hello); ok {
		ss.srv.stats.Hellos.Add(1)
		if ss.host != "" {
			return fmt.Errorf("%w: a hello that is not the first message", wire.ErrAbnormal)
		}
		return ss.hello(ctx, hello)
	}
	if ss.host == "" {
		if err := ss.greetOld(body); err != nil {
			return err
		}
	}
	return ss.take(ctx, m, body)
}

// greetOld lets in a client whose first message is not a hello: it is known by its
// address. Its kind is the form of that message, whatever form later ones have.
func (ss *session) greetOld(body []byte) error {
	if ss.srv.changes.full() {
		return errBusy
	}
	peer := ss.peer()
	ss.host, ss.client = peer.String(), "json"
	if !isJSON(body) {
		ss.client = "text"
	}
	ss.addr = netip.AddrPortFrom(peer, uint16(ss.srv.cfg.ClientUDPPort))
	if !ss.srv.join(ss, nil) {
		return errRefused
	}
	return nil
}

// isJSON reports whether a body is of the JSON form, the only one that agents speak.
// No body is empty.
func isJSON(body []byte) bool { return body[0] == '{' }

// hello asks the roll to let an agent in; awaitRoll welcomes it.
func (ss *session) hello(ctx context.Context, m wire.Hello) error {
	peer := ss.peer()
	// An id that looks like an address would pass for the old client of that address.
	if addr, err := netip.ParseAddr(m.ID); err == nil && addr.Unmap() != peer {
		ss.refuse(m.ID, "the id is the address of another host")
		return errRefused
	}
	if ss.srv.changes.full() {
		return errBusy
	}
	ss.host, ss.client, ss.agent = m.ID, "agent "+m.Instance, true
	ss.addr = netip.AddrPortFrom(peer, uint16(m.UDP))
	joining := make(chan joined, 1)
	ss.mu.Lock()
	ss.answer = joining
	ss.mu.Unlock()
	if !ss.srv.join(ss, joining) {
		ss.refuse(m.ID, "another instance of this id is connected")
		return errRefused
	}
	ss.joining = joining
	return nil
}

// awaitRoll waits until the roll has an agent that has said hello, or refuses it, or
// the session is closed meanwhile. It waits on the small stack, since with a fleet that
// comes back at once thousands do.
func (ss *session) awaitRoll(ctx context.Context) error {
	var a joined
	select {
	case <-ctx.Done():
		return errStopping
	case a = <-ss.joining:
		ss.joining = nil
	}
	if ss.isClosed() {
		return net.ErrClosed
	}
	return ss.deep(func() error {
		if a.refused != "" {
			ss.refuse(ss.host, a.refused)
			return errRefused
		}
		ss.greet(wire.Welcome{
			Server: ss.srv.cfg.ID, HeartbeatMS: ss.srv.cfg.Heartbeat.Milliseconds(), TimeMS: a.now.UnixMilli(),
		})
		return nil
	})
}

// greet sends the welcome, and after it the pushes that came before it.
func (ss *session) greet(w wire.Welcome) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	early := ss.out
	ss.welcome, ss.answer, ss.out = true, nil, nil
	ss.sendLocked(append(wire.EncodeFrame(w), early...))
}

// push sends a push to an agent, not before its welcome: that is the first thing it
// hears. Of too many that come before it the last are lost, as pushes may be.
func (ss *session) push(m wire.Push) {
	frame := wire.EncodeFrame(m)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch {
	case ss.welcome:
		ss.sendLocked(frame)
	case !ss.closed && len(ss.out)+len(frame) <= earlyRoom:
		ss.out = append(ss.out, frame...)
	}
}

// refuse tells the agent why it is not let in, and waits until that is sent.
func (ss *session) refuse(id, reason string) {
	ss.srv.log.WithFields(logrus.Fields{"host": id, "peer": ss.conn.RemoteAddr().String(), "reason": reason}).Warn("host refused")
	_ = ss.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, _ = ss.conn.Write(wire.EncodeFrame(wire.Welcome{
		Server: ss.srv.cfg.ID, HeartbeatMS: ss.srv.cfg.Heartbeat.Milliseconds(), TimeMS: time.Now().UnixMilli(), Refused: reason,
	})) // it is closed next, whether it heard or not
}

// take hands a message of a member on.
func (ss *session) take(ctx context.Context, m wire.Message, body []byte) error {
	s := ss.srv
	switch m := m.(type) {
	case wire.Heartbeat:
		s.stats.Heartbeats.Add(1)
		s.beats.Learn(body)
	case wire.Info:
		s.stats.Infos.Add(1)
		return s.offerInfo(ctx, ss, m, len(body))
	case wire.Status:
		s.stats.Statuses.Add(1)
		return s.reports.offer(ctx, report{ss, m.Seq, tasks.Report{
			Number: tasks.Number(m.Task), Host: ss.host, Phase: int(m.Phase), Working: m.Working,
			Lists: m.Lists, Complete: m.Complete, OnCall: m.OnCall, Result: resultOf(ss.host, m.Result),
		}}, reportSize+len(body))
	case wire.Answer:
		s.stats.Answers.Add(1)
		return s.reports.offer(ctx, report{ss, m.Seq, tasks.Report{
			Number: tasks.Number(m.Task), Host: ss.host, RCC: int(m.RCC),
		}}, reportSize)
	case wire.Lookup:
		s.stats.Lookups.Add(1)
		return s.lookups.offer(ctx, lookup{ss, tasks.Lookup{Number: tasks.Number(m.Task), Host: ss.host}}, lookupSize)
	}
	return nil
}

func (ss *session) peer() netip.Addr {
	if tcp, ok := ss.conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// goodbye ends the session. err is why reading ended. When that is because the listener
// stops, the connection stays open for what is still to be sent, and the host stays on
// the roll.
func (ss *session) goodbye(err error) {
	if errors.Is(err, errStopping) || errors.Is(err, context.Canceled) {
		return
	}
	ss.mu.Lock()
	reason := ss.reason
	ss.mu.Unlock()
	log := ss.srv.log.WithField("peer", ss.conn.RemoteAddr().String())
	if ss.host != "" {
		log = log.WithField("host", ss.host)
	}
	var panicked *supervise.Panic
	switch {
	case errors.As(err, &panicked):
		reason = internalError
		ss.notePanic(log, err)
	case reason != "":
	case errors.Is(err, errRefused):
		reason = "refused"
	case errors.Is(err, wire.ErrAbnormal):
		reason = err.Error()
		ss.srv.stats.Abnormal.Add(1)
		ss.srv.stats.AbnormalBy[wire.KindOf(err)].Add(1)
		log.WithError(err).Warn("abnormal data, connection closed")
	case isTimeout(err):
		reason = fmt.Sprintf("silent for %v", ss.srv.cfg.HeartbeatTimeout)
	case errors.Is(err, io.EOF):
		reason = "connection closed"
	case errors.Is(err, io.ErrUnexpectedEOF):
		reason = "connection closed inside a message"
	case errors.Is(err, errBusy):
		reason = "too much waits for redis"
		log.Warn("connection not taken, too much waits for redis")
	default:
		reason = "connection broken"
		log.WithError(err).Debug("connection broken")
	}
	ss.close(reason)
	ss.srv.leave(ss, reason)
}

// internalError is the reason of a connection's end that is this program's fault.
const internalError = "internal error of the listener"

func (ss *session) notePanic(log logrus.FieldLogger, err error) {
	ss.srv.stats.Panics.Add(1)
	log.WithError(err).Error("connection failed and is closed")
	supervise.LogStack(log, err)
}

// drop ends a session of which not even the goodbye has worked.
func (ss *session) drop(err error) {
	ss.notePanic(ss.srv.log.WithField("host", ss.host), err)
	defer ss.srv.leave(ss, internalError)
	ss.close(internalError)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// close closes the connection; reading then ends. The first reason stays.
func (ss *session) close(reason string) {
	ss.mu.Lock()
	if !ss.closed {
		ss.closed, ss.reason = true, reason
		ss.out = nil
		if ss.answer != nil {
			// Whoever waits for the roll would see the end of the connection only when
			// Redis answers.
			change{answer: ss.answer}.reply(joined{refused: reason})
		}
	}
	ss.mu.Unlock()
	ss.conn.Close()
}

func (ss *session) isClosed() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.closed
}

// send queues a message. It never waits: a goroutine writes while there is
// something to write, and an idle connection has none.
func (ss *session) send(m wire.Message) {
	frame := wire.EncodeFrame(m)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.sendLocked(frame)
}

func (ss *session) sendLocked(frames []byte) {
	switch {
	case ss.closed:
	case len(ss.out)+len(frames) > sendRoom:
		go ss.close("does not read what it is sent")
	default:
		ss.out = append(ss.out, frames...)
		if !ss.sending {
			ss.sending = true
			ss.srv.sending.Go(ss.flushSafely)
		}
	}
}

// flushSafely is flush; if that panics the connection ends.
func (ss *session) flushSafely() {
	err := supervise.Safely(func() error { ss.flush(); return nil })
	if err == nil {
		return
	}
	ss.notePanic(ss.srv.log.WithField("host", ss.host), err)
	ss.close(internalError)
}

func (ss *session) flush() {
	for {
		ss.mu.Lock()
		out := ss.out
		ss.out = nil
		if len(out) == 0 {
			ss.sending = false
			ss.mu.Unlock()
			return
		}
		ss.mu.Unlock()
		_ = ss.conn.SetWriteDeadline(time.Now().Add(sendTimeout)) // a closed connection fails the write too
		if _, err := ss.conn.Write(out); err != nil {
			ss.close("connection broken")
		}
	}
}
