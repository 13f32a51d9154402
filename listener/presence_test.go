package listener

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

var ctx = context.Background()

func TestInformationLivesAsLongAsThePresence(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{OfflineDelete: []string{"info", "ipv4", "note"}})
	const ip = "127.0.7.1"
	h := r.old(ip)
	h.say(wire.Info{Hostname: "pc-1", MAC: "m1", IPv4: []string{"10.0.0.5", "10.0.0.4"}})
	h.say(wire.Info{
		Hostname: "pc-2", MAC: "m2", IPv4: []string{"10.0.0.9", "10.0.0.1", "10.0.0.5"},
		OS: "linux", Arch: "amd64", Version: "1", Tags: map[string]string{"role": "web"},
	})
	info, ipv4 := tasks.KeyHost(ip, "info"), tasks.KeyHost(ip, "ipv4")
	redistest.Eventually(t, "the second report is there", func() bool { return r.rdb.HGet(ctx, info, "hostname").Val() == "pc-2" })
	got := r.rdb.HGetAll(ctx, info).Val()
	delete(got, "reported_us")
	want := map[string]string{"hostname": "pc-2", "mac": "m2", "os": "linux", "arch": "amd64", "version": "1", "tags": `{"role":"web"}`}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("info %v, want %v", got, want)
	}
	if got, want := r.rdb.LRange(ctx, ipv4, 0, -1).Val(), []string{"10.0.0.9", "10.0.0.1", "10.0.0.5"}; !reflect.DeepEqual(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	r.rdb.Set(ctx, tasks.KeyHost(ip, "note"), "x", 0)
	r.rdb.Set(ctx, tasks.KeyHost(ip, "other"), "x", 0)
	h.conn.Close()
	redistest.Eventually(t, "host.offline is recorded", func() bool { return len(r.events(ip)) == 2 })
	if n := r.rdb.Exists(ctx, info, ipv4, tasks.KeyHost(ip, "note")).Val(); n != 0 {
		t.Errorf("%d keys are left that go with the host", n)
	}
	if n := r.rdb.Exists(ctx, tasks.KeyHost(ip, "other")).Val(); n != 1 {
		t.Error("a key that no setting names was deleted")
	}
	for _, key := range []string{tasks.KeyOnline, tasks.KeyClients, tasks.KeyAt(r.ID()), tasks.KeyDeparted} {
		if r.rdb.Exists(ctx, key).Val() != 0 {
			t.Errorf("%s is left", key)
		}
	}
}

// In one round trip: information, then the end of the connection.
func TestInformationInTheBatchOfItsEnd(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{})
	first := r.old("127.0.7.250") // opens the time in which the others are gathered
	r.on("127.0.7.250")
	first.say(wire.Info{Hostname: "first"})
	for i := range 20 {
		h := r.dial(fmt.Sprintf("127.0.8.%d", i+1))
		h.raw(append(wire.EncodeFrame(wire.Info{Hostname: "pc", MAC: "m", IPv4: []string{"10.0.0.1"}}), 0, 0, 0, 0))
	}
	for i := range 20 {
		ip := fmt.Sprintf("127.0.8.%d", i+1)
		redistest.Eventually(t, ip+" came and went", func() bool { return len(r.events(ip)) == 2 })
		if r.rdb.Exists(ctx, tasks.KeyHost(ip, "info"), tasks.KeyHost(ip, "ipv4")).Val() != 0 {
			t.Errorf("information of %s has outlived its connection", ip)
		}
	}
}

func TestSeveralConnectionsOfAnOldClient(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a, b := start(t, rs, Config{ID: "a"}), start(t, rs, Config{ID: "b"})
	const ip = "127.0.9.1"
	one, two := a.old(ip), a.old(ip)
	a.on(ip)
	two.say(wire.Info{Hostname: "pc"})
	redistest.Eventually(t, "it has told its name", func() bool { return rs.Client.Exists(ctx, tasks.KeyHost(ip, "info")).Val() == 1 })
	redistest.Eventually(t, "both are connected", func() bool { return a.connections(ip) == 2 })
	two.conn.Close()
	redistest.Eventually(t, "one of two is gone", func() bool { return a.connections(ip) == 1 })
	a.on(ip)

	three := b.old(ip)
	b.on(ip) // the newest
	one.conn.Close()
	redistest.Eventually(t, "a has let it go", func() bool { return !rs.Client.SIsMember(ctx, tasks.KeyAt("a"), ip).Val() })
	b.on(ip)
	four := a.old(ip)
	a.on(ip)
	four.conn.Close()
	b.on(ip) // handed back to who still has a connection
	if rs.Client.Exists(ctx, tasks.KeyHost(ip, "info")).Val() == 0 {
		t.Error("its information was deleted while it was online")
	}
	if got := a.events(ip); len(got) != 1 {
		t.Errorf("events %q, want one host.online", got)
	}
	three.conn.Close()
	b.off(ip)
	if got := a.events(ip); len(got) != 2 || got[1] != "host.offline connection closed" {
		t.Errorf("events %q", got)
	}
}

func (r *running) connections(host string) int {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	n := 0
	for at := r.members.hosts[host]; at != nil; at = at.next {
		n++
	}
	return n
}

