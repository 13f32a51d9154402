package tasks

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// SweepEvery is how often each process looks for ended leases. With a lease of 15 s
// a dead listener's hosts are off the roll after 17 s at the latest.
const SweepEvery = 2 * time.Second

// Sweeper takes the hosts of dead listeners off the roll. Any number of processes
// may have one.
//
// It sweeps only once Redis has answered its process for a lease's length without a
// break: when Redis was away, the others' leases have ended because they could not
// renew them, and they need that time to do it.
type Sweeper struct {
	roll  *Roll
	names []string
	calm  time.Duration
	spare string // a listener that is not swept; empty: none

	mu    sync.Mutex
	since time.Time // of the first answer after the last failure; zero if none yet
	broke bool      // there was a failure
}

// NewSweeper returns a Sweeper that deletes the named keys of hosts that it takes
// off: what follows muster:host:{<host>}:. A calm of 0 means LeaseTime.
func NewSweeper(roll *Roll, names []string, calm time.Duration) *Sweeper {
	if calm <= 0 {
		calm = LeaseTime
	}
	return &Sweeper{roll: roll, names: names, calm: calm}
}

// Spare has the sweep pass over the listener that sweeps: one that was asleep for longer
// than its lease finds that ended, and its hosts are still connected to it.
func (s *Sweeper) Spare(listener string) { s.spare = listener }

// Broken says that Redis did not answer this process.
func (s *Sweeper) Broken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.broke = time.Time{}, true
}

// Recovering reports whether Redis was away and has not yet answered long enough for
// a sweep: listeners whose lease has ended may be about to renew it.
func (s *Sweeper) Recovering() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broke && (s.since.IsZero() || time.Since(s.since) < s.calm)
}

// Calm reports whether Redis has answered long enough for a sweep.
func (s *Sweeper) Calm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.since.IsZero() && time.Since(s.since) >= s.calm
}

// Sweep asks Redis once, and sweeps if it may: the hosts of listeners whose lease
// has ended go off the roll, their keys are deleted and host.offline is recorded, and
// departures that a process left half done are finished. It returns the listeners
// that are gone with it.
func (s *Sweeper) Sweep(ctx context.Context) (swept []string, err error) {
	defer func() {
		if err != nil {
			s.Broken()
		}
	}()
	now, err := s.roll.rdb.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	s.mu.Lock()
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.mu.Unlock()
	if !s.Calm() {
		return nil, nil
	}
	ended, err := s.roll.rdb.ZRangeByScore(ctx, KeyListeners, &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(now.UnixMilli(), 10),
	}).Result()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	for _, listener := range ended {
		if listener == s.spare {
			continue
		}
		gone, err := s.sweepOne(ctx, listener)
		if err != nil {
			return swept, err
		}
		if gone {
			swept = append(swept, listener)
		}
	}
	return swept, s.finish(ctx, now)
}

// sweepOne returns true if the listener is gone: it may live again by now, or have
// got hosts meanwhile, which the next sweep takes.
func (s *Sweeper) sweepOne(ctx context.Context, listener string) (bool, error) {
	var cursor uint64
	for {
		hosts, next, err := s.roll.rdb.SScan(ctx, KeyAt(listener), cursor, "", changesPerCall).Result()
		if err != nil {
			return false, fmt.Errorf("sweep %s: %w", listener, err)
		}
		if err := s.SweepHosts(ctx, listener, hosts); err != nil {
			return false, err
		}
		if cursor = next; cursor == 0 {
			return s.roll.release(ctx, listener, "sweep")
		}
	}
}

// SweepHosts takes the given hosts of one listener off the roll, unless its lease
// runs.
func (s *Sweeper) SweepHosts(ctx context.Context, listener string, hosts []string) error {
	changes := make([]Change, len(hosts))
	for i, host := range hosts {
		changes[i] = Change{Kind: Off, Host: host}
	}
	changed, _, err := s.roll.apply(ctx, listener, "sweep", changes)
	if err != nil {
		return err
	}
	var departures []Departure
	for i, c := range changed {
		if c.Verdict == WentOff {
			departures = append(departures, Departure{hosts[i], c.When, "listener " + listener + " is gone"})
		}
	}
	return s.roll.Depart(ctx, s.names, departures, nil)
}

// finish ends departures older than a lease: whoever began them is dead.
func (s *Sweeper) finish(ctx context.Context, now time.Time) error {
	old, err := s.roll.rdb.ZRangeByScoreWithScores(ctx, KeyDeparted, &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(now.Add(-LeaseTime).UnixMicro(), 10), Count: changesPerCall,
	}).Result()
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	departures := make([]Departure, 0, len(old))
	for _, z := range old {
		host, _ := z.Member.(string)
		departures = append(departures, Departure{host, int64(z.Score), "connection ended"})
	}
	return s.roll.Depart(ctx, s.names, departures, nil)
}
