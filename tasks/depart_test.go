package tasks_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// went writes a departure that is not finished.
func (f rollFixture) went(host string, when int64) {
	f.Helper()
	f.must(f.rdb.ZAdd(f.Context(), tasks.KeyDeparted, redis.Z{Score: float64(when), Member: host}).Err())
}

// notes gives a host the keys info, ipv4, note and other; its information is of the
// given time, Unix microseconds.
func (f rollFixture) notes(host string, reported any) {
	f.Helper()
	ctx := f.Context()
	f.must(f.rdb.HSet(ctx, tasks.KeyHost(host, "info"), "hostname", host, "reported_us", reported).Err())
	f.must(f.rdb.RPush(ctx, tasks.KeyHost(host, "ipv4"), "10.0.0.1").Err())
	f.must(f.rdb.Set(ctx, tasks.KeyHost(host, "note"), "x", 0).Err())
	f.must(f.rdb.Set(ctx, tasks.KeyHost(host, "other"), "x", 0).Err())
}

// left is which of those keys a host has.
func (f rollFixture) left(host string) string {
	f.Helper()
	var left []string
	for _, name := range []string{"info", "ipv4", "note", "other"} {
		if f.rdb.Exists(f.Context(), tasks.KeyHost(host, name)).Val() == 1 {
			left = append(left, name)
		}
	}
	return strings.Join(left, " ")
}

// The keys that a setting names go with the host, unless it has come back.
func TestDepart(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	const all = "info ipv4 note other"
	for i, c := range []struct {
		what    string
		names   string
		damage  func(host string)
		left    string
		offline bool
	}{
		{"as usual", "info ipv4", nil, "note other", true},
		{"other names", "note ipv4 none", nil, "info other", true},
		{"no names", "", nil, all, true},
		{"information of the same moment", "info ipv4 note", func(h string) { f.notes(h, wentBefore) }, "other", true},
		{"newer information", "info ipv4 note", func(h string) { f.notes(h, wentBefore+1) }, all, true},
		{"newer information, and it is not to go", "ipv4", func(h string) { f.notes(h, wentBefore+1) }, all, true},
		{"information without a time", "info ipv4", func(h string) { f.rdb.HDel(ctx, tasks.KeyHost(h, "info"), "reported_us") }, "note other", true},
		{"information of no time", "info ipv4", func(h string) { f.notes(h, "soon") }, "note other", true},
		{"no information", "info ipv4", func(h string) { f.rdb.Del(ctx, tasks.KeyHost(h, "info")) }, "note other", true},
		{"information of another type", "info ipv4", func(h string) { f.rdb.Set(ctx, tasks.KeyHost(h, "info"), "x", 0) }, "note other", true},
		{"it is back, and has told nothing yet", "info ipv4", func(h string) { f.rdb.ZRem(ctx, tasks.KeyDeparted, h) }, all, false},
		{"it came back and went again", "info ipv4", func(h string) { f.went(h, wentBefore+1) }, all, false},
	} {
		host := fmt.Sprint("h", i)
		f.notes(host, wentBefore-1)
		f.went(host, wentBefore)
		if c.damage != nil {
			c.damage(host)
		}
		at := f.wentAt(host)
		departure := tasks.Departure{Host: host, When: wentBefore, Reason: "power \xff cut"}
		for _, round := range []string{"first", "second"} {
			f.must(f.roll.Depart(ctx, strings.Fields(c.names), []tasks.Departure{departure}, nil))
			if got := f.left(host); got != c.left {
				t.Errorf("%s, %s time: left are %q, want %q", c.what, round, got, c.left)
			}
			if c.offline {
				f.told(host, `host.offline: power \xff cut`)
				at = 0
			} else {
				f.told(host)
			}
			if got := f.wentAt(host); got != at {
				t.Errorf("%s, %s time: departed %d, want %d", c.what, round, got, at)
			}
		}
	}
}

