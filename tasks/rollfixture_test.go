package tasks_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// rollFixture is a roll with the live listeners me and other, and dead, whose lease
// has ended. A listener never has no lease at all.
type rollFixture struct {
	fixture
	roll *tasks.Roll
}

func openRoll(t *testing.T) rollFixture {
	t.Helper()
	f := rollFixture{fixture: open(t)}
	f.roll = tasks.NewRoll(f.rdb)
	f.lease("me", time.Hour)
	f.lease("other", time.Hour)
	f.lease("dead", -time.Millisecond)
	return f
}

// spot is all that the roll says of one host.
type spot struct {
	place  string // in {muster}:online
	client string // in {muster}:clients
	at     string // the listeners in whose sets it is: "me other"
	gone   bool   // it is in {muster}:departed
}

// everyone is whose sets a spot is about.
var everyone = []string{"dead", "me", "never", "other"}

// put writes a spot as it is.
func (f rollFixture) put(host string, s spot) {
	f.Helper()
	ctx := f.Context()
	if s.place != "" {
		f.must(f.rdb.HSet(ctx, tasks.KeyOnline, host, s.place).Err())
	}
	if s.client != "" {
		f.must(f.rdb.HSet(ctx, tasks.KeyClients, host, s.client).Err())
	}
	for _, listener := range strings.Fields(s.at) {
		f.must(f.rdb.SAdd(ctx, tasks.KeyAt(listener), host).Err())
	}
	if s.gone {
		f.must(f.rdb.ZAdd(ctx, tasks.KeyDeparted, redis.Z{Score: wentBefore, Member: host}).Err())
	}
}

// wentBefore is when hosts went whose departure is not finished, Unix microseconds.
const wentBefore = 1_763_840_000_123_457

func (f rollFixture) spot(host string) spot {
	f.Helper()
	ctx := f.Context()
	s := spot{place: f.rdb.HGet(ctx, tasks.KeyOnline, host).Val(), client: f.rdb.HGet(ctx, tasks.KeyClients, host).Val()}
	var at []string
	for _, listener := range everyone {
		if f.rdb.SIsMember(ctx, tasks.KeyAt(listener), host).Val() {
			at = append(at, listener)
		}
	}
	s.at = strings.Join(at, " ")
	s.gone = f.wentAt(host) != 0
	return s
}

// wentAt is when a host went whose departure is not finished, 0 if there is none.
func (f rollFixture) wentAt(host string) int64 {
	f.Helper()
	score, err := f.rdb.ZScore(f.Context(), tasks.KeyDeparted, host).Result()
	if err != nil && err != redis.Nil {
		f.Fatal(err)
	}
	return int64(score)
}

// story is the events of a host, oldest first, in short form.
func (f rollFixture) story(host string) []string {
	f.Helper()
	all, err := tasks.Events(f.Context(), f.rdb, "0", 100_000, 0)
	f.must(err)
	var story []string
	for _, e := range all {
		if e.Host != host {
			continue
		}
		line := e.Type
		if e.Reason != "" {
			line += ": " + e.Reason
		}
		for _, name := range slices.Sorted(maps.Keys(e.More)) {
			line += ", " + name + " " + e.More[name]
		}
		story = append(story, line)
	}
	return story
}

// told fails unless these are the events of a host.
func (f rollFixture) told(host string, want ...string) {
	f.Helper()
	if got := f.story(host); !slices.Equal(got, want) {
		f.Errorf("events of %s\n  %q, want\n  %q", host, got, want)
	}
}

// ear hears what is published to listeners.
type ear struct {
	f   rollFixture
	sub *redis.PubSub
}

const mark = "{muster}:test"

func (f rollFixture) ear() ear {
	f.Helper()
	channels := []string{mark, tasks.ChannelOff}
	for _, listener := range everyone {
		channels = append(channels, tasks.ChannelFor(listener))
	}
	sub := f.rdb.Subscribe(f.Context(), channels...)
	f.Cleanup(func() { sub.Close() })
	for range channels {
		_, err := sub.Receive(f.Context())
		f.must(err)
	}
	return ear{f, sub}
}

// heard is what was published since the last call: "off h1, to:other h2". Messages
// come in order, so a mark tells where the end is.
func (e ear) heard() string {
	e.f.Helper()
	e.f.must(e.f.rdb.Publish(e.f.Context(), mark, "").Err())
	var all []string
	for {
		m, err := e.sub.ReceiveMessage(e.f.Context())
		e.f.must(err)
		if m.Channel == mark {
			return strings.Join(all, ", ")
		}
		all = append(all, strings.TrimPrefix(m.Channel, "{muster}:")+" "+m.Payload)
	}
}

// change makes the change "on h1 json", "hold h1 agent 7f3a" or "off h1". Hosts that
// connect wait for datagrams at 10.0.0.1:6655.
func change(s string) tasks.Change {
	kind, rest, _ := strings.Cut(s, " ")
	host, client, _ := strings.Cut(rest, " ")
	c := tasks.Change{Kind: tasks.ChangeKind(kind), Host: host, Client: client}
	if c.Kind != tasks.Off {
		c.Addr = netip.MustParseAddrPort("10.0.0.1:6655")
	}
	return c
}

// apply makes changes at me, and fails unless the verdicts are want: "on, refused".
func (f rollFixture) apply(want string, changes ...string) []tasks.Changed {
	f.Helper()
	list := make([]tasks.Change, len(changes))
	for i, s := range changes {
		list[i] = change(s)
	}
	before := f.now()
	changed, now, err := f.roll.Apply(f.Context(), "me", list)
	f.must(err)
	after := f.now()
	if now.Before(before.Truncate(time.Millisecond)) || now.After(after) {
		f.Errorf("Redis's time %v, and it was between %v and %v", now, before, after)
	}
	verdicts := make([]string, len(changed))
	for i, c := range changed {
		verdicts[i] = string(c.Verdict)
		if fresh := c.When >= before.UnixMicro() && c.When <= after.UnixMicro(); c.Verdict == tasks.WentOff && !fresh && c.When != wentBefore {
			f.Errorf("%s: off at %d, and it was between %d and %d", changes[i], c.When, before.UnixMicro(), after.UnixMicro())
		}
	}
	if got := strings.Join(verdicts, ", "); got != want {
		f.Errorf("%s: %s, want %s", strings.Join(changes, ", "), got, want)
	}
	return changed
}
