package listener

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

func frame(body string) []byte { return wire.AppendFrame(nil, []byte(body)) }

func TestFirstMessageBringsOnline(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{ID: "l1"})
	for i, m := range []wire.Message{
		wire.Heartbeat{},
		wire.Info{Hostname: "pc", MAC: "52-54-00-12-34-56"},
		wire.Status{Task: "AC1", Phase: 1, Lists: true},
		wire.Answer{Task: "AC1", RCC: 1},
	} {
		ip := fmt.Sprintf("127.0.1.%d", i+1)
		r.dial(ip).say(m)
		r.on(ip)
		if got, want := r.place(ip), ip+":6655@l1"; got != want {
			t.Errorf("%s: place %q, want %q", m.Code(), got, want)
		}
		if got := r.rdb.HGet(context.Background(), tasks.KeyClients, ip).Val(); got != "json" {
			t.Errorf("%s: client %q, want json", m.Code(), got)
		}
	}
}

func TestFramesHoweverTheyAreCut(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{})
	info := func(n int) []byte {
		return wire.EncodeFrame(wire.Info{Hostname: fmt.Sprintf("pc-%d", n), MAC: "m", IPv4: []string{"10.0.0.5"}})
	}
	single := r.dial("127.0.2.1")
	for _, b := range append(wire.EncodeFrame(wire.Heartbeat{}), info(1)...) {
		single.raw([]byte{b})
	}
	many := r.dial("127.0.2.2")
	var all []byte
	for i := range 500 {
		all = append(all, wire.EncodeFrame(wire.Heartbeat{})...)
		if i == 250 {
			all = append(all, info(2)...)
		}
	}
	many.raw(append(all, info(3)...))
	for ip, want := range map[string]string{"127.0.2.1": "pc-1", "127.0.2.2": "pc-3"} {
		redistest.Eventually(t, ip+" has told its name", func() bool {
			return r.rdb.HGet(context.Background(), tasks.KeyHost(ip, "info"), "hostname").Val() == want
		})
	}
	redistest.Eventually(t, "501 heartbeats are counted", func() bool { return r.Stats().Heartbeats.Load() == 501 })
	if got := r.events("127.0.2.2"); len(got) != 1 {
		t.Errorf("events %q, want one host.online", got)
	}
}

func TestAbnormalDataClosesThatConnectionOnly(t *testing.T) {
	t.Parallel()
	length := func(n int32) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }
	deep := `{"flag":"ADH18","ACK":"keepAlive","phase":1,"x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`
	kinds := map[string][]byte{
		"length zero":          length(0),
		"length negative":      length(-1),
		"length over limit":    length(wire.MaxFrame + 1),
		"not UTF-8":            wire.AppendFrame(nil, []byte("{\"flag\":\"\xff\"}")),
		"not JSON":             frame(`{"flag":"ADH18"`),
		"text":                 frame(`hello`),
		"text, another ACK":    frame(`ADH18/no`),
		"text, unknown code":   frame(`ADH33/AC1/1/1`),
		"text, no literal":     frame(`ADH56/keepRogerThat/open('x')`),
		"text, no lists":       frame(`ADH27I/keepGotIt/AC1/None`),
		"a list":               frame(`[]`),
		"no flag":              frame(`{"ACK":"keepAlive"}`),
		"unknown code":         frame(`{"flag":"ADH99"}`),
		"another ACK":          frame(`{"flag":"ADH18","ACK":"no","phase":1}`),
		"another phase":        frame(`{"flag":"ADH18","ACK":"keepAlive","phase":2}`),
		"wrong type":           frame(`{"flag":"ADH18","ACK":"keepAlive","phase":"1"}`),
		"member missing":       frame(`{"flag":"ADH56","ACK":"keepRogerThat"}`),
		"malformed number":     frame(`{"flag":"ADH33","taskId":"XX","answerTime":1,"RCC":1}`),
		"name twice":           frame(`{"flag":"ADH18","ACK":"keepAlive","phase":1,"phase":1}`),
		"too deep":             frame(deep),
		"a listener's message": frame(`{"flag":"ADH35","seq":1}`),
		"an agent's message":   frame(`{"flag":"ADH36","taskId":"AC1"}`),
		"hello, late":          wire.EncodeFrame(wire.Hello{ID: "web-1", Instance: "i", UDP: 7000}),
		"hello, bad id":        frame(`{"flag":"ADH01","version":2,"id":"-x","instance":"i","udp":7000}`),
	}
	r := start(t, redistest.Open(t), Config{})
	bystander := r.old("127.0.3.250")
	r.on("127.0.3.250")
	n := 0
	for name, bad := range kinds {
		n++
		ip := fmt.Sprintf("127.0.3.%d", n)
		h := r.old(ip)
		r.on(ip)
		h.raw(bad)
		h.closed()
		r.off(ip)
		if got := r.events(ip); len(got) != 2 || !strings.HasPrefix(got[1], "host.offline abnormal data") {
			t.Errorf("%s: events %q", name, got)
		}
		if !strings.Contains(r.log.String(), ip+":") {
			t.Errorf("%s: no line in the log names the peer %s", name, ip)
		}
	}
	if got := r.Stats().Abnormal.Load(); got != int64(len(kinds)) {
		t.Errorf("%d connections counted as abnormal, want %d", got, len(kinds))
	}
	bystander.say(wire.Info{Hostname: "still-here", MAC: "m"})
	redistest.Eventually(t, "the bystander is heard", func() bool {
		return r.rdb.HGet(context.Background(), tasks.KeyHost("127.0.3.250", "info"), "hostname").Val() == "still-here"
	})
}