// A departure is recorded once, whoever finishes it, and more than one call of a
// script takes.
func TestDepartures(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	const hosts = 601
	var departures []tasks.Departure
	for i := range hosts {
		host := fmt.Sprint("h", i)
		f.went(host, wentBefore+int64(i))
		departures = append(departures, tasks.Departure{Host: host, When: wentBefore + int64(i), Reason: "gone"})
	}
	f.notes("h600", 1)
	departures = append(departures, departures[600], tasks.Departure{Host: "h0", When: 7, Reason: "long ago"})
	f.went("stays", wentBefore)
	f.must(f.roll.Depart(ctx, []string{"info"}, departures, nil))
	if left := f.rdb.ZRange(ctx, tasks.KeyDeparted, 0, -1).Val(); !slices.Equal(left, []string{"stays"}) {
		t.Errorf("%d departures are left", len(left))
	}
	events, err := tasks.Events(ctx, f.rdb, "0", 10_000, 0)
	f.must(err)
	for i, e := range events {
		if e.Type != "host.offline" || e.Host != departures[min(i, hosts-1)].Host || e.Reason != "gone" {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	if len(events) != hosts {
		t.Errorf("%d events, want %d", len(events), hosts)
	}
	if got := f.left("h600"); got != "ipv4 note other" {
		t.Errorf("left of the last: %q", got)
	}
}

// counter counts what goes to Redis: a pipeline is one. Before each it calls f.
type counter struct {
	n      int
	before func(redis.Cmder) error
}

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n++
		if c.before != nil {
			if err := c.before(cmd); err != nil {
				cmd.SetErr(err)
				return err
			}
		}
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n++
		if c.before != nil {
			if err := c.before(cmds[0]); err != nil {
				return err
			}
		}
		return next(ctx, cmds)
	}
}

// A host that comes back while its keys are being deleted keeps what it then tells,
// and if it goes again, that is another departure.
func TestComesBackDuringItsDeparture(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	for _, again := range []bool{false, true} {
		host := fmt.Sprint("h-", again)
		changed := f.apply("on, off", "on "+host+" json", "off "+host)
		f.notes(host, 1)
		hooked := f.client()
		var second int64
		looked := false
		hooked.AddHook(&counter{before: func(cmd redis.Cmder) error {
			if cmd.Name() != "evalsha" || looked {
				return nil
			}
			looked = true
			f.apply("on", "on "+host+" json")
			f.must(f.roll.Depart(t.Context(), nil, nil, []tasks.HostInfo{{Host: host, Fields: map[string]string{"hostname": "new"}}}))
			if again {
				second = f.apply("off", "off "+host)[0].When
			}
			return nil
		}})
		f.must(tasks.NewRoll(hooked).Depart(t.Context(), []string{"info", "ipv4", "note"},
			[]tasks.Departure{{Host: host, When: changed[1].When, Reason: "late"}}, nil))
		if !looked {
			t.Fatal("it has not come back meanwhile")
		}
		f.hashIs(tasks.KeyHost(host, "info"), "hostname", "new")
		if got := f.wentAt(host); got != second {
			t.Errorf("went at %d, want %d", got, second)
		}
		f.told(host, "host.online, client json, listener me", "host.offline: connection ended, listener me", "host.online, client json, listener me")
	}
}

// client is another client of the same Redis.
func (f rollFixture) client() *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: f.srv.Addr, DisableIdentity: true, MaxRetries: -1})
	f.Cleanup(func() { client.Close() })
	return client
}

// A report replaces what was known: what it does not name is gone.
func TestInfo(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	info, ipv4 := tasks.KeyHost("h1", "info"), tasks.KeyHost("h1", "ipv4")
	f.rdb.Set(ctx, ipv4, "no list", 0)
	for _, c := range []tasks.HostInfo{
		{Host: "h1", Fields: map[string]string{"hostname": "pc-1", "mac": "m1", "os": "linux", "tags": ""}, IPv4: []string{"10.0.0.5", "10.0.0.9", "10.0.0.1", "10.0.0.5"}},
		{Host: "h1", Fields: map[string]string{"hostname": "pc-2", "arch": "amd64"}, IPv4: []string{"10.0.0.2"}},
		{Host: "h1", Fields: map[string]string{"hostname": "pc-2"}},
		{Host: "h1", IPv4: []string{"10.0.0.3", "10.0.0.2"}},
	} {
		f.notes("h2", 5)
		before := f.now().UnixMicro()
		// Of several in one call the last one counts.
		f.must(f.roll.Depart(ctx, []string{"info"}, nil, []tasks.HostInfo{{Host: "h1", Fields: map[string]string{"old": "x"}, IPv4: []string{"10.9.9.9"}}, c}))
		got := f.rdb.HGetAll(ctx, info).Val()
		if at := f.number(got["reported_us"]); at < before || at > f.now().UnixMicro() {
			t.Errorf("reported at %d, want %d or a little later", at, before)
		}
		delete(got, "reported_us")
		if !maps.Equal(got, c.Fields) {
			t.Errorf("info %v, want %v", got, c.Fields)
		}
		if got := f.rdb.LRange(ctx, ipv4, 0, -1).Val(); !slices.Equal(got, c.IPv4) {
			t.Errorf("addresses %v, want %v", got, c.IPv4)
		}
		if f.left("h2") != "info ipv4 note other" {
			t.Errorf("keys of another host are gone, left are %q", f.left("h2"))
		}
	}
	trips := &counter{}
	f.rdb.AddHook(trips)
	f.must(f.roll.Depart(ctx, []string{"info"}, nil, nil))
	if trips.n != 0 {
		t.Errorf("nothing to write takes %d round trips", trips.n)
	}
}

