package listener

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// running is a listener that serves on a free port.
type running struct {
	*Server
	t    testing.TB
	addr string
	rdb  *redis.Client
	log  *logLines
	end  func() // has it stop
	stop func() // ends it and waits
}

// start runs a listener on rs, with a client of its own if cfg has one; tune may change
// it before it runs.
func start(t testing.TB, rs *redistest.Server, cfg Config, tune ...func(*Server)) *running {
	t.Helper()
	lines := &logLines{}
	log := logrus.New()
	log.SetOutput(lines)
	cfg.Log = log
	if cfg.Redis == nil {
		cfg.Redis = rs.Client
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tune {
		f(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	var once sync.Once
	r := &running{Server: s, t: t, addr: ln.Addr().String(), rdb: rs.Client, log: lines, end: cancel}
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

// logLines is a log that a test can look into.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// host is a client of either kind, at one of the many addresses of this machine.
type host struct {
	t    testing.TB
	conn net.Conn
	dec  *wire.Decoder
}

func (r *running) dial(ip string) *host {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 30 * time.Second}
	conn, err := d.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &host{r.t, conn, wire.NewDecoder(conn, 0)}
}

// old connects an old client and lets it send a heartbeat.
func (r *running) old(ip string) *host {
	r.t.Helper()
	h := r.dial(ip)
	h.say(wire.Heartbeat{})
	return h
}

// agent connects an agent and returns the welcome.
func (r *running) agent(id, instance string) (*host, wire.Welcome) {
	r.t.Helper()
	h := r.dial("127.0.0.1")
	h.say(wire.Hello{ID: id, Instance: instance, UDP: 7000})
	w, ok := h.hear().(wire.Welcome)
	if !ok {
		r.t.Fatal("the answer to a hello is no welcome")
	}
	return h, w
}

func (h *host) say(m wire.Message) { h.raw(wire.EncodeFrame(m)) }

func (h *host) raw(b []byte) {
	h.t.Helper()
	if _, err := h.conn.Write(b); err != nil {
		h.t.Fatalf("write: %v", err)
	}
}

// hear returns the next message from the listener.
func (h *host) hear() wire.Message {
	h.t.Helper()
	_ = h.conn.SetReadDeadline(time.Now().Add(time.Minute))
	body, err := h.dec.Next()
	if err != nil {
		h.t.Fatalf("read: %v", err)
	}
	m, err := wire.Decode(body, wire.Listener)
	if err != nil {
		h.t.Fatalf("%s: %v", body, err)
	}
	return m
}

// closed waits until the listener has closed the connection.
func (h *host) closed() {
	h.t.Helper()
	_ = h.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		if _, err := h.dec.Next(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				h.t.Fatal("the connection is still open after a minute")
			}
			return
		}
	}
}

func (r *running) place(host string) string {
	return r.rdb.HGet(context.Background(), tasks.KeyOnline, host).Val()
}

// hears waits until the listener hears its channel.
func (r *running) hears() {
	r.t.Helper()
	channel := tasks.ChannelFor(r.ID())
	redistest.Eventually(r.t, r.ID()+" hears", func() bool {
		return r.rdb.PubSubNumSub(context.Background(), channel).Val()[channel] == 1
	})
}

// on waits until the host is on the roll for this listener.
func (r *running) on(host string) {
	r.t.Helper()
	redistest.Eventually(r.t, host+" is on the roll for "+r.ID(), func() bool {
		return strings.HasSuffix(r.place(host), "@"+r.ID())
	})
}

// off waits until the host is off the roll and that is recorded.
func (r *running) off(host string) {
	r.t.Helper()
	redistest.Eventually(r.t, host+" is off the roll", func() bool {
		return r.place(host) == "" && r.rdb.ZScore(context.Background(), tasks.KeyDeparted, host).Err() == redis.Nil
	})
}

// events returns type and reason of what happened to a host, in order.
func (r *running) events(host string) []string {
	r.t.Helper()
	all, err := tasks.Events(context.Background(), r.rdb, "0", 100_000, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	var list []string
	for _, e := range all {
		if e.Host == host {
			list = append(list, strings.TrimSpace(e.Type+" "+e.Reason))
		}
	}
	return list
}