func TestAgentsMayKnowNewerCodes(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{})
	h, _ := r.agent("web-1", "i1")
	h.raw(frame(`{"flag":"ADH99","new":true}`))
	h.say(wire.Answer{Task: "AC1", RCC: 1, Seq: 7})
	if m := h.hear(); m != (wire.Confirm{Seq: 7}) {
		t.Errorf("heard %#v after an unknown code, want the confirmation of 7", m)
	}
	if got := r.Stats().Unknown.Load(); got != 1 {
		t.Errorf("%d unknown messages counted, want 1", got)
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{HeartbeatTimeout: 300 * time.Millisecond})
	silent := r.old("127.0.4.1")
	mute := r.dial("127.0.4.2") // never says anything
	trickle := r.old("127.0.4.3")
	alive := r.old("127.0.4.4")
	r.on("127.0.4.4")
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		beat := wire.EncodeFrame(wire.Heartbeat{})
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			_, _ = alive.conn.Write(beat)
			// A byte now and then of a message that does not end is silence too.
			_, _ = trickle.conn.Write([]byte("\xff\x00\x00\x00" + strings.Repeat("x", 300))[i : i+1])
		}
	}()
	silent.closed()
	mute.closed()
	trickle.closed()
	r.off("127.0.4.1")
	if got, want := r.events("127.0.4.1"), "host.offline silent for 300ms"; len(got) != 2 || got[1] != want {
		t.Errorf("events %q, want the last to be %q", got, want)
	}
	if r.place("127.0.4.4") == "" {
		t.Error("the host that sends heartbeats is off the roll")
	}
}

// When a process was asleep, the deadline is over before it has looked at what came: a
// connection is silent only if there is nothing to be read.
func TestLastLook(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Redis: redistest.Open(t).Client})
	if err != nil {
		t.Fatal(err)
	}
	beat := wire.EncodeFrame(wire.Heartbeat{})
	for name, c := range map[string]struct {
		stops bool
		reads [][]byte // nil: the deadline is over
		beats int64
		want  error
	}{
		"silent":         {false, [][]byte{beat, nil, nil, beat}, 1, os.ErrDeadlineExceeded},
		"asleep":         {false, [][]byte{beat, nil, beat, nil, beat, beat, nil, nil, beat}, 4, os.ErrDeadlineExceeded},
		"stops":          {true, [][]byte{beat, beat, nil, beat}, 2, errStopping},
		"within a frame": {false, [][]byte{beat[:9], nil, beat[9:], nil, beat[:9], nil}, 1, os.ErrDeadlineExceeded},
	} {
		s.ending.Store(c.stops)
		before := s.stats.Heartbeats.Load()
		ss := newSession(s, &scripted{reads: c.reads})
		ss.host = "web-1"
		if err := ss.read(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if got := s.stats.Heartbeats.Load() - before; got != c.beats {
			t.Errorf("%s: %d heartbeats, want %d", name, got, c.beats)
		}
	}
}

