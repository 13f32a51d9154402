package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// answering is a Redis in place of the network: it knows the time, and that no lease
// has ended. It counts how often it was asked for leases.
type answering struct {
	asked  int
	broken error
}

func (a *answering) DialHook(next redis.DialHook) redis.DialHook { return next }
func (a *answering) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		if a.broken != nil {
			cmd.SetErr(a.broken)
			return a.broken
		}
		switch c := cmd.(type) {
		case *redis.TimeCmd:
			c.SetVal(time.Now())
		case *redis.StringSliceCmd:
			a.asked++
		}
		return nil
	}
}

func (a *answering) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Nothing is swept before Redis has answered for the length of a lease without a
// break.
func TestCalm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for given, calm := range map[time.Duration]time.Duration{0: tasks.LeaseTime, -1: tasks.LeaseTime, time.Minute: time.Minute} {
			rdb, net := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1}), &answering{}
			rdb.AddHook(net)
			s := tasks.NewSweeper(tasks.NewRoll(rdb), nil, given)
			round := func(want bool) {
				t.Helper()
				before := net.asked
				_, err := s.Sweep(t.Context())
				if swept := net.asked > before; swept != want || s.Calm() != want || !errors.Is(err, net.broken) {
					t.Errorf("calm of %v: swept %v, calm %v, error %v, want %v", given, swept, s.Calm(), err, want)
				}
			}
			wait := func() {
				t.Helper()
				round(false)
				time.Sleep(calm - time.Millisecond)
				round(false)
				time.Sleep(time.Millisecond)
				round(true)
				time.Sleep(calm)
				round(true)
			}
			if time.Sleep(calm); s.Calm() {
				t.Error("calm before Redis has answered at all")
			}
			wait()
			s.Broken()
			if time.Sleep(calm); s.Calm() {
				t.Error("calm after a break, before Redis has answered again")
			}
			wait()
			net.broken = errors.New("no answer")
			round(false)
			net.broken = nil
			wait()
			rdb.Close()
		}
	})
}

// sweeper is one whose Redis has answered long enough.
func (f rollFixture) sweeper(rdb redis.UniversalClient) *tasks.Sweeper {
	f.Helper()
	s := tasks.NewSweeper(tasks.NewRoll(rdb), []string{"info", "note"}, time.Nanosecond)
	lease, err := f.rdb.ZScore(f.Context(), tasks.KeyListeners, "dead").Result()
	f.must(err)
	f.lease("dead", time.Hour)
	redistest.Eventually(f, "it is calm", func() bool {
		_, err := s.Sweep(f.Context())
		return err == nil && s.Calm()
	})
	f.must(f.rdb.ZAdd(f.Context(), tasks.KeyListeners, redis.Z{Score: lease, Member: "dead"}).Err())
	return s
}

