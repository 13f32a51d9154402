//go:build unix

package listener

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// trouble is something that befalls a Redis, and its end.
type trouble struct {
	begin, end func() error
	forgets    bool // what Redis had is lost
}

func troubles(rs *redistest.Server, admin *redis.Conn) map[string]trouble {
	config := func(name, value string) func() error {
		return func() error { return admin.ConfigSet(ctx, name, value).Err() }
	}
	signal := func(sig syscall.Signal) func() error {
		return func() error { return syscall.Kill(rs.Pid(), sig) }
	}
	return map[string]trouble{
		"full":    {begin: config("maxmemory", "1"), end: config("maxmemory", "0")},
		"replica": {begin: func() error { return admin.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err() }, end: func() error { return admin.Do(ctx, "REPLICAOF", "NO", "ONE").Err() }},
		"another password": {begin: func() error {
			if err := admin.ConfigSet(ctx, "requirepass", "secret").Err(); err != nil {
				return err
			}
			for _, kind := range []string{"normal", "pubsub"} { // those who are in stay in
				if err := admin.ClientKillByFilter(ctx, "TYPE", kind, "SKIPME", "yes").Err(); err != nil {
					return err
				}
			}
			return nil
		}, end: config("requirepass", "")},
		"frozen": {begin: signal(syscall.SIGSTOP), end: signal(syscall.SIGCONT)},
		"killed": {begin: func() error { rs.Stop(); return nil }, end: func() error { rs.Start(); return nil }, forgets: true},
	}
}

// Whatever befalls Redis: connections stay, hosts that send heartbeats live, what they
// report is held up to a bound and stored later, and the log has a line at the
// beginning and one at the end.
func TestTroubleWithRedis(t *testing.T) {
	t.Parallel()
	for name := range troubles(nil, nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trying(t, name)
		})
	}
}

func trying(t *testing.T, name string) {
	rs := redistest.OpenReal(t)
	admin := rs.Client.Conn()
	t.Cleanup(func() { admin.Close() })
	if err := admin.Ping(ctx).Err(); err != nil { // it connects
		t.Fatal(err)
	}
	bad := troubles(rs, admin)[name]
	fast := func(o *redis.Options) { o.ReadTimeout, o.MaxRetries, o.DialerRetries = 200*time.Millisecond, -1, 1 }
	const room, silent = 3_000, time.Second
	a := start(t, rs, Config{ID: "a", Redis: client(t, rs, fast), Subscriber: client(t, rs, fast), HeartbeatTimeout: silent, Drain: time.Millisecond},
		func(s *Server) {
			s.pace.renew, s.pace.step, s.pace.sweep = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
			s.reports.limit = room
		})
	const sets, talker, quiet = 50, "127.0.30.1", "127.0.30.2"
	for i := range sets {
		set(t, rs, tasks.Number(fmt.Sprint("AC", i)), talker, "web-1")
	}
	first := a.old(talker)
	beats(t, first)
	beats(t, a.old(quiet))
	agent, _ := a.agent("web-1", "i1")
	beats(t, agent)
	a.on(talker)
	a.on(quiet)

	if err := bad.begin(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "it is in the log", func() bool { return strings.Contains(a.log.String(), "work is held") })
	var all []byte
	for i := range sets {
		m := wire.Answer{Task: fmt.Sprint("AC", i), RCC: wire.RCCReceived}
		all = append(all, wire.EncodeFrame(m)...)
		m.Seq = int64(i + 1)
		agent.say(m)
	}
	first.raw(all)
	redistest.Eventually(t, "there is no room", a.reports.full)
	// An agent that comes meanwhile is not welcomed, and one that comes again neither.
	waiting := a.dial("127.0.0.1")
	waiting.say(wire.Hello{ID: "web-2", Instance: "i1", UDP: 7000})
	redistest.Eventually(t, "it has come", func() bool { return a.connections("web-2") == 1 })
	again := a.dial("127.0.0.1")
	again.say(wire.Hello{ID: "web-2", Instance: "i1", UDP: 7000})
	beats(t, again)
	waiting.closed()
	redistest.Eventually(t, "the older session has ended", func() bool { return len(a.members.sessionsNow()) == 4 })
	// Several times the silence that would end a connection.
	deadline, heard := time.Now().Add(2*silent), a.Stats().Heartbeats.Load()
	redistest.Eventually(t, "it has lasted, and heartbeats are read", func() bool {
		return time.Now().After(deadline) && a.Stats().Heartbeats.Load() > heard
	})
	a.reports.mu.Lock()
	bytes := a.reports.bytes
	a.reports.mu.Unlock()
	if bytes > room+reportSize || a.Stats().Answers.Load() >= 2*sets {
		t.Errorf("%d bytes are held, %d answers read", bytes, a.Stats().Answers.Load())
	}
	if err := bad.end(); err != nil {
		t.Fatal(err)
	}
	if w, ok := again.hear().(wire.Welcome); !ok || w.Refused != "" {
		t.Errorf("heard %#v\n%s", w, a.log)
	}
	for confirmed := int64(0); confirmed < sets; {
		switch m := agent.hear().(type) {
		case wire.Confirm:
			confirmed = m.Seq
		case wire.Push: // the roll may have lost it
		default:
			t.Fatalf("heard %#v", m)
		}
	}
	for _, host := range []string{talker, quiet, "web-1", "web-2"} {
		a.on(host)
		if got := a.events(host); len(got) != 1 {
			t.Errorf("%s: events %q", host, got)
		}
		if n := a.connections(host); n != 1 {
			t.Errorf("%s has %d connections", host, n)
		}
	}
	for i := range sets {
		n := tasks.Number(fmt.Sprint("AC", i))
		if !bad.forgets {
			redistest.Eventually(t, "both reports are stored", func() bool {
				return a.state(n, talker) == tasks.Acknowledged && a.state(n, "web-1") == tasks.Acknowledged
			})
		}
	}
	redistest.Eventually(t, "its end is in the log", func() bool { return strings.Contains(a.log.String(), "works again") })
	if begin, end := strings.Count(a.log.String(), "work is held"), strings.Count(a.log.String(), "works again"); begin != 1 || end != 1 {
		t.Errorf("%d lines of the beginning and %d of the end:\n%s", begin, end, a.log)
	}
}

