package listener

import (
	"context"
	"sync"
	"time"
)

const (
	// The last read of the connections takes no longer than this, however much comes.
	lastReading = 2 * time.Second
	// So long may the last confirmations take to be sent.
	lastSending = time.Second
	// So long may it take Redis to get what is still to be written.
	lastWriting = 5 * time.Second
)

// group is goroutines that end together.
type group struct {
	ctx  context.Context
	stop context.CancelFunc
	all  sync.WaitGroup
}

func newGroup(ctx context.Context) *group {
	g := &group{}
	g.ctx, g.stop = context.WithCancel(ctx)
	return g
}

func (g *group) run(f func(context.Context)) { g.all.Go(func() { f(g.ctx) }) }

func (g *group) end() {
	g.stop()
	g.all.Wait()
}

// parts are what runs while a listener serves, in the order in which they end.
type parts struct {
	reading context.Context // of the sessions
	hurry   context.CancelFunc
	serving *group // lease, roll, messages from others
	writing *group // what writes to Redis
}

// stop ends the listener in good order. No more connections are accepted by now.
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
	p.serving.end()

	ctx, done := context.WithTimeout(context.WithoutCancel(p.reading), lastWriting)
	defer done()
	s.lookups.drain(ctx)
	s.reports.drain(ctx)
	s.changes.drain(ctx)
	s.arrived.drain(ctx) // after the changes, which add to it
	p.writing.end()
	if _, err := s.roll.Lease(ctx, s.cfg.ID); err != nil {
		s.log.WithError(err).Warn("lease not renewed, hosts have less time to come back")
	}

	s.endSending()
	if err := s.roll.Release(ctx, s.cfg.ID); err != nil {
		s.log.WithError(err).Warn("lease not released; it ends by itself")
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
