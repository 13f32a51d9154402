package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// get asks the handler of s, and returns the status and what is said.
func get(s *Server, method, path string) (int, string) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

// metric is the value of a sample, as it is shown, empty if there is none.
func metric(t *testing.T, s *Server, sample string) string {
	t.Helper()
	code, body := get(s, "GET", "/metrics")
	if code != 200 {
		t.Fatalf("/metrics: %d %s", code, body)
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (s *Server) want(t *testing.T, sample, value string) {
	t.Helper()
	if got := metric(t, s, sample); got != value {
		t.Errorf("%s is %q, want %q", sample, got, value)
	}
}

func newServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is asked otherwise than by GET and HEAD, and elsewhere, is not answered.
func TestWhatIsServed(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Version: "1.2.3"})
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"GET", "/healthz", 200}, {"HEAD", "/readyz", 200},
		{"POST", "/metrics", 405}, {"PUT", "/healthz", 405}, {"DELETE", "/readyz", 405}, {"OPTIONS", "/healthz", 405},
		{"GET", "/", 404}, {"GET", "/debug/pprof/", 404}, {"GET", "/metrics/x", 404},
	} {
		if code, _ := get(s, c.method, c.path); code != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, code, c.code)
		}
	}
	if _, err := New(Config{Bind: "nonsense"}); err == nil {
		t.Error("an address without a port is taken")
	}
}

// Health and readiness are two things, and each is told line by line.
func TestHealth(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var broken, waiting error
	set := func(b, w error) {
		mu.Lock()
		defer mu.Unlock()
		broken, waiting = b, w
	}
	s := newServer(t, Config{})
	s.AddCheck(func() error { mu.Lock(); defer mu.Unlock(); return broken },
		func(context.Context) error { mu.Lock(); defer mu.Unlock(); return waiting })
	s.AddCheck(nil, func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); !limited {
			return errors.New("there is no limit")
		}
		return nil
	})
	s.AddCheck(func() error { return nil }, nil)
	no := func(text string) error { return errors.New(text) }
	for _, c := range []struct {
		broken, waiting error
		healthy, ready  string
	}{
		{nil, nil, "ok\n", "ok\n"},
		{nil, no("a waits\nb waits"), "ok\n", "a waits\nb waits\n"},
		{no("c is broken"), nil, "c is broken\n", "c is broken\n"},
		{no("c is broken"), no("c is broken\na waits"), "c is broken\n", "c is broken\na waits\n"},
		{nil, nil, "ok\n", "ok\n"},
	} {
		set(c.broken, c.waiting)
		s.asked = time.Time{} // a moment later
		for path, want := range map[string]string{"/healthz": c.healthy, "/readyz": c.ready} {
			code, said := get(s, "GET", path)
			wantCode := 503
			if want == "ok\n" {
				wantCode = 200
			}
			if code != wantCode || said != want {
				t.Errorf("%v, %v: %s says %d %q, want %d %q", c.broken, c.waiting, path, code, said, wantCode, want)
			}
		}
	}
}

// Whoever asks over and over is told what was true a moment ago.
func TestReadinessIsNotAskedForOverAndOver(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	asked := 0
	s.AddCheck(nil, func(context.Context) error { asked++; return nil })
	s.asked = time.Now().Add(time.Hour) // no moment of it is over
	for range 3 {
		get(s, "GET", "/readyz")
	}
	if asked != 0 {
		t.Errorf("asked %d times", asked)
	}
}

// Serve ends with its context, and what is under way is answered.
func TestServe(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	url := "http://" + ln.Addr().String() + "/healthz"
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || string(body) != "ok\n" || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%s %q %v", resp.Status, body, resp.Header)
	}
	if !resp.Close {
		t.Error("the connection is kept, in the way of others")
	}
	other := newServer(t, Config{Bind: ln.Addr().String()})
	if err := other.Run(t.Context()); err == nil {
		t.Error("an address that is taken is taken twice")
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it is still served")
	}
}

// The ends of sets and the first answers become histograms and counters.
func TestObserver(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	o := s.Observer()
	s.share(o.delay, o.duration, o.endedVec)
	s.share(o.duration, o.endedVec) // another part has them too
	o.Answered(1500 * time.Microsecond)
	o.Answered(40 * time.Second)
	made := time.UnixMilli(1_000_000)
	counts := map[tasks.State]int64{tasks.Done: 5, tasks.Offline: 2, tasks.Failed: 1}
	o.Closed(tasks.Ledger{Created: made, Closed: made.Add(3 * time.Second), Counts: counts})
	o.Closed(tasks.Ledger{Created: made, Closed: made.Add(-time.Second), Counts: counts}) // a clock that was set back
	for sample, want := range map[string]string{
		`muster_answer_delay_seconds_bucket{le="0.001"}`:    "0",
		`muster_answer_delay_seconds_bucket{le="0.002"}`:    "1",
		`muster_answer_delay_seconds_bucket{le="100"}`:      "2",
		`muster_answer_delay_seconds_count`:                 "2",
		`muster_dispatch_duration_seconds_count`:            "2",
		`muster_dispatch_duration_seconds_sum`:              "3",
		`muster_dispatch_duration_seconds_bucket{le="2"}`:   "1",
		`muster_hosts_ended_total{state="done"}`:            "10",
		`muster_hosts_ended_total{state="offline"}`:         "4",
		`muster_hosts_ended_total{state="failed"}`:          "2",
		`muster_hosts_ended_total{state="expired"}`:         "0",
		`muster_hosts_ended_total{state="working"}`:         "", // no end
		`muster_build_info{goversion="x",version="1.2.3"}`:  "",
		`muster_redis_roundtrip_seconds_count{what="none"}`: "",
	} {
		s.want(t, sample, want)
	}
}