// beats has a host send heartbeats until the end of the test.
func beats(t *testing.T, h *host) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for beat := wire.EncodeFrame(wire.Heartbeat{}); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = h.conn.Write(beat) // whether it is connected is looked at elsewhere
			}
		}
	}()
	t.Cleanup(func() { h.conn.Close(); close(stop); <-ended })
}

// refusal is an answer of Redis.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

// The log tells a Redis that refuses from one that is silent, and the sweeper knows of
// each failure.
func TestOutage(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"redis does not answer; work is held": io.EOF,
		"redis refuses to work; work is held": fmt.Errorf("report: %w", refusal("OOM command not allowed")),
	} {
		lines, log := &logLines{}, logrus.New()
		log.SetOutput(lines)
		rdb := redis.NewClient(&redis.Options{}) // never asked
		defer rdb.Close()
		s, bad := New(Config{Redis: rdb, Log: log})
		if bad != nil {
			t.Fatal(bad)
		}
		s.sweeper = tasks.NewSweeper(s.roll, nil, time.Hour)
		s.redisFailed("a", err)
		if !s.redisUp.On() || !s.sweeper.Recovering() || !strings.Contains(lines.String(), want) {
			t.Errorf("%v: away %v, the sweeper knows %v:\n%s", err, s.redisUp.On(), s.sweeper.Recovering(), lines)
		}
		s.redisUp.Works("a")
		if s.redisUp.On() || strings.Count(lines.String(), "redis works again") != 1 {
			t.Errorf("%v is over, but away %v:\n%s", err, s.redisUp.On(), lines)
		}
	}
}

// While Redis is away and too much waits for it, who comes is sent away: its next try
// may fare better, and memory is not for those who try again and again.
func TestBusy(t *testing.T) {
	t.Parallel()
	rs, g := redistest.Open(t), &gate{}
	mine := client(t, rs)
	mine.AddHook(g)
	a := start(t, rs, Config{ID: "a", Redis: mine, Subscriber: client(t, rs)}, slow, func(s *Server) { s.changes.limit = 3 * onSize })
	t.Cleanup(g.open)
	known, _ := a.agent("web-1", "i1")
	g.close()
	for i := range 5 {
		a.dial("127.0.0.1").say(wire.Hello{ID: fmt.Sprint("web-", i+2), Instance: "i1", UDP: 7000})
		redistest.Eventually(t, "it has come", func() bool { return len(a.members.names()) == min(i+2, 5) })
	}
	h := a.dial("127.0.0.1")
	h.say(wire.Hello{ID: "web-9", Instance: "i1", UDP: 7000})
	h.closed()
	a.old("127.0.31.1").closed()
	g.open()
	redistest.Eventually(t, "there is room", func() bool { return !a.changes.full() })
	a.agent("web-9", "i1")
	a.old("127.0.31.1")
	a.on("127.0.31.1")
	known.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 1})
	if m := known.hear(); m != (wire.Confirm{Seq: 1}) {
		t.Errorf("heard %#v", m)
	}
}
