package listener

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// roundTrips counts what goes to Redis: a pipeline is one.
type roundTrips struct{ n atomic.Int64 }

func (r *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }
func (r *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { r.n.Add(1); return next(ctx, cmd) }
}
func (r *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { r.n.Add(1); return next(ctx, cmds) }
}

// quick makes a listener look after the roll many times a second.
func quick(s *Server) {
	s.pace = pace{rotation: 200 * time.Millisecond, step: 20 * time.Millisecond, calm: 50 * time.Millisecond,
		sweep: 20 * time.Millisecond, renew: 20 * time.Millisecond, late: lateAfter}
}

// slow makes it do nothing of that by itself.
func slow(s *Server) {
	s.pace = pace{rotation: time.Hour, step: time.Hour, calm: time.Hour, sweep: time.Hour, renew: time.Hour, grace: time.Hour, late: lateAfter}
}

// Whatever is damaged in the roll heals by the rotation alone.
func TestDamageHeals(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	r := start(t, rs, Config{ID: "a"}, quick)
	const ip = "127.0.11.1"
	r.old(ip)
	r.on(ip)
	agent, _ := r.agent("web-1", "i1")
	online, clients, at := tasks.KeyOnline, tasks.KeyClients, tasks.KeyAt("a")
	damage := map[string]func(){
		"a place lost":            func() { rs.Client.HDel(ctx, online, ip) },
		"a place garbled":         func() { rs.Client.HSet(ctx, online, ip, "garbage") },
		"a client lost":           func() { rs.Client.HDel(ctx, clients, ip) },
		"not in the set":          func() { rs.Client.SRem(ctx, at, ip) },
		"all of it lost":          func() { rs.Client.Del(ctx, online, clients, at, tasks.KeyListeners) },
		"a ghost":                 func() { rs.Client.HSet(ctx, online, "ghost", "10.0.0.1:6655@a") },
		"a ghost that is garbage": func() { rs.Client.HSet(ctx, online, "ghost", "garbage") },
		"a ghost in the set":      func() { rs.Client.SAdd(ctx, at, "ghost") },
		"a ghost's client":        func() { rs.Client.HSet(ctx, clients, "ghost", "json") },
		"a ghost of nobody":       func() { rs.Client.HSet(ctx, online, "ghost", "10.0.0.1:6655@never-was") },
	}
	for name, do := range damage {
		do()
		redistest.Eventually(t, name+" has healed", func() bool {
			return rs.Client.HGet(ctx, online, ip).Val() == ip+":6655@a" &&
				rs.Client.HGet(ctx, online, "web-1").Val() == "127.0.0.1:7000@a" &&
				rs.Client.HGet(ctx, clients, ip).Val() == "json" && rs.Client.HGet(ctx, clients, "web-1").Val() == "agent i1" &&
				rs.Client.SCard(ctx, at).Val() == 2 && rs.Client.HLen(ctx, online).Val() == 2 && rs.Client.HLen(ctx, clients).Val() == 2 &&
				rs.Client.ZScore(ctx, tasks.KeyListeners, "a").Val() > 0
		})
	}
	// What the roll lost of an agent, its information may have been lost with.
	if m := agent.hear(); m != (wire.Push{Action: wire.ActionInfo}) {
		t.Errorf("the agent heard %#v, want to be asked for its information", m)
	}
}

