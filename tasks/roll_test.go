package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ addr, listener, place string }{
		{"10.0.0.1:6655", "l1", "10.0.0.1:6655@l1"},
		{"[::1]:6655", "l1", "[::1]:6655@l1"},
		{"[2001:db8::5]:1", "host.example-2", "[2001:db8::5]:1@host.example-2"},
	} {
		addr := netip.MustParseAddrPort(c.addr)
		if got := tasks.FormatPlace(addr, c.listener); got != c.place {
			t.Errorf("place %q, want %q", got, c.place)
		}
		got, listener, err := tasks.ParsePlace(c.place)
		if got != addr || listener != c.listener || err != nil {
			t.Errorf("%s is %v, %q, %v", c.place, got, listener, err)
		}
	}
	// It is the last '@' that parts: whatever stands before it is no address then.
	for _, s := range []string{"", "10.0.0.1:6655", "@", "10.0.0.1@l1", "10.0.0.1:6655@l1@l2", "web-1:6655@l1", "10.0.0.1:66555@l1", "[::1]:@l1"} {
		if addr, listener, err := tasks.ParsePlace(s); err == nil {
			t.Errorf("%q is read as %v, %q", s, addr, listener)
		}
	}
}

// lease writes the lease of a listener that ends so long from now.
func (f fixture) lease(listener string, left time.Duration) {
	f.Helper()
	f.must(f.rdb.ZAdd(f.Context(), tasks.KeyListeners, redis.Z{Score: float64(f.now().Add(left).UnixMilli()), Member: listener}).Err())
}

func TestRoll(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	roll := tasks.NewRoll(f.rdb)

	empty, err := roll.View(ctx)
	f.must(err)
	f.must(empty.Each(ctx, func(p []tasks.Presence) error {
		if len(p) > 0 {
			t.Errorf("on an empty roll: %v", p)
		}
		return nil
	}))

	f.lease("live", time.Minute)
	f.lease("dead", -time.Millisecond)
	f.must(f.rdb.HSet(ctx, tasks.KeyOnline,
		"agent", "[::1]:7000@live", "old", "10.0.0.2:6655@live", "lost", "10.0.0.3:6655@dead",
		"unknown", "10.0.0.4:6655@never", "damaged", "nonsense", "nowhere", "10.0.0.5:6655@", "text", "10.0.0.6:6655@live").Err())
	f.must(f.rdb.HSet(ctx, tasks.KeyClients, "agent", "agent 7f3a", "old", "json", "lost", "json", "damaged", "json").Err())
	view, err := roll.View(ctx)
	f.must(err)
	got, err := view.Locate(ctx, []string{"agent", "old", "lost", "unknown", "damaged", "nowhere", "text", "absent", "agent"})
	f.must(err)
	agent := tasks.Presence{Host: "agent", Online: true, Addr: netip.MustParseAddrPort("[::1]:7000"), Listener: "live", Client: "agent 7f3a"}
	old := tasks.Presence{Host: "old", Online: true, Addr: netip.MustParseAddrPort("10.0.0.2:6655"), Listener: "live", Client: "json"}
	text := tasks.Presence{Host: "text", Online: true, Addr: netip.MustParseAddrPort("10.0.0.6:6655"), Listener: "live"}
	want := []tasks.Presence{agent, old, {Host: "lost"}, {Host: "unknown"}, {Host: "damaged"}, {Host: "nowhere"}, text, {Host: "absent"}, agent}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("located\n%+v\nwant\n%+v", got, want)
	}
	if !agent.Agent() || old.Agent() || (tasks.Presence{Client: "agents"}).Agent() {
		t.Fatal("who is an agent")
	}
	if got, err := view.Locate(ctx, nil); got != nil || err != nil {
		t.Fatalf("nobody located: %v, %v", got, err)
	}
	online := map[string]tasks.Presence{}
	f.must(view.Each(ctx, func(page []tasks.Presence) error {
		for _, p := range page {
			online[p.Host] = p
		}
		return nil
	}))
	if want := map[string]tasks.Presence{"agent": agent, "old": old, "text": text}; !reflect.DeepEqual(online, want) {
		t.Fatalf("online\n%+v\nwant\n%+v", online, want)
	}
	// A view keeps the leases of its moment; the next one sees the end of this one.
	f.lease("live", -time.Second)
	view, err = roll.View(ctx)
	f.must(err)
	got, err = view.Locate(ctx, []string{"agent"})
	f.must(err)
	if got[0].Online {
		t.Fatal("a host of a listener whose lease has ended is online")
	}
}

func TestRollOfThousands(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	f.lease("l1", time.Minute)
	const total = 5*tasks.Chunk + 3
	for i := 0; i < total; i++ {
		f.must(f.rdb.HSet(ctx, tasks.KeyOnline, fmt.Sprint("host-", i), fmt.Sprintf("10.0.%d.%d:6655@l1", i/256, i%256)).Err())
	}
	view, err := tasks.NewRoll(f.rdb).View(ctx)
	f.must(err)
	seen := map[string]bool{}
	f.must(view.Each(ctx, func(page []tasks.Presence) error {
		if len(page) > tasks.Chunk {
			t.Errorf("%d hosts at once", len(page))
		}
		for _, p := range page {
			seen[p.Host] = true
		}
		return nil
	}))
	if len(seen) != total {
		t.Fatalf("%d hosts, want %d", len(seen), total)
	}
	calls := 0
	if err := view.Each(ctx, func([]tasks.Presence) error { calls++; return errStop }); err != errStop || calls != 1 {
		t.Fatalf("visited %d times, error %v", calls, err)
	}
}

func TestNamesThatBeginAlike(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	f.lease("l1", time.Minute)
	f.lease("dead", -time.Second)
	f.must(f.rdb.HSet(ctx, tasks.KeyOnline,
		"web-1", "10.0.0.1:6655@l1", "web-2", "10.0.0.2:6655@l1", "db-1", "10.0.0.3:6655@l1", "web-gone", "10.0.0.4:6655@dead",
		"web-$(x)", "10.0.0.5:6655@l1", "web-\n", "10.0.0.5:6655@l1").Err())
	view, err := tasks.NewRoll(f.rdb).View(ctx)
	f.must(err)
	for prefix, want := range map[string]string{
		"": "db-1 web-1 web-2", "web": "web-1 web-2", "web-2": "web-2", "x": "", "*": "", "web-[12]": "", "w?": "",
	} {
		names, err := view.StartingWith(ctx, prefix)
		f.must(err)
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
	}
	ended, end := context.WithCancel(ctx)
	end()
	if _, err := view.StartingWith(ended, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("asked when it was too late: %v", err)
	}
}
