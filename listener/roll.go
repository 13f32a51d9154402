package listener

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
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
}

func usualPace() pace {
	return pace{
		rotation: 50 * time.Second, step: 2 * time.Second,
		calm: tasks.LeaseTime, sweep: tasks.SweepEvery, renew: tasks.LeaseTime / 3,
	}
}

// keepLease renews the lease. When it was not running, others may have taken hosts
// off the roll: all are put on again.
func (s *Server) keepLease(ctx context.Context) {
	every(ctx, s.pace.renew, func() {
		s.insist(ctx, "lease not renewed", func() error {
			running, err := s.roll.Lease(ctx, s.cfg.ID)
			if err == nil && !running {
				s.log.Warn("lease had ended, hosts are put on the roll again")
				s.hold(s.members.names())
			}
			return err
		})
	})
}

// keepRoll walks through the hosts here and through the roll, some at a time, and
// mends what differs.
func (s *Server) keepRoll(ctx context.Context) {
	steps := int(s.pace.rotation / s.pace.step)
	var todo []string
	var cursor tasks.Cursor
	every(ctx, s.pace.step, func() {
		if s.redisUp.isAway() {
			return // what is queued now would only wait
		}
		if len(todo) == 0 {
			todo = s.members.names()
		}
		n := min(len(todo), s.members.count()/steps+1)
		s.hold(todo[:n])
		todo = todo[n:]
		err := s.strikeStrays(ctx, &cursor, steps)
		if err != nil && ctx.Err() == nil {
			s.redisUp.no(err)
		}
	})
}

// hold says again that hosts are connected here.
func (s *Server) hold(hosts []string) {
	for _, host := range hosts {
		s.members.mu.Lock()
		if ss := s.members.hosts[host]; ss != nil {
			s.changes.put(change{kind: tasks.Hold, ss: ss}, changeSize)
		}
		s.members.mu.Unlock()
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

func (s *Server) strikePage(ctx context.Context, cursor *tasks.Cursor) error {
	held, err := s.roll.Scan(ctx, s.cfg.ID, cursor)
	if err != nil {
		return err
	}
	for _, host := range held[s.cfg.ID] {
		s.members.mu.Lock()
		if s.members.hosts[host] == nil && s.members.leaving[host] == 0 {
			s.members.leaving[host]++
			s.putOff(&session{srv: s, host: host}, "is not connected")
		}
		s.members.mu.Unlock()
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
func (s *Server) sweep(ctx context.Context) {
	every(ctx, s.pace.sweep, func() {
		swept, err := s.sweeper.Sweep(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.redisUp.no(err)
			}
			return
		}
		s.redisUp.yes()
		for _, listener := range swept {
			s.log.WithField("gone", listener).Warn("hosts of a dead listener taken off the roll")
		}
	})
}

// hear listens for hosts that were taken off the roll, or connected elsewhere, while
// they are connected here, and puts them on again or closes the connection.
func (s *Server) hear(ctx context.Context) {
	sub := s.cfg.Subscriber.Subscribe(ctx, tasks.ChannelOff, tasks.ChannelFor(s.cfg.ID))
	defer sub.Close()
	heard := sub.Channel(redis.WithChannelSize(10_000))
	for {
		select {
		case <-ctx.Done():
			return
		case m, ok := <-heard:
			if !ok {
				return
			}
			s.hold([]string{m.Payload})
		}
	}
}

// every calls f each period until ctx ends.
func every(ctx context.Context, period time.Duration, f func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}