// A listener that is told that a host was taken off puts it back at once, without
// the rotation.
func TestTakenOffElsewhere(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a"}, slow)
	const ip = "127.0.12.1"
	a.old(ip)
	a.on(ip)
	a.hears()
	// Another listener had a connection of it too, and a's own mark was lost.
	roll := tasks.NewRoll(rs.Client)
	if _, err := roll.Lease(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	rs.Client.SRem(ctx, tasks.KeyAt("a"), ip)
	rs.Client.HSet(ctx, tasks.KeyOnline, ip, ip+":6655@b")
	got, _, err := roll.Apply(ctx, "b", []tasks.Change{{Kind: tasks.Off, Host: ip}})
	if err != nil || got[0].Verdict != tasks.WentOff {
		t.Fatalf("off at b: %v %v", got, err)
	}
	a.on(ip)
}

func TestLeaseThatEndedPutsAllOnAgain(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a := start(t, rs, Config{ID: "a"}, slow, func(s *Server) { s.pace.renew = 50 * time.Millisecond })
	hosts := make([]string, 30)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("127.0.13.%d", i+1)
		a.old(hosts[i])
	}
	for _, h := range hosts {
		a.on(h)
	}
	rs.Client.Del(ctx, tasks.KeyOnline, tasks.KeyClients, tasks.KeyAt("a"), tasks.KeyListeners)
	for _, h := range hosts {
		a.on(h)
	}
	if n := strings.Count(a.log.String(), "lease had ended"); n != 1 {
		t.Errorf("%d lines that the lease had ended, want 1", n)
	}
}

// hostsOf puts hosts h0, h1 and so on onto the roll, for a listener that then is no more.
func hostsOf(t *testing.T, rs *redistest.Server, listener string, n int) {
	t.Helper()
	roll := tasks.NewRoll(rs.Client)
	if _, err := roll.Lease(ctx, listener); err != nil {
		t.Fatal(err)
	}
	var changes []tasks.Change
	for i := range n {
		changes = append(changes, tasks.Change{Kind: tasks.On, Host: fmt.Sprintf("h%d", i), Client: "json"})
	}
	if _, _, err := roll.Apply(ctx, listener, changes); err != nil {
		t.Fatal(err)
	}
}

func TestSweepOfADeadListener(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	hostsOf(t, rs, "dead", 600)
	rs.Client.HSet(ctx, tasks.KeyHost("h7", "info"), "hostname", "h7")
	a := start(t, rs, Config{ID: "a"}, quick)
	kept, _ := a.agent("moved", "i1")
	rs.Client.SAdd(ctx, tasks.KeyAt("dead"), "moved") // it was there once
	if n := rs.Client.HLen(ctx, tasks.KeyOnline).Val(); n != 601 {
		t.Fatalf("%d hosts on the roll while the lease runs, want 601", n)
	}
	rs.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "dead"}) // it has ended
	redistest.Eventually(t, "the hosts are swept off", func() bool {
		return rs.Client.HLen(ctx, tasks.KeyOnline).Val() == 1 && rs.Client.ZCard(ctx, tasks.KeyListeners).Val() == 1
	})
	a.off("h7")
	if got := a.events("h7"); len(got) != 2 || got[1] != "host.offline listener dead is gone" {
		t.Errorf("events %q", got)
	}
	if rs.Client.Exists(ctx, tasks.KeyHost("h7", "info"), tasks.KeyAt("dead")).Val() != 0 {
		t.Error("keys of what was swept are left")
	}
	a.on("moved")
	kept.say(wire.Answer{Task: "AC1", RCC: 1, Seq: 1})
	kept.hear()
}

