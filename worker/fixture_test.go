package worker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// fixture is a Redis and what a test looks at in it.
type fixture struct {
	testing.TB
	redis *redistest.Server
	rdb   *redis.Client
	store *tasks.Store
	logs  *logtest.Hook
	log   logrus.FieldLogger
}

func newFixture(t testing.TB) *fixture { return fixtureOn(t, redistest.Open(t)) }

func fixtureOn(t testing.TB, server *redistest.Server) *fixture {
	log, hook := logtest.NewNullLogger()
	return &fixture{
		TB: t, redis: server, rdb: server.Client,
		store: tasks.NewStore(server.Client, tasks.StoreConfig{}), logs: hook, log: log,
	}
}

// start runs a worker until the test ends or stop is called.
func (f *fixture) start(cfg Config) (stop func()) {
	f.Helper()
	if cfg.Redis == nil {
		cfg.Redis = f.rdb
	}
	if cfg.Log == nil {
		cfg.Log = f.log
	}
	w, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Errorf("Run: %v", err)
		}
	})
	f.Cleanup(stop)
	return stop
}

// dispatcher is what runs jobs, for tests that call it themselves.
func (f *fixture) dispatcher(socket emitter) *dispatcher {
	w, err := New(Config{Redis: f.rdb, Log: f.log})
	if err != nil {
		f.Fatal(err)
	}
	return w.dispatcher(f.store, socket)
}

// add puts a request into the stream and returns its id.
func (f *fixture) add(fields ...any) string {
	f.Helper()
	id, err := f.rdb.XAdd(f.Context(), &redis.XAddArgs{Stream: tasks.KeyRequests, Values: fields}).Result()
	if err != nil {
		f.Fatal(err)
	}
	return id
}

// online puts a host on the roll, as a listener would.
func (f *fixture) online(host, client string, addr netip.AddrPort) {
	f.Helper()
	ctx := f.Context()
	_, err := f.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, tasks.KeyOnline, host, tasks.FormatPlace(addr, "l1"))
		p.HSet(ctx, tasks.KeyClients, host, client)
		p.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: "l1"})
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
}

// back has a listener say again, after Redis has lost its roll, that an agent is
// connected to it.
func (f *fixture) back(listener, host string) {
	f.Helper()
	ctx := f.Context()
	roll := tasks.NewRoll(f.rdb)
	if _, err := roll.Renew(ctx, listener); err != nil {
		f.Fatal(err)
	}
	on := tasks.Change{Kind: tasks.On, Host: host, Addr: netip.MustParseAddrPort("127.0.0.1:9"), Client: "agent i1"}
	if _, _, err := roll.Apply(ctx, listener, []tasks.Change{on}); err != nil {
		f.Fatal(err)
	}
}

// event waits for an event of a type about a request.
func (f *fixture) event(kind, request string) tasks.Event {
	f.Helper()
	var found tasks.Event
	redistest.Eventually(f, kind+" of "+request, func() bool {
		for _, e := range f.events(kind) {
			if e.Request == request {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

func (f *fixture) events(kind string) []tasks.Event {
	f.Helper()
	all, err := tasks.Events(context.Background(), f.rdb, "0", 100_000, 0)
	if err != nil {
		f.Fatal(err)
	}
	var list []tasks.Event
	for _, e := range all {
		if e.Type == kind {
			list = append(list, e)
		}
	}
	return list
}

func (f *fixture) ledger(n tasks.Number) tasks.Ledger {
	f.Helper()
	l, err := f.store.Ledger(context.Background(), n)
	if err != nil {
		f.Fatal(err)
	}
	return l
}

// counts gives the states of a ledger that are not zero: "offline:1 sent:2".
func counts(l tasks.Ledger) string {
	var parts []string
	for _, s := range tasks.States() {
		if l.Counts[s] != 0 {
			parts = append(parts, fmt.Sprintf("%s:%d", s, l.Counts[s]))
		}
	}
	return strings.Join(parts, " ")
}

// sound fails the test if a ledger does not add up.
func (f *fixture) sound(n tasks.Number) {
	f.Helper()
	findings, err := f.store.Verify(context.Background(), n)
	if err != nil || len(findings) > 0 {
		f.Errorf("verify %s: %v %v", n, findings, err)
	}
}

// drained waits until nothing is left of the requests in stream and group.
func (f *fixture) drained() {
	f.Helper()
	ctx := context.Background()
	redistest.Eventually(f, "the stream of requests is empty and nothing is pending", func() bool {
		pending, err := f.rdb.XPending(ctx, tasks.KeyRequests, group).Result()
		return err == nil && pending.Count == 0 && f.rdb.XLen(ctx, tasks.KeyRequests).Val() == 0
	})
}

// host is a UDP socket that keeps what arrives.
type host struct {
	t    testing.TB
	conn *net.UDPConn
	addr netip.AddrPort

	mu  sync.Mutex
	got []string
}

func listen(t testing.TB) *host { return listenOn(t, "127.0.0.1:0") }

func listenOn(t testing.TB, addr string) *host {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	h := &host{t: t, conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	var done sync.WaitGroup
	done.Go(h.read)
	t.Cleanup(func() {
		conn.Close()
		done.Wait()
	})
	return h
}

func (h *host) read() {
	buf := make([]byte, 512)
	for {
		n, _, err := h.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		h.mu.Lock()
		h.got = append(h.got, string(buf[:n]))
		h.mu.Unlock()
	}
}

func (h *host) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.got...)
}

// wants waits for the datagrams and fails if there are others. Whatever was sent
// before the call has arrived when the mark that it sends itself has.
func (h *host) wants(numbers ...string) {
	h.t.Helper()
	want := strings.Join(numbers, " ")
	redistest.Eventually(h.t, fmt.Sprintf("%d datagrams at %s", len(numbers), h.addr), func() bool {
		return len(h.all()) >= len(numbers)
	})
	if _, err := h.conn.WriteToUDPAddrPort([]byte("mark"), h.addr); err != nil {
		h.t.Fatal(err)
	}
	redistest.Eventually(h.t, "the mark", func() bool {
		got := h.all()
		return len(got) > 0 && got[len(got)-1] == "mark"
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = h.got[:len(h.got)-1]
	if got := strings.Join(h.got, " "); got != want {
		h.t.Errorf("datagrams %q, want %q", got, want)
	}
}

func job(payload string) *asynq.Task { return asynq.NewTask(tasks.JobType, []byte(payload)) }

// types lists what happened to a request, in order.
func (f *fixture) types(request string) []string {
	f.Helper()
	all, err := tasks.Events(context.Background(), f.rdb, "0", 10_000, 0)
	if err != nil {
		f.Fatal(err)
	}
	var list []string
	for _, e := range all {
		if e.Request == request {
			list = append(list, e.Type)
		}
	}
	return list
}