// The hosts of a dead listener go off the roll, but for those that another holds.
func TestSweep(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	s := f.sweeper(f.rdb)
	const gone = "host.offline: listener dead is gone"
	for host, c := range map[string]struct {
		before, after spot
		left          string
		events        []string
	}{
		"old":      {spot{"10.0.0.9:1@dead", "json", "dead", false}, spot{}, "ipv4 other", []string{gone}},
		"agent":    {spot{"10.0.0.9:1@dead", "agent i1", "dead", false}, spot{}, "ipv4 other", []string{gone}},
		"moved":    {spot{"10.0.0.9:1@me", "agent i1", "dead me", false}, spot{"10.0.0.9:1@me", "agent i1", "me", false}, "info ipv4 note other", nil},
		"handed":   {spot{"10.0.0.9:1@dead", "json", "dead other", false}, spot{"10.0.0.9:1@other", "json", "other", false}, "info ipv4 note other", nil},
		"mine":     {spot{"10.0.0.9:1@me", "json", "me", false}, spot{"10.0.0.9:1@me", "json", "me", false}, "info ipv4 note other", nil},
		"orphan":   {spot{"10.0.0.9:1@never", "json", "never", false}, spot{"10.0.0.9:1@never", "json", "never", false}, "info ipv4 note other", nil},
		"strange":  {spot{"garbage", "", "dead", false}, spot{}, "ipv4 other", []string{gone}},
		"nowhere":  {spot{"", "json", "dead", false}, spot{}, "info ipv4 note other", nil},
		"unlisted": {spot{"10.0.0.9:1@dead", "json", "", false}, spot{"10.0.0.9:1@dead", "json", "", false}, "info ipv4 note other", nil},
	} {
		f.put(host, c.before)
		f.notes(host, 1)
		defer func() {
			if got := f.spot(host); got != c.after {
				t.Errorf("%s: %+v, want %+v", host, got, c.after)
			}
			if got := f.left(host); got != c.left {
				t.Errorf("%s: left are %q, want %q", host, got, c.left)
			}
			f.told(host, c.events...)
		}()
	}
	e := f.ear()
	swept, err := s.Sweep(ctx)
	f.must(err)
	if !slices.Equal(swept, []string{"dead"}) {
		t.Errorf("swept %q", swept)
	}
	heard := e.heard()
	if n := len(heard); n != len("off old, off agent, off strange, to:other handed") || !strings.Contains(heard, "to:other handed") {
		t.Errorf("heard %q", heard)
	}
	if got := f.rdb.ZRange(ctx, tasks.KeyListeners, 0, -1).Val(); len(got) != 2 || slices.Contains(got, "dead") {
		t.Errorf("leases %q", got)
	}
	swept, err = s.Sweep(ctx)
	f.must(err)
	if len(swept) != 0 {
		t.Errorf("swept again: %q", swept)
	}
}

// SweepHosts is for listeners without a lease, and spares those that have one.
func TestSweepHosts(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	s := f.sweeper(f.rdb)
	for _, listener := range []string{"never", "me", "dead"} {
		var hosts []string
		for i := range 300 {
			host := fmt.Sprint(listener, i)
			hosts = append(hosts, host)
			f.put(host, spot{"10.0.0.9:1@" + listener, "json", listener, false})
		}
		e := f.ear()
		f.must(s.SweepHosts(ctx, listener, hosts))
		heard := e.heard() != ""
		for _, host := range []string{hosts[0], hosts[299]} {
			got := f.spot(host)
			if listener != "me" {
				if got != (spot{}) || !heard {
					t.Errorf("%s: %+v", host, got)
				}
				f.told(host, "host.offline: listener "+listener+" is gone")
			} else if got.place == "" || got.client == "" || got.at != "me" || got.gone || heard {
				t.Errorf("%s of a live listener: %+v, heard %v", host, got, heard)
			}
		}
	}
	f.must(s.SweepHosts(ctx, "never", nil))
}

// More hosts than a page, and several dead listeners.
func TestSweepOfThousands(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	s := f.sweeper(f.rdb)
	f.lease("dead2", -time.Hour)
	const hosts = 1100
	p := f.rdb.Pipeline()
	for i := range hosts {
		host := fmt.Sprint("h", i)
		p.HSet(ctx, tasks.KeyOnline, host, "10.0.0.9:1@dead")
		p.HSet(ctx, tasks.KeyClients, host, "json")
		p.SAdd(ctx, tasks.KeyAt("dead"), host)
	}
	_, err := p.Exec(ctx)
	f.must(err)
	f.put("last", spot{"10.0.0.9:1@dead2", "json", "dead2", false})
	swept := map[string]int{}
	// The embedded Redis passes over some when others are taken away under its scan:
	// those are left to the next sweep.
	for range 8 {
		names, err := s.Sweep(ctx)
		f.must(err)
		for _, name := range names {
			swept[name]++
		}
	}
	if want := map[string]int{"dead": 1, "dead2": 1}; !maps.Equal(swept, want) {
		t.Errorf("swept %v, want %v", swept, want)
	}
	if n := f.rdb.Exists(ctx, tasks.KeyOnline, tasks.KeyClients, tasks.KeyAt("dead"), tasks.KeyAt("dead2"), tasks.KeyDeparted).Val(); n != 0 {
		t.Errorf("%d keys of the roll are left", n)
	}
	if n := f.rdb.XLen(ctx, tasks.KeyEvents).Val(); n != hosts+1 {
		t.Errorf("%d events, want %d", n, hosts+1)
	}
}

