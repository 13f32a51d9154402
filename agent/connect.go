package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/wire"
)

const (
	dialTimeout    = 10 * time.Second
	welcomeTimeout = 30 * time.Second
	moveWithin     = time.Second
	lastTry        = time.Second // for a connection that was begun before the old one ended

	backOffFirst = 200 * time.Millisecond
	backOffMost  = 15 * time.Second
	// settled is how long a connection has to hold to count as a success. A
	// listener that lets everybody in and falls over is not to be stormed.
	settled = 3 * time.Second
)

// plainDialer connects from ip, if ip is valid.
//
// A listener says nothing on a connection that has nothing to report, so silence
// means nothing to the agent. That a listener's machine is gone, or the way to it, is
// found out by the system: by what is not acknowledged (see dialer), and by probes
// while nothing is on its way, which end the connection after 30 s without an answer.
// A listener that is merely stopped is not noticed: its system goes on to acknowledge.
// Its lease ends, others take its hosts off the roll, and once it goes on or is ended
// the connection breaks. Nothing but a reading listener could tell the agent earlier.
func plainDialer(ip netip.Addr) *net.Dialer {
	d := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	if ip.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	}
	return d
}

// backOff returns how long to wait after the given number of failures in a row. It
// is anything from nothing to a bound that doubles with each ("full jitter"), so
// that a fleet that has lost its listener does not come back all at once. share is
// from [0, 1).
func backOff(failures int, share float64) time.Duration {
	bound := backOffMost
	if failures < 10 {
		bound = min(bound, backOffFirst<<max(failures-1, 0))
	}
	return time.Duration(share * float64(bound))
}

// stayConnected keeps a connection to one of the servers until ctx ends. What
// arrives on it goes to obey.
func (a *Agent) stayConnected(ctx context.Context, obey func(wire.Message)) {
	var failures, next int
	var told string // the last failure in the log: each is said once
	for ctx.Err() == nil {
		server := a.cfg.Servers[next%len(a.cfg.Servers)]
		next++
		s, err := a.connect(ctx, server, obey)
		if err == nil {
			told = ""
			begin := time.Now()
			next, err = a.attend(ctx, s, next)
			if time.Since(begin) >= settled {
				failures = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		if log := a.log.WithError(err).WithField("server", server); err.Error() != told {
			log.Warn("not connected, trying on")
		} else {
			log.Debug("not connected")
		}
		told = err.Error()
		failures++
		pause.For(ctx, backOff(failures, rand.Float64()))
	}
}

// attend lets s work until it ends, and puts another connection in its place when
// the listener asks to move. The new one is up before the old one is closed, so
// that the host is never away. next counts the servers tried; the error says why
// there is no connection any more.
func (a *Agent) attend(ctx context.Context, s *session, next int) (int, error) {
	a.start(ctx, s)
	failures := 0
	for {
		select {
		case <-s.ended:
			return next, s.why
		case <-s.moving:
		}
		wait := rand.N(moveWithin)
		if failures > 0 {
			wait = backOff(failures, rand.Float64())
		}
		select {
		case <-s.ended:
			return next, s.why
		case <-time.After(wait):
		}
		// Of several servers it is another one than that of s, but where none of the
		// others answers its turn comes too: a fresh listener may be there by now.
		server := a.cfg.Servers[next%len(a.cfg.Servers)]
		next++
		fresh, err := a.connectBeside(ctx, s, server)
		if err != nil {
			if ctx.Err() != nil {
				<-s.ended
			}
			select {
			case <-s.ended:
				return next, s.why
			default:
			}
			// The old connection is still the best there is.
			level := logrus.DebugLevel
			if failures == 0 {
				level = logrus.WarnLevel // said once
			}
			a.log.WithError(err).WithField("server", server).Logln(level, "not moved, trying on")
			failures++
			s.move()
			continue
		}
		failures = 0
		a.start(ctx, fresh)
		s.stop(errors.New("moved"))
		<-s.ended
		s = fresh
	}
}

// connectBeside is connect, while s is at work. If s ends meanwhile, the attempt has
// only lastTry left: with s gone, a server that is slow to answer is not waited for.
func (a *Agent) connectBeside(ctx context.Context, s *session, server string) (*session, error) {
	own, giveUp := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer giveUp()
	watch.Go(func() {
		select {
		case <-s.ended:
			pause.For(own, lastTry)
			giveUp()
		case <-own.Done():
		}
	})
	return a.connect(own, server, s.obey)
}

// start lets s work, beginning with the questions that are open, until s.ended is
// closed.
func (a *Agent) start(ctx context.Context, s *session) {
	own, stop := context.WithCancelCause(ctx)
	s.stop = stop
	a.session.Store(s)
	a.stats.Connected.Add(1)
	for _, number := range a.open() {
		s.ask(wire.Lookup{Task: number})
	}
	select {
	case a.unverified <- struct{}{}:
	default:
	}
	go func() { // waited for by attend
		s.why = s.run(own)
		a.session.CompareAndSwap(s, nil)
		close(s.ended)
	}()
}

// connect dials a server, says hello and waits for the welcome.
func (a *Agent) connect(ctx context.Context, server string, obey func(wire.Message)) (*session, error) {
	conn, err := a.cfg.Dial(ctx, "tcp", server)
	if err != nil {
		return nil, err // it says what was dialed
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s, err := a.greet(conn, obey)
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	a.log.WithFields(logrus.Fields{"server": server, "listener": s.welcome.Server}).Info("connected")
	return s, nil
}

func (a *Agent) greet(conn net.Conn, obey func(wire.Message)) (*session, error) {
	conn.SetDeadline(time.Now().Add(welcomeTimeout))
	hello := wire.Hello{
		ID: a.cfg.ID, Instance: a.state.instance, UDP: int(a.UDPAddr().Port()), Tags: a.cfg.Tags,
	}
	if _, err := conn.Write(wire.EncodeFrame(hello)); err != nil {
		return nil, fmt.Errorf("say hello: %w", err)
	}
	frames := wire.NewDecoder(conn, wire.MaxFrame)
	body, err := frames.Next()
	if err != nil {
		return nil, fmt.Errorf("wait for the welcome: %w", err)
	}
	m, err := wire.Decode(body, wire.Listener)
	if err != nil {
		return nil, fmt.Errorf("read the welcome: %w", err)
	}
	welcome, ok := m.(wire.Welcome)
	if !ok {
		return nil, fmt.Errorf("%s came before the welcome", m.Code())
	}
	if welcome.Refused != "" {
		return nil, fmt.Errorf("the listener refuses: %s", welcome.Refused)
	}
	conn.SetDeadline(time.Time{})
	offset := a.clock.set(welcome.TimeMS)
	if err := a.journal.learnOffset(offset); err != nil {
		a.log.WithError(err).Warn("Redis's clock not in the journal")
	}
	return newSession(a, conn, frames, welcome, obey), nil
}
