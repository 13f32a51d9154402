package listener

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// arrivalLog notes who has arrived. It fails while broken.
type arrivalLog struct {
	mu     sync.Mutex
	broken bool
	tries  int
	hosts  []string
}

func (l *arrivalLog) Arrived(_ context.Context, hosts []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tries++; l.broken {
		return errors.New("no answer")
	}
	l.hosts = append(l.hosts, hosts...)
	return nil
}

// is waits until exactly these have arrived, in their order, and forgets them.
func (l *arrivalLog) is(t *testing.T, want ...string) {
	t.Helper()
	redistest.Eventually(t, "who has arrived is noted", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Equal(l.hosts, want)
	})
	l.mu.Lock()
	l.hosts = nil
	l.mu.Unlock()
}

// Each new connection of a host is an arrival, and each host that the roll had lost.
func TestArrivals(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	log := &arrivalLog{}
	a := start(t, rs, Config{ID: "a"}, slow, func(s *Server) { s.arrivals = log })
	start(t, rs, Config{ID: "b"}, slow).agent("web-9", "i1")
	const ip = "127.0.19.1"
	h := a.old(ip)
	log.is(t, ip)
	a.old(ip) // no news: it is connected from the same address
	redistest.Eventually(t, "both are connected", func() bool { return a.connections(ip) == 2 })
	h.conn.Close()
	a.agent("web-1", "i1")
	log.is(t, "web-1")
	a.agent("web-1", "i1") // started again, perhaps with nothing in its memory
	log.is(t, "web-1")
	a.agent("web-9", "i2") // refused
	a.hold([]string{ip, "web-1"})
	rs.Client.HDel(ctx, tasks.KeyOnline, ip)
	a.hold([]string{ip, "web-1", "none"})
	log.is(t, ip)
	last, _ := a.agent("web-2", "i1")
	log.is(t, "web-2")
	last.conn.Close()
	a.off("web-2")
	log.is(t)
}

// What waits for a host that comes online gets due, and the welcome does not wait for
// that.
func TestArrivalsInRedis(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	rs.Client.SAdd(ctx, tasks.KeyHost("web-1", "waiting"), "AC1")
	log := &arrivalLog{broken: true}
	var real arrivals
	a := start(t, rs, Config{ID: "a"}, slow, func(s *Server) { real, s.arrivals = s.arrivals, log })
	for _, id := range []string{"web-1", "web-2"} {
		if _, w := a.agent(id, "i1"); w.Refused != "" {
			t.Errorf("refused: %s", w.Refused)
		}
	}
	redistest.Eventually(t, "it tries again and again", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.tries > 2
	})
	log.mu.Lock()
	log.broken = false
	log.mu.Unlock()
	log.is(t, "web-1", "web-2")
	if err := real.Arrived(ctx, []string{"web-1", "web-2"}); err != nil {
		t.Fatal(err)
	}
	if got := rs.Client.ZRange(ctx, tasks.KeyArrived, 0, -1).Val(); !slices.Equal(got, []string{"web-1"}) {
		t.Errorf("due are %q", got)
	}
}

// Arrivals that are not noted when the listener stops are noted before its end.
func TestArrivalsOfTheLastMoment(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	log := &arrivalLog{broken: true}
	a := start(t, rs, Config{ID: "a", Drain: time.Millisecond}, slow, func(s *Server) { s.arrivals = log })
	a.agent("web-1", "i1")
	redistest.Eventually(t, "it tries", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.tries > 0
	})
	a.hears()
	a.end()
	channel := tasks.ChannelFor("a")
	redistest.Eventually(t, "it serves no more", func() bool {
		return rs.Client.PubSubNumSub(ctx, channel).Val()[channel] == 0
	})
	log.mu.Lock()
	log.broken = false
	log.mu.Unlock()
	a.stop()
	log.is(t, "web-1")
}

// An answer that a datagram could not be read goes into the ledger if it names the set.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a"}, slow)
	set(t, rs, "AC1", "web-1")
	h, _ := a.agent("web-1", "i1")
	h.say(wire.Answer{RCC: wire.RCCUnreadable, Seq: 1})
	h.say(wire.Answer{Task: "AC404", RCC: wire.RCCUnreadable, Seq: 2}) // a stray: it was looked up
	h.say(wire.Answer{Task: "AC1", RCC: wire.RCCUnreadable, Seq: 3})
	for confirmed := int64(0); confirmed < 3; {
		m, ok := h.hear().(wire.Confirm)
		if !ok {
			t.Fatalf("heard %#v", m)
		}
		confirmed = m.Seq
	}
	if n := a.Stats().Unreadable.Load(); n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
	if n := a.Stats().Stray.Load(); n != 1 {
		t.Errorf("%d strays, want the one that names no set", n)
	}
	if got := a.state("AC1", "web-1"); got != tasks.Sent {
		t.Errorf("state %s", got)
	}
}

// A listener that was asleep does not sweep its own hosts when it wakes.
func TestDoesNotSweepItself(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a"}, slow, func(s *Server) { s.pace.sweep, s.pace.calm = 20*time.Millisecond, 50*time.Millisecond })
	a.agent("web-1", "i1")
	rs.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "a"})
	for i := range 2 {
		rs.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "dead"})
		redistest.Eventually(t, "another is swept", func() bool {
			return rs.Client.ZScore(ctx, tasks.KeyListeners, "dead").Err() == redis.Nil
		})
		if got := a.events("web-1"); len(got) != 1 || a.place("web-1") == "" {
			t.Fatalf("events %q after %d sweeps", got, i+1)
		}
	}
}
