package listener

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

const textBeat = "ADH18/keepAlive"

// text connects a client of the text form and lets it send a heartbeat.
func (r *running) text(ip string) *host {
	r.t.Helper()
	h := r.dial(ip)
	h.raw(frame(textBeat))
	return h
}

// kind waits until the roll says of what kind a host's client is.
func (r *running) kind(host, want string) {
	r.t.Helper()
	redistest.Eventually(r.t, host+" is of the kind "+want, func() bool {
		return r.rdb.HGet(context.Background(), tasks.KeyClients, host).Val() == want
	})
}

func TestTextClient(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	r := start(t, rs, Config{})
	const ip = "127.0.20.1"
	ctx := context.Background()
	h := r.dial(ip)
	h.raw(frame(`ADH56/keepRogerThat/{'hostname': "it's", 'localAddrsIPV4': ['10.0.0.5', '10.0.0.6'], 'MACAddress': '52-54'}`))
	r.on(ip)
	r.kind(ip, "text")
	redistest.Eventually(t, "it has told its addresses", func() bool {
		return slices.Equal(rs.Client.LRange(ctx, tasks.KeyHost(ip, "ipv4"), 0, -1).Val(), []string{"10.0.0.5", "10.0.0.6"})
	})
	if got := rs.Client.HGetAll(ctx, tasks.KeyHost(ip, "info")).Val(); got["hostname"] != "it's" || got["mac"] != "52-54" {
		t.Errorf("information %q", got)
	}
	all, err := tasks.Events(ctx, rs.Client, "0", 10, 0)
	if err != nil || len(all) != 1 || all[0].Type != "host.online" || all[0].More["client"] != "text" {
		t.Errorf("events %+v, %v", all, err)
	}
	view, err := tasks.NewRoll(rs.Client).View(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := view.Locate(ctx, []string{ip}); err != nil || !p[0].Online || p[0].Client != "text" || p[0].Agent() {
		t.Errorf("located %+v, %v", p, err)
	}
	h.raw(frame(textBeat))
	redistest.Eventually(t, "its heartbeat is counted", func() bool { return r.Stats().Heartbeats.Load() == 1 })
	h.conn.Close()
	r.off(ip)
	if rs.Client.HExists(ctx, tasks.KeyClients, ip).Val() {
		t.Error("its kind is still on the roll")
	}
}

// The form of the first message names a connection. The other one is understood, too.
func TestBothFormsOnOneConnection(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	r := start(t, rs, Config{})
	for ip, c := range map[string]struct{ first, later, kind string }{
		"127.0.21.1": {textBeat, string(wire.Encode(wire.Info{Hostname: "pc"})), "text"},
		"127.0.21.2": {string(wire.Encode(wire.Heartbeat{})), `ADH56/keepRogerThat/{'hostname': 'pc', 'localAddrsIPV4': [], 'MACAddress': ''}`, "json"},
	} {
		h := r.dial(ip)
		h.raw(frame(c.first))
		h.raw(frame(c.later))
		redistest.Eventually(t, ip+" has told its name", func() bool {
			return rs.Client.HGet(context.Background(), tasks.KeyHost(ip, "info"), "hostname").Val() == "pc"
		})
		r.kind(ip, c.kind)
	}
}

// Of several connections from one address the newest says of what kind the client is,
// also when a newer one has gone.
func TestSeveralConnectionsOfBothForms(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	slow := func(s *Server) { s.pace.step = time.Hour } // nothing is mended in passing
	a, b := start(t, rs, Config{ID: "a"}, slow), start(t, rs, Config{ID: "b"}, slow)
	a.hears()
	b.hears()
	const ip = "127.0.22.1"
	one := a.text(ip)
	a.on(ip)
	a.kind(ip, "text")
	two := a.old(ip)
	a.kind(ip, "json")
	three := a.text(ip)
	a.kind(ip, "text")
	three.conn.Close()
	a.kind(ip, "json")
	four := b.text(ip)
	b.on(ip)
	b.kind(ip, "text")
	four.conn.Close() // handed back to a, where the client is another
	a.on(ip)
	a.kind(ip, "json")
	two.conn.Close()
	a.kind(ip, "text")
	if got := a.events(ip); len(got) != 1 {
		t.Errorf("events %q, want one host.online", got)
	}
	one.conn.Close()
	a.off(ip)
}

// An agent that speaks text is none, also with a heartbeat that is known by its bytes.
func TestAgentsSpeakNoText(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{})
	r.text("127.0.23.1")
	r.on("127.0.23.1")
	h, _ := r.agent("web-1", "i1")
	r.on("web-1")
	h.raw(frame(textBeat))
	h.closed()
	r.off("web-1")
	if got := r.Stats().Abnormal.Load(); got != 1 {
		t.Errorf("%d connections counted as abnormal, want 1", got)
	}
}