// Round trips are measured once each, what waits is left out, and answers that are
// expected are no errors.
func TestRedisRoundTrips(t *testing.T) {
	t.Parallel()
	r := redistest.Open(t)
	ctx := t.Context()
	s := newServer(t, Config{Redis: r.Client})
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr, DisableIdentity: true, MaxRetries: -1})
	t.Cleanup(func() { rdb.Close() })
	rdb.Ping(ctx) // it connects, which takes commands of its own; pipelines have their own connections
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return nil })
	s.Watch(rdb)
	count := func(what, value string) {
		t.Helper()
		s.want(t, `muster_redis_roundtrip_seconds_count{what="`+what+`"}`, value)
	}
	failed := func(noAnswer, refused string) {
		t.Helper()
		s.want(t, `muster_redis_errors_total{why="no_answer"}`, noAnswer)
		s.want(t, `muster_redis_errors_total{why="refused"}`, refused)
	}
	count("command", "0")
	rdb.Set(ctx, "a", "1", 0)
	rdb.Get(ctx, "none")
	count("command", "2")
	rdb.Eval(ctx, "return 1", nil)
	rdb.EvalSha(ctx, strings.Repeat("0", 40), nil)
	count("script", "2")
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range 10 {
			p.Get(ctx, "none")
		}
		return nil
	})
	count("pipeline", "1")
	rdb.XGroupCreateMkStream(ctx, "s", "g", "0")
	rdb.XGroupCreateMkStream(ctx, "s", "g", "0")
	count("command", "4")
	rdb.XAdd(ctx, &redis.XAddArgs{Stream: "s", Values: []any{"block", "block"}})
	count("command", "5")
	raw := redis.NewCmd(ctx, "XREADGROUP", "GROUP", "g", "c", "BLOCK", 1, "STREAMS", "s", ">")
	_ = rdb.Process(ctx, raw)
	count("command", "5")
	failed("0", "0")
	rdb.LPush(ctx, "a", "x")
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "a")
		p.LPush(ctx, "a", "x")
		p.LPush(ctx, "a", "x")
		return nil
	})
	failed("0", "2")
	ended, end := context.WithCancel(ctx)
	end()
	rdb.Get(ended, "a") // nobody waited for it
	failed("0", "2")
	if got := metric(t, s, "muster_redis_connections"); got == "0" || got == "" {
		t.Errorf("%q connections", got)
	}
	nowhere := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", DisableIdentity: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { nowhere.Close() })
	s.Watch(nowhere)
	nowhere.Get(ctx, "a")
	failed("1", "2")
}

// What is true of the fleet is read from Redis, seldom, and missing while that is away.
func TestFleet(t *testing.T) {
	t.Parallel()
	r := redistest.OpenReal(t)
	ctx := t.Context()
	s := newServer(t, Config{Redis: r.Client})
	s.AddFleet()
	s.want(t, "muster_fleet_readable", "1")
	s.want(t, "muster_fleet_listeners", "0")
	s.want(t, `muster_queue_jobs{state="pending"}`, "0")

	// A look is good for a while.
	roll := tasks.NewRoll(r.Client)
	if _, err := roll.Lease(ctx, "l1"); err != nil {
		t.Fatal(err)
	}
	request, err := tasks.NewClient(r.Client).Submit(ctx, tasks.Request{
		Key: "AC1", Hosts: []string{"web-1"}, Commands: []tasks.Command{{Line: "a", Priority: 1}},
	})
	if err != nil || request == "" {
		t.Fatal(err)
	}
	s.want(t, "muster_fleet_listeners", "0")

	again := newServer(t, Config{Redis: r.Client})
	again.AddFleet()
	again.want(t, "muster_fleet_listeners", "1")
	again.want(t, `muster_queue_jobs{state="pending"}`, "1")
	again.want(t, `muster_queue_jobs{state="archived"}`, "0")
	if got := metric(t, again, "muster_queue_oldest_pending_seconds"); got == "0" || got == "" {
		t.Errorf("a job waits for %q s", got)
	}
	again.want(t, `muster_fleet_hosts{state="sent"}`, "0")

	r.Stop()
	away := newServer(t, Config{Redis: r.Client})
	away.AddFleet()
	away.want(t, "muster_fleet_readable", "0")
	away.want(t, "muster_fleet_listeners", "")
	if code, said := get(away, "GET", "/readyz"); code != 503 || !strings.HasPrefix(said, "redis does not answer") {
		t.Errorf("/readyz without Redis: %d %q", code, said)
	}
	if code, said := get(away, "GET", "/healthz"); code != 200 {
		t.Errorf("/healthz without Redis: %d %q", code, said)
	}
}

// A Redis that takes connections and says nothing does not keep a scrape that asks for the
// queue, whose library asks without a deadline: without the limit this would never end.
func TestQueueIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	rdb := redis.NewClient(&redis.Options{
		Addr: ln.Addr().String(), DisableIdentity: true, ContextTimeoutEnabled: true, ReadTimeout: -1, MaxRetries: -1, DialerRetries: 1,
	})
	defer rdb.Close()
	newServer(t, Config{Redis: rdb}).AddFleet()
	if _, err := asynq.NewInspectorFromRedisClient(rdb).Queues(); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the queues of nobody: %v", err)
	}
}