func TestAgents(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	a, b := start(t, rs, Config{ID: "a", Heartbeat: 7 * time.Second}), start(t, rs, Config{ID: "b"})

	first, w := a.agent("web-1", "i1")
	now, _ := rs.Client.Time(ctx).Result()
	if w.Refused != "" || w.Server != "a" || w.HeartbeatMS != 7000 || w.Session != "" || now.UnixMilli()-w.TimeMS > 5000 {
		t.Errorf("welcome %+v", w)
	}
	// The welcome comes after the roll has it.
	if got := a.place("web-1"); got != "127.0.0.1:7000@a" {
		t.Errorf("place %q", got)
	}
	if got := rs.Client.HGet(ctx, tasks.KeyClients, "web-1").Val(); got != "agent i1" {
		t.Errorf("client %q", got)
	}

	// The same instance again: the newer connection replaces the older, here and there.
	second, w := a.agent("web-1", "i1")
	if w.Refused != "" {
		t.Fatalf("refused: %s", w.Refused)
	}
	first.closed()
	third, w := b.agent("web-1", "i1")
	if w.Refused != "" {
		t.Fatalf("refused: %s", w.Refused)
	}
	second.closed()
	b.on("web-1")
	if got := a.events("web-1"); len(got) != 1 {
		t.Errorf("events %q, want one host.online", got)
	}
	if rs.Client.SIsMember(ctx, tasks.KeyAt("a"), "web-1").Val() {
		t.Error("the older listener still has it in its set")
	}

	// Another instance is refused, here and there, and recorded.
	for i, r := range []*running{b, a} {
		h, w := r.agent("web-1", "i2")
		if !strings.Contains(w.Refused, "another instance") {
			t.Errorf("welcome %+v, want a refusal", w)
		}
		h.closed()
		redistest.Eventually(t, "the duplicate is recorded", func() bool { return len(r.events("web-1")) == 2+i })
	}
	if got := a.events("web-1"); !strings.HasPrefix(got[1], "host.duplicate") || !strings.HasPrefix(got[2], "host.duplicate") {
		t.Errorf("events %q", got)
	}
	third.say(wire.Answer{Task: "AC1", RCC: 1, Seq: 1})
	if m := third.hear(); m != (wire.Confirm{Seq: 1}) {
		t.Errorf("the first instance heard %#v", m)
	}
	third.conn.Close()
	b.off("web-1")
	if _, w := a.agent("web-1", "i2"); w.Refused != "" {
		t.Errorf("refused although the first is gone: %s", w.Refused)
	}
}

func TestIdsThatLookLikeAddresses(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{})
	h, w := r.agent("10.1.2.3", "i1")
	if w.Refused == "" {
		t.Error("an agent took the address of another host for its id")
	}
	h.closed()
	if _, w := r.agent("127.0.0.1", "i1"); w.Refused != "" {
		t.Errorf("refused its own address: %s", w.Refused)
	}
	r.on("127.0.0.1")
	// An old client from there would be the same host.
	r.old("127.0.0.1").closed()
	r.on("127.0.0.1")
	if got := r.rdb.HGet(ctx, tasks.KeyClients, "127.0.0.1").Val(); got != "agent i1" {
		t.Errorf("client %q, want the agent's", got)
	}
}

func TestPeerAddresses(t *testing.T) {
	t.Parallel()
	s := &Server{}
	for addr, want := range map[string]string{
		"10.0.0.5:1": "10.0.0.5", "[::ffff:10.0.0.5]:1": "10.0.0.5", "[fe80::1%eth0]:1": "fe80::1", "[::1]:1": "::1",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		ss := &session{srv: s, conn: remote{addr: tcp}}
		if got := ss.peer().String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

type remote struct {
	net.Conn
	addr net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.addr }

// Ten thousand hosts that come within a second need tens of round trips.
func TestManyHostsShareRoundTrips(t *testing.T) {
	rs := redistest.Open(t)
	trips := &roundTrips{}
	rs.Client.AddHook(trips)
	s, err := New(Config{Redis: rs.Client})
	if err != nil {
		t.Fatal(err)
	}
	s.sweeper = tasks.NewSweeper(s.roll, nil, 0)
	if _, err := s.roll.Lease(ctx, s.ID()); err != nil {
		t.Fatal(err)
	}
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.changes.run(writing, func(ctx context.Context, batch []change) error {
			s.writeChanges(ctx, batch)
			return nil
		})
	}()
	before := trips.n.Load()
	for i := range 10_000 {
		ss := &session{srv: s, host: fmt.Sprintf("h%d", i), client: "json"}
		s.join(ss, nil)
	}
	drained, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s.changes.drain(drained)
	stop()
	<-done
	if n := rs.Client.HLen(ctx, tasks.KeyOnline).Val(); n != 10_000 {
		t.Errorf("%d hosts on the roll, want 10000", n)
	}
	if n := trips.n.Load() - before; n > 50 {
		t.Errorf("%d round trips for 10,000 hosts", n)
	}
}

// Two listeners under one id would take each other's hosts off the roll.
func TestIDInUse(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	first := start(t, rs, Config{ID: "a"})
	channel := tasks.ChannelFor("a")
	redistest.Eventually(t, "the first one hears", func() bool { return rs.Client.PubSubNumSub(ctx, channel).Val()[channel] == 1 })
	second, err := New(Config{Redis: rs.Client, ID: "a", Bind: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(ctx); err == nil || !strings.Contains(err.Error(), "id a ") {
		t.Errorf("Run: %v, want an error that names the id", err)
	}
	// One that was killed has left its lease, and may come back at once.
	first.stop()
	if _, err := tasks.NewRoll(rs.Client).Lease(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	again := start(t, rs, Config{ID: "a"})
	again.old("127.0.22.1")
	again.on("127.0.22.1")
}
