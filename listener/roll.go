package listener

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// pace is how often a listener looks after the roll.
type pace struct {
	// All hosts are put on the roll again, in rotation, within this time, so that any
	// damage to the roll heals. It leaves room for a slow step under a minute.
	rotation time.Duration
	// A step of the rotation is made this often.
	step time.Duration
	// A sweep is allowed once Redis has answered this long without a break.
	calm time.Duration
	// How often ended leases are looked for.
	sweep time.Duration
	// How often the lease is renewed.
	renew time.Duration
	// The hosts of a predecessor of the same id have this long to come back.
	grace time.Duration
	// A connection that Redis gets to know later than this is not taken for the newest of
	// its host.
	late time.Duration
}

func usualPace() pace {
	return pace{
		rotation: 50 * time.Second, step: 2 * time.Second,
		calm: tasks.LeaseTime, sweep: tasks.SweepEvery, renew: tasks.LeaseTime / 3,
		grace: tasks.LeaseTime, late: lateAfter,
	}
}

// keepLease renews the lease, each period and when a worker calls. When it was not
// running, others may have taken hosts off the roll: all are put on again.
func (s *Server) keepLease(ctx context.Context) error {
	tick := time.NewTicker(s.pace.renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.called:
		}
		if err := s.round("lease"); err != nil {
			return err
		}
		s.insist(ctx, "lease not renewed", func() error {
			running, err := s.lease(ctx, s.roll.Renew)
			if err == nil && !running {
				s.log.Warn("lease had ended, hosts are put on the roll again")
				s.hold(s.members.names())
			}
			return err
		})
	}
}

// keepRoll walks through the hosts here and through the roll, some at a time, and
// mends what differs.
func (s *Server) keepRoll(ctx context.Context) error {
	steps := int(s.pace.rotation / s.pace.step)
	var todo []string
	var cursor tasks.Cursor
	return every(ctx, s.pace.step, func() error {
		if s.redisUp.On() {
			return nil // what is queued now would only wait
		}
		if len(todo) == 0 {
			todo = s.members.names()
		}
		n := min(len(todo), s.members.count()/steps+1)
		s.hold(todo[:n])
		todo = todo[n:]
		err := s.strikeStrays(ctx, &cursor, steps)
		if err != nil && ctx.Err() == nil {
			s.redisFailed(asking, err)
		}
		return s.round("roll")
	})
}

// hold says again that hosts are connected here.
func (s *Server) hold(hosts []string) {
	m := &s.members
	one := func(host string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if ss := m.hosts[host]; ss != nil {
			s.changes.put(change{kind: tasks.Hold, ss: ss}, changeSize)
		}
	}
	for _, host := range hosts {
		one(host)
	}
}

// strikeStrays takes a part of what the roll says, one of steps, and strikes the
// hosts that are not connected here though it says so. It also strikes those of
// listeners that have no lease at all: only damage leaves such.
func (s *Server) strikeStrays(ctx context.Context, cursor *tasks.Cursor, steps int) error {
	size, err := s.cfg.Redis.HLen(ctx, tasks.KeyOnline).Result()
	if err != nil {
		return err
	}
	for range int(size)/steps/tasks.ScanPage + 1 {
		if err := s.strikePage(ctx, cursor); err != nil {
			return err
		}
	}
	return nil
}

// strike takes those of the hosts off the roll that are not connected here.
func (s *Server) strike(hosts []string, reason string) {
	m := &s.members
	one := func(host string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.hosts[host] == nil && m.leaving[host] == 0 {
			m.leaving[host]++
			s.putOff(&session{srv: s, host: host}, reason)
		}
	}
	for _, host := range hosts {
		one(host)
	}
}

// awaitReturns gives the hosts that a predecessor of the same id has left on the roll
// the time to come back, and then takes off those that have not, all at once.
func (s *Server) awaitReturns(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(s.pace.grace):
	}
	if err := s.round("returns"); err != nil {
		return err
	}
	s.insist(ctx, "hosts of a predecessor not read", func() error {
		held, err := s.roll.Held(ctx, s.cfg.ID)
		if err == nil {
			s.strike(held, "did not come back")
			s.settled.Store(true)
		}
		return err
	})
	return supervise.ErrDone
}

func (s *Server) strikePage(ctx context.Context, cursor *tasks.Cursor) error {
	held, err := s.roll.Scan(ctx, s.cfg.ID, cursor)
	if err != nil {
		return err
	}
	if s.settled.Load() {
		s.strike(held[s.cfg.ID], "is not connected")
	}
	delete(held, s.cfg.ID)
	if len(held) == 0 {
		return nil
	}
	leases, err := s.roll.Leases(ctx)
	if err != nil {
		return err
	}
	for listener, hosts := range held {
		if !leases[listener] && s.sweeper.Calm() {
			if err := s.sweeper.SweepHosts(ctx, listener, hosts); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep takes the hosts of listeners whose lease has ended off the roll.
func (s *Server) sweep(ctx context.Context) error {
	return every(ctx, s.pace.sweep, func() error {
		swept, err := s.sweeper.Sweep(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.redisFailed(asking, err)
			}
			return nil
		}
		s.redisUp.Works(asking)
		for _, listener := range swept {
			s.log.WithField("gone", listener).Warn("hosts of a dead listener taken off the roll")
		}
		return s.round("sweep")
	})
}

// hear listens for what concerns hosts here: that they were taken off the roll, or
// connected elsewhere, which is looked into, and what their agents are to be told. It
// waits for nothing but messages. While there was no subscription some may have been
// lost, so that after it all hosts here are looked into. again says that there was one
// before, also in an earlier run.
func (s *Server) hear(ctx context.Context, again *bool) error {
	mine := tasks.ChannelFor(s.cfg.ID)
	sub := s.cfg.Subscriber.Subscribe(ctx, tasks.ChannelOff, mine)
	defer sub.Close()
	heard := sub.ChannelWithSubscriptions(redis.WithChannelSize(10_000))
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-heard:
			if !ok {
				return errors.New("the subscription has ended")
			}
			switch m := m.(type) {
			case *redis.Subscription:
				if m.Kind != "subscribe" || m.Channel != mine {
					continue
				}
				if *again {
					s.log.Info("messages of others may be lost, all hosts are looked into")
					s.hold(s.members.names())
				}
				*again = true
			case *redis.Message:
				s.obey(m)
			}
			if err := s.round("messages"); err != nil {
				return err
			}
		}
	}
}

// obey does what a message says. One that is not understood is of a later version.
func (s *Server) obey(m *redis.Message) {
	if m.Channel == tasks.ChannelOff && m.Payload == tasks.EveryHost {
		select {
		case s.called <- struct{}{}:
		default:
		}
		return
	}
	if m.Channel == tasks.ChannelOff {
		s.hold([]string{m.Payload})
		return
	}
	p, ok := tasks.ParsePush(m.Payload)
	if !ok {
		return
	}
	push := wire.Push{Task: string(p.Number)}
	switch p.Action {
	case tasks.PushLook:
		s.hold(p.Hosts)
		return
	case tasks.PushStart:
		push.Action = wire.ActionStart
	case tasks.PushCancel:
		push.Action = wire.ActionCancel
	default:
		return
	}
	for _, host := range p.Hosts {
		s.push(host, push)
	}
}

// every calls f each period until ctx ends or f fails.
func every(ctx context.Context, period time.Duration, f func() error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := f(); err != nil {
				return err
			}
		}
	}
}