// A departure that a process left half done is finished by another.
func TestHalfDoneDepartures(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	roll := tasks.NewRoll(rs.Client)
	if _, err := roll.Lease(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	on := []tasks.Change{{Kind: tasks.On, Host: "h1", Client: "json"}, {Kind: tasks.Off, Host: "h1"}}
	if _, _, err := roll.Apply(ctx, "b", on); err != nil {
		t.Fatal(err)
	}
	rs.Client.HSet(ctx, tasks.KeyHost("h1", "info"), "hostname", "h1")
	rs.Client.ZAdd(ctx, tasks.KeyDeparted, redis.Z{Score: 1_000_000, Member: "h1"}) // long ago
	a := start(t, rs, Config{ID: "a"}, quick)
	a.off("h1")
	if rs.Client.Exists(ctx, tasks.KeyHost("h1", "info")).Val() != 0 {
		t.Error("its information is left")
	}
	if got := a.events("h1"); len(got) != 2 || got[1] != "host.offline connection ended" {
		t.Errorf("events %q", got)
	}
}

func TestNoSweepBeforeRedisHasAnsweredForAWhile(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	rs.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "dead"})
	a := start(t, rs, Config{ID: "a"}, quick, func(s *Server) { s.pace.calm = time.Hour })
	trips := &roundTrips{}
	rs.Client.AddHook(trips)
	redistest.Eventually(t, "many rounds have passed", func() bool { return trips.n.Load() > 100 })
	if rs.Client.ZScore(ctx, tasks.KeyListeners, "dead").Err() != nil {
		t.Error("swept too early")
	}
	_ = a
}

// What an idle listener of 10,000 hosts costs Redis, calls inside scripts included.
func TestRotationIsCheap(t *testing.T) {
	rs := redistest.OpenReal(t)
	r := start(t, rs, Config{ID: "a"}, slow)
	for i := range 10_000 {
		ss := &session{srv: r.Server, host: fmt.Sprintf("h%d", i), client: "json"}
		r.join(ss, nil)
	}
	redistest.Eventually(t, "all are on the roll", func() bool { return rs.Client.HLen(ctx, tasks.KeyOnline).Val() == 10_000 })
	drained, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.changes.drain(drained)
	r.arrived.drain(drained)
	rs.Client.ConfigResetStat(ctx)
	// One whole rotation, as its steps would do it, and the sweeps of that time.
	p := usualPace()
	var cursor tasks.Cursor
	names := r.members.names()
	steps := int(p.rotation / p.step)
	for range steps {
		n := min(len(names), 10_000/steps+1)
		r.hold(names[:n])
		names = names[n:]
		r.changes.drain(drained)
		if err := r.strikeStrays(ctx, &cursor, steps); err != nil {
			t.Fatal(err)
		}
		if _, err := r.sweeper.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := r.roll.Lease(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if len(names) != 0 {
		t.Errorf("%d hosts are left after a whole rotation", len(names))
	}
	calls := 0
	for _, line := range strings.Split(rs.Client.Info(ctx, "commandstats").Val(), "\n") {
		var n int
		if _, rest, ok := strings.Cut(line, ":calls="); ok {
			_, _ = fmt.Sscanf(rest, "%d", &n)
		}
		calls += n
	}
	if perSecond := float64(calls) / p.rotation.Seconds(); perSecond > 30 {
		t.Errorf("%.1f commands a second, want at most 30", perSecond)
	} else {
		t.Logf("%.1f commands a second", perSecond)
	}
}

// Redis has lost all: a call of a worker, or of another listener that begins on the empty
// roll, has it back at once, where the listener's own time for it has not come by far.
func TestCalled(t *testing.T) {
	t.Parallel()
	for by, call := range map[string]func(*testing.T, *redistest.Server){
		"worker": func(t *testing.T, rs *redistest.Server) {
			if err := tasks.NewRoll(rs.Client).Call(ctx); err != nil {
				t.Fatal(err)
			}
		},
		"listener": func(t *testing.T, rs *redistest.Server) { start(t, rs, Config{ID: "b"}, slow) },
	} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			rs := redistest.Open(t)
			r := start(t, rs, Config{ID: "a"}, slow)
			r.old("127.0.11.1")
			r.on("127.0.11.1")
			r.hears()
			rs.Client.FlushAll(ctx)
			call(t, rs)
			r.on("127.0.11.1")
			if rs.Client.ZScore(ctx, tasks.KeyListeners, "a").Val() == 0 {
				t.Error("it has no lease")
			}
			if rs.Client.Exists(ctx, tasks.KeyRebuilding).Val() == 0 {
				t.Error("nobody is told that the roll was lost")
			}
		})
	}
}