// A listener that renews its lease while it is being swept keeps what it has left, and
// its place among the listeners.
func TestRevivesDuringASweep(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	hooked := f.client()
	s := f.sweeper(hooked)
	hooked.AddHook(&counter{before: func(cmd redis.Cmder) error {
		if cmd.Name() == "sscan" {
			f.lease(fmt.Sprint(cmd.Args()[1])[len(tasks.KeyAt("")):], time.Hour)
		}
		return nil
	}})
	f.lease("empty", -time.Second)
	host := spot{"10.0.0.9:1@dead", "json", "dead", false}
	f.put("h1", host)
	swept, err := s.Sweep(ctx)
	f.must(err)
	if len(swept) != 0 || f.spot("h1") != host {
		t.Errorf("swept %q, the host is %+v", swept, f.spot("h1"))
	}
	for _, listener := range []string{"dead", "empty"} {
		if f.rdb.ZScore(ctx, tasks.KeyListeners, listener).Err() != nil {
			t.Errorf("%s lives and is struck", listener)
		}
	}
}

// A sweep that fails half-way begins a new calm, and the next one does the rest.
func TestSweepFails(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	f.put("h1", spot{"10.0.0.9:1@dead", "json", "dead", false})
	f.notes("h1", 1)
	broken := errors.New("no answer")
	for _, at := range []string{"time", "zrangebyscore", "sscan", "evalsha", "zmscore"} {
		hooked := f.client()
		s := f.sweeper(hooked)
		hooked.AddHook(&counter{before: func(cmd redis.Cmder) error {
			if cmd.Name() == at {
				return broken
			}
			return nil
		}})
		swept, err := s.Sweep(ctx)
		if !errors.Is(err, broken) || len(swept) != 0 || s.Calm() {
			t.Errorf("broken at %s: swept %q, %v, calm %v", at, swept, err, s.Calm())
		}
	}
	// The last one has taken the host off the roll and could not go on: its departure
	// is to be finished.
	if got := f.spot("h1"); got != (spot{gone: true}) || f.left("h1") != "info ipv4 note other" {
		t.Errorf("the host is %+v, left are %q", got, f.left("h1"))
	}
	f.went("h1", wentBefore)
	if swept, err := f.sweeper(f.rdb).Sweep(ctx); err != nil || !slices.Equal(swept, []string{"dead"}) {
		t.Errorf("swept %q, %v", swept, err)
	}
	if got := f.spot("h1"); got != (spot{}) || f.left("h1") != "ipv4 other" {
		t.Errorf("the host is %+v, left are %q", got, f.left("h1"))
	}
	f.told("h1", "host.offline: connection ended")
}

// Departures that are older than a lease are finished, more than a page of them in
// some sweeps; younger ones are their listener's.
func TestSweepFinishesDepartures(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	s := f.sweeper(f.rdb)
	now := f.now()
	const hosts = 300
	for i := range hosts {
		f.went(fmt.Sprint("h", i), now.Add(-tasks.LeaseTime).UnixMicro()-int64(i))
	}
	f.notes("h0", now.Add(-tasks.LeaseTime).UnixMicro()-1)
	f.notes("h1", now.UnixMicro())
	f.went("young", now.Add(time.Minute-tasks.LeaseTime).UnixMicro())
	f.notes("young", 1)
	for range 2 {
		if swept, err := s.Sweep(ctx); err != nil || len(swept) > 1 {
			t.Fatalf("swept %q, %v", swept, err)
		}
	}
	if left := f.rdb.ZRange(ctx, tasks.KeyDeparted, 0, -1).Val(); !slices.Equal(left, []string{"young"}) {
		t.Errorf("%d departures are left", len(left))
	}
	if n := f.rdb.XLen(ctx, tasks.KeyEvents).Val(); n != hosts {
		t.Errorf("%d events, want %d", n, hosts)
	}
	f.told("h0", "host.offline: connection ended")
	for host, want := range map[string]string{"h0": "ipv4 other", "h1": "info ipv4 note other", "young": "info ipv4 note other"} {
		if got := f.left(host); got != want {
			t.Errorf("%s: left are %q, want %q", host, got, want)
		}
	}
}

