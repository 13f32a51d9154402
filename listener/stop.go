package listener

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/supervise"
)

const (
	// The last read of the connections takes no longer than this, however much comes.
	lastReading = 2 * time.Second
	// So long may the last confirmations take to be sent.
	lastSending = time.Second
	// So long may it take Redis to get what is still to be written.
	lastWriting = 5 * time.Second
)

// parts are what runs while a listener serves, in the order in which they end.
type parts struct {
	accepting *supervise.Group // new connections
	reading   context.Context  // of the sessions
	hurry     context.CancelFunc
	serving   *supervise.Group // lease, roll, messages from others
	writing   *supervise.Group // what writes to Redis
}

// stop ends the listener in good order, also when a service of it was given up. No more
// connections are accepted by now.
//
//  1. The agents are asked to move, and all goes on until they have, or the time for it
//     is over. Clients that can't move are not waited for.
//  2. The connections are read for the last time: what the system has taken from the
//     hosts is theirs no more, and old clients do not say it twice.
//  3. All that was read is written, and confirmed. The lease is renewed.
//  4. The connections are closed.
//
// The hosts that were still connected stay on the roll for as long as the lease runs: if
// they are back by then, here or elsewhere, they were never offline. Else those who
// sweep it say that they are.
func (s *Server) stop(p parts) {
	s.log.WithField("hosts", s.members.count()).Info("stopping, agents are asked to move")
	select {
	case <-s.members.move():
	case <-time.After(s.cfg.Drain):
	}

	s.endReading(p)
	p.serving.Stop()

	ctx, done := context.WithTimeout(context.WithoutCancel(p.reading), lastWriting)
	defer done()
	s.drain(ctx)
	p.writing.Stop()
	if _, err := s.roll.Renew(ctx, s.cfg.ID); err != nil {
		s.log.WithError(err).Warn("lease not renewed, hosts have less time to come back")
	}

	s.endSending()
	if err := s.roll.Release(ctx, s.cfg.ID); err != nil {
		s.log.WithError(err).Warn("lease not released; it ends by itself")
	}
}

// drain waits until all is written, but for what nobody writes any more.
func (s *Server) drain(ctx context.Context) {
	for _, w := range []struct {
		service string
		drain   func(context.Context)
	}{
		{"look-ups", s.lookups.drain},
		{"reports", s.reports.drain},
		{"presence", s.changes.drain},
		{"arrivals", s.arrived.drain}, // after the changes, which add to it
	} {
		if !s.services.GaveUp(w.service) {
			w.drain(ctx)
		}
	}
}

// endReading has every session read what is there, and no more. It returns when all
// have, those that wait for room or for the roll included.
func (s *Server) endReading(p parts) {
	s.ending.Store(true)
	for _, ss := range s.members.sessionsNow() {
		_ = ss.conn.SetReadDeadline(time.Now()) // a closed connection is not read anyway
	}
	defer time.AfterFunc(lastReading, p.hurry).Stop()
	s.members.sessions.Wait()
	p.hurry()
}

// endSending gives what is queued for the hosts time to go out, and closes the
// connections.
func (s *Server) endSending() {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.sending.Wait()
	}()
	select {
	case <-sent:
	case <-time.After(lastSending):
	}
	s.members.closeAll("listener stops")
	<-sent
}