func (f rollFixture) number(s string) int64 {
	f.Helper()
	var n int64
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || fmt.Sprint(n) != s {
		f.Errorf("%q is no whole number", s)
	}
	return n
}

func TestLease(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	roll := tasks.NewRoll(f.rdb)
	f.lease("bystander", time.Hour)
	for _, c := range []struct {
		what    string
		left    time.Duration // of the lease before; 0: there is none
		running bool
	}{
		{"the first time", 0, false},
		{"in time", time.Minute, true},
		{"in the last moment", 5 * time.Second, true},
		{"a moment too late", -time.Millisecond, false},
		{"much too late", -24 * time.Hour, false},
	} {
		if c.left != 0 {
			f.lease("l1", c.left)
		}
		before := f.now()
		running, err := roll.Lease(ctx, "l1")
		f.must(err)
		if view, err := roll.View(ctx); err != nil || view.Rebuilding() > 0 {
			t.Errorf("%s: %v, incomplete for %v", c.what, err, view.Rebuilding())
		}
		if running != c.running {
			t.Errorf("%s: running %v", c.what, running)
		}
		ends := time.UnixMilli(int64(f.rdb.ZScore(ctx, tasks.KeyListeners, "l1").Val()))
		from, to := before.Truncate(time.Millisecond).Add(tasks.LeaseTime), f.now().Add(tasks.LeaseTime)
		if ends.Before(from) || ends.After(to) {
			t.Errorf("%s: it ends at %v, want %v to %v", c.what, ends, from, to)
		}
	}
	leases, err := roll.Leases(ctx)
	f.must(err)
	if want := map[string]bool{"l1": true, "bystander": true}; !maps.Equal(leases, want) {
		t.Errorf("leases %v, want %v", leases, want)
	}
}

// A listener that finds its lease lost says that the roll is incomplete, and the first
// one of all calls the others.
func TestRenewLost(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	roll := tasks.NewRoll(f.rdb)
	sub := f.rdb.Subscribe(ctx, tasks.ChannelOff)
	defer sub.Close()
	_, err := sub.Receive(ctx)
	f.must(err)
	rebuilding := func() time.Duration {
		t.Helper()
		view, err := roll.View(ctx)
		f.must(err)
		return view.Rebuilding()
	}
	renew := func(listener string, want bool) {
		t.Helper()
		running, err := roll.Renew(ctx, listener)
		f.must(err)
		if running != want {
			t.Errorf("%s: running %v", listener, running)
		}
	}
	_, err = roll.Lease(ctx, "new") // after the loss, and knows nothing of it
	f.must(err)
	renew("new", true)
	if left := rebuilding(); left > 0 {
		t.Errorf("incomplete for %v, though no lease was lost", left)
	}
	renew("l1", false)
	if left := rebuilding(); left <= 0 || left > tasks.RebuildTime {
		t.Errorf("incomplete for %v, want up to %v", left, tasks.RebuildTime)
	}
	f.rdb.Del(ctx, tasks.KeyRebuilding)
	f.lease("l1", -time.Second)
	renew("l1", false)
	if left := rebuilding(); left > 0 {
		t.Errorf("incomplete for %v, though the lease had only ended", left)
	}
	f.must(f.rdb.Publish(ctx, tasks.ChannelOff, "that is all").Err())
	for _, want := range []string{tasks.EveryHost, "that is all"} {
		if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != want {
			t.Fatalf("heard %v, %v, want %q", m, err, want)
		}
	}
}

// Who still has hosts keeps the lease, so that the sweep finds them.
func TestRelease(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	f.apply("on", "on h1 json")
	leases := func(want ...string) {
		t.Helper()
		if got := f.rdb.ZRange(ctx, tasks.KeyListeners, 0, -1).Val(); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("leases %q, want %q", got, want)
		}
	}
	f.must(f.roll.Release(ctx, "me"))
	leases("dead", "me", "other")
	f.must(f.roll.Release(ctx, "other"))
	leases("dead", "me")
	f.apply("off", "off h1")
	f.must(f.roll.Release(ctx, "me"))
	leases("dead")
	f.must(f.roll.Release(ctx, "me"))
	leases("dead")
}