// scripted is a connection on which the given bytes are read.
type scripted struct {
	net.Conn
	reads [][]byte
}

func (c *scripted) SetReadDeadline(time.Time) error { return nil }
func (c *scripted) Read(p []byte) (int, error) {
	if len(c.reads) == 0 {
		return 0, io.EOF
	}
	next := c.reads[0]
	c.reads = c.reads[1:]
	if next == nil {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(p, next), nil
}

func TestEndsOfAConnection(t *testing.T) {
	t.Parallel()
	r := start(t, redistest.Open(t), Config{})
	ends := map[string]struct {
		end  func(*host)
		want string
	}{
		"127.0.5.1": {func(h *host) { h.conn.Close() }, "host.offline connection closed"},
		"127.0.5.2": {func(h *host) { h.raw([]byte{9, 0, 0, 0, '{'}); h.conn.Close() }, "host.offline connection closed inside a message"},
		"127.0.5.3": {func(h *host) { _ = h.conn.(*net.TCPConn).SetLinger(0); h.conn.Close() }, "host.offline connection broken"},
	}
	for ip, e := range ends {
		h := r.old(ip)
		r.on(ip)
		e.end(h)
		r.off(ip)
		if got := r.events(ip); len(got) != 2 || got[1] != e.want {
			t.Errorf("%s: events %q, want the last to be %q", ip, got, e.want)
		}
	}
}

// A heartbeat costs no Redis command and leaves no allocation behind.
func TestHeartbeatsCostNothing(t *testing.T) {
	rs := redistest.Open(t)
	r := start(t, rs, Config{}, func(s *Server) { s.pace.step, s.pace.sweep, s.pace.renew = time.Hour, time.Hour, time.Hour })
	h := r.old("127.0.6.1")
	r.on("127.0.6.1")
	redistest.Eventually(t, "the first heartbeat is counted", func() bool { return r.Stats().Heartbeats.Load() == 1 })
	beats := bytes.Repeat(slices.Concat(frame(`{ "phase": 1, "ACK": "keepAlive", "flag": "ADH18" }`), frame(textBeat)), 50)
	beat := func() {
		before := r.Stats().Heartbeats.Load()
		h.raw(beats)
		redistest.Eventually(t, "the heartbeats are counted", func() bool { return r.Stats().Heartbeats.Load() == before+100 })
	}
	beat() // an unusual form is learnt once
	before := r.Stats().Heartbeats.Load()
	allocs := testing.AllocsPerRun(20, beat)
	if sent := r.Stats().Heartbeats.Load() - before; allocs > float64(sent)/20/2 {
		t.Errorf("%v allocations for 100 heartbeats", allocs)
	}
	if !rs.Real {
		return // the embedded Redis does not count commands
	}
	ctx := context.Background()
	count := func() string {
		return rs.Client.InfoMap(ctx, "stats").Val()["Stats"]["total_commands_processed"]
	}
	first := count()
	beat()
	var a, b int
	fmt.Sscan(first, &a)
	fmt.Sscan(count(), &b)
	if b-a > 1 { // the asking itself
		t.Errorf("%d Redis commands for 100 heartbeats", b-a-1)
	}
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	s, err := New(Config{Redis: rs.Client})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, &failing{Listener: ln, left: 3}) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(wire.EncodeFrame(wire.Heartbeat{})); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the host is on the roll", func() bool {
		return rs.Client.HExists(ctx, tasks.KeyOnline, "127.0.0.1").Val()
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// failing fails its first accepts, as a process without free files does.
type failing struct {
	net.Listener
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, fmt.Errorf("too many open files")
	}
	return f.Listener.Accept()
}