// A scan comes by every host of the roll, under the listener that is to look after
// it, and then begins again.
func TestScan(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	want := map[string]map[string]bool{"me": {}, "other": {}, "never": {}, "": {}}
	add := func(holder, host string, s spot) {
		f.put(host, s)
		want[holder][host] = true
	}
	for i := range 3 * tasks.ScanPage {
		host := fmt.Sprint("h", i)
		holder := []string{"me", "other", "never"}[i%3]
		add(holder, host, spot{place: "10.0.0.9:1@" + holder, client: "json", at: holder})
	}
	add("me", "in the set", spot{at: "me"})
	add("me", "among the clients", spot{client: "json"})
	add("me", "unread", spot{place: "garbage"})
	add("other", "two signs", spot{place: "x@me@other"})
	add("", "of nobody", spot{place: "10.0.0.9:1@"})
	f.put("in the set of another", spot{at: "other"})
	var cursor tasks.Cursor
	for range 2 {
		seen := map[string]map[string]bool{}
		for range 12 { // the three keys have 4 pages or so
			held, err := f.roll.Scan(ctx, "me", &cursor)
			f.must(err)
			for holder, hosts := range held {
				if len(hosts) > 3*tasks.ScanPage {
					t.Errorf("%d hosts in a page", len(hosts))
				}
				for _, host := range hosts {
					if seen[holder] == nil {
						seen[holder] = map[string]bool{}
					}
					seen[holder][host] = true
				}
			}
		}
		for holder := range want {
			if !maps.Equal(seen[holder], want[holder]) {
				t.Errorf("%d of %q, want %d", len(seen[holder]), holder, len(want[holder]))
			}
		}
		if len(seen) != len(want) {
			t.Errorf("%d listeners, want %d", len(seen), len(want))
		}
	}
}

// A host that goes off the roll while a page is being read is nobody's to strike: it
// would get another reason for its departure.
func TestScanWhileAHostGoes(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	f.put("h1", spot{"10.0.0.9:1@other", "json", "other", false})
	hooked := f.client()
	looked := false
	hooked.AddHook(&counter{before: func(cmd redis.Cmder) error {
		if cmd.Name() != "multi" && cmd.Name() != "hmget" {
			return nil
		}
		looked = true
		got, _, err := f.roll.Apply(t.Context(), "other", []tasks.Change{{Kind: tasks.Off, Host: "h1"}})
		f.must(err)
		if got[0].Verdict != tasks.WentOff {
			t.Errorf("off: %v", got)
		}
		return nil
	}})
	held, err := tasks.NewRoll(hooked).Scan(t.Context(), "me", &tasks.Cursor{})
	f.must(err)
	if !looked || len(held["me"]) != 0 || !slices.Equal(held["other"], []string{"h1"}) {
		t.Errorf("a second look %v, held %q", looked, held)
	}
}

// After a failure, and only then, a Sweeper says that Redis is recovering, until it
// has answered for the length of a lease.
func TestRecovering(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, net := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1}), &answering{}
		defer rdb.Close()
		rdb.AddHook(net)
		s := tasks.NewSweeper(tasks.NewRoll(rdb), nil, 0)
		round := func(step string, want bool) {
			t.Helper()
			_, _ = s.Sweep(t.Context()) // that it fails is what is tested
			if s.Recovering() != want {
				t.Errorf("%s: recovering %v, want %v", step, !want, want)
			}
		}
		round("at the start", false)
		net.broken = errors.New("away")
		round("while it is away", true)
		net.broken = nil
		round("when it is back", true)
		time.Sleep(tasks.LeaseTime - time.Millisecond)
		round("soon after", true)
		time.Sleep(time.Millisecond)
		round("a lease later", false)
	})
}
