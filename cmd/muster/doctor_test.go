package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// told is a finding in one line.
func told(f finding) string {
	text := string(f.mark) + ": " + f.found
	if f.do != "" {
		text += " -> " + f.do
	}
	if f.ends != statusOK {
		text += fmt.Sprintf(" (%d)", f.ends)
	}
	return text
}

// expect fails unless a finding begins like want, has what follows ... of it, and says
// what to do if and only if it is not well.
func expect(t *testing.T, name string, f finding, want string) {
	t.Helper()
	got := told(f)
	for part := range strings.SplitSeq(want, "...") {
		if !strings.Contains(got, part) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if !strings.HasPrefix(got, want[:strings.IndexByte(want, ':')]) {
		t.Errorf("%s: %s, want %s", name, got, want)
	}
	if bad := f.mark == markWarning || f.mark == markFailure; bad != (f.do != "") {
		t.Errorf("%s: %s: is there something to do?", name, got)
	}
}

func TestDelayOfRedis(t *testing.T) {
	t.Parallel()
	fast := func(n int, d time.Duration) (all []time.Duration) {
		for range n {
			all = append(all, d)
		}
		return all
	}
	expect(t, "fast", delayOf(fast(20, 400*time.Microsecond)), "ok: round trip 400µs, the worst of 20 400µs")
	expect(t, "at the limit", delayOf(fast(20, slowRedis)), "ok: round trip 5ms")
	expect(t, "slow once", delayOf(append(fast(19, time.Millisecond), time.Second)), "ok: round trip 1ms, the worst of 20 1s")
	expect(t, "slow", delayOf(append(fast(9, time.Millisecond), fast(11, 5123*time.Microsecond)...)), "warning: round trip 5.1ms...-> bring")
}

func TestClockOfRedis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trip, ahead time.Duration
		want        string
	}{
		{2 * time.Millisecond, time.Millisecond, "ok: this machine's clock and Redis's agree, to 2ms"},
		{2 * time.Millisecond, 900 * time.Millisecond, "ok: Redis's clock is 900ms ahead of this machine's"},
		{2 * time.Millisecond, -500 * time.Millisecond, "ok: Redis's clock is 500ms behind"},
		{2 * time.Millisecond, 90 * time.Second, "warning: Redis's clock is 1m30s ahead...-> set both by NTP"},
		{0, -1001 * time.Millisecond, "warning: Redis's clock is 1s behind...-> set"},
		{3 * time.Second, 2 * time.Second, "ok: this machine's clock and Redis's agree, to 3s"}, // no better to be told
	} {
		expect(t, fmt.Sprint(c.trip, c.ahead), clockOf(c.trip, c.ahead), c.want)
	}
}

// What servers say of themselves; of a cluster the worst is told, with where it is.
func TestWhatRedisSays(t *testing.T) {
	t.Parallel()
	node := func(addr, facts string) redisNode {
		n := redisNode{addr: addr, facts: map[string]string{}}
		for _, f := range strings.Fields(facts) {
			name, value, _ := strings.Cut(f, ":")
			if name == "save" {
				value = strings.ReplaceAll(value, "_", " ")
				n.save = &value
				continue
			}
			n.facts[name] = value
		}
		return n
	}
	d := func(nodes ...redisNode) *doctor { return &doctor{nodes: nodes, at: redisAt{url: "redis://h:1/0"}} }
	ctx := context.Background()
	for _, c := range []struct{ facts, want string }{
		{"", "unknown: can't tell"},
		{"used_memory:1048576", "ok: 1.0 MB used, no limit is set"},
		{"used_memory:79 maxmemory:100", "ok: 79 B used of 100 B (maxmemory), 79 %"},
		{"used_memory:80 maxmemory:100", "warning: 80 B used of 100 B...-> raise maxmemory"},
		{"used_memory:3221225472 maxmemory:1099511627776", "ok: 3.0 GB used of 1.0 TB (maxmemory), 0 %"},
	} {
		expect(t, c.facts, d(node("", c.facts)).lookAtMemory(ctx), c.want)
	}
	for _, c := range []struct{ facts, want string }{
		{"", "unknown: can't tell"},
		{"aof_enabled:1 aof_last_write_status:ok", "ok: on, with an append-only file"},
		{"aof_enabled:1 aof_last_write_status:err", "failure: the append-only file can't be written"},
		{"aof_enabled:0", "unknown: can't tell: there is no append-only file"},
		{"aof_enabled:0 save:", "warning: off: ...-> CONFIG SET appendonly yes"},
		{"aof_enabled:0 save:3600_1 rdb_last_bgsave_status:ok", "ok: on, by snapshots"},
		{"aof_enabled:0 save:3600_1 rdb_last_bgsave_status:err", "failure: the last snapshot has failed"},
	} {
		expect(t, c.facts, d(node("", c.facts)).lookAtPersistence(ctx), c.want)
	}
	expect(t, "old", d(node("", "redis_version:6.0.16")).lookAtVersion(ctx), "failure: Redis at redis://h:1/0 is of version 6.0.16, muster needs 6.2 or newer...-> install")
	expect(t, "cluster", d(node("a:1", "maxmemory_policy:noeviction"), node("b:2", "maxmemory_policy:allkeys-lfu"), node("c:3", "")).lookAtPolicy(ctx),
		"warning: b:2: maxmemory-policy is allkeys-lfu...->")
	expect(t, "all well", d(node("a:1", "maxmemory_policy:noeviction"), node("b:2", "maxmemory_policy:noeviction")).lookAtPolicy(ctx),
		"ok: maxmemory-policy is noeviction")
	expect(t, "nobody", d().lookAtPolicy(ctx), "unknown: can't tell")
	expect(t, "replica", d(node("", "role:slave slave_read_only:1 master_host:m master_port:2")).lookAtWrites(ctx),
		"failure: Redis at redis://h:1/0 is a read-only replica of m:2...-> name the master")
}

// What to do about a Redis goes by what is wrong with it.
func TestRemedy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ at, text, want string }{
		{"redis://h:1", "connection refused", "start it"},
		{"redis://h:1", "no answer from Redis at redis://h:1: EOF", "rediss://"},
		{"redis://h:1", "LOADING Redis is loading the dataset in memory", "wait"},
		{"redis://h:1", "does not accept the user or the password", "user and password"},
		{"redis://h:1/99", "ERR DB index is out of range", "a database"},
		{"redis-cluster://h:1", "ERR This instance has cluster support disabled", "redis://"},
		{"redis-sentinel://h:1", "all sentinels specified in configuration are unreachable: redis: nil", "SENTINEL MASTERS"},
		{"redis-sentinel://h:1", "all sentinels specified in configuration are unreachable: i/o timeout", "start it"},
		{"rediss://h:1", "context deadline exceeded", "speaks TLS"},
		{"rediss://h:1", "tls: first record does not look like a TLS handshake", "speaks TLS"},
		{"rediss://h:1", "tls: failed to verify certificate: x509: certificate signed by unknown authority", "certificate"},
		{"rediss://h:1", "connection refused", "start it"},
	} {
		if got := remedy(c.at, c.text); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s: %s, want %s", c.at, c.text, got, c.want)
		}
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		queue  asynq.QueueInfo
		recent int64
		want   string
	}{
		{asynq.QueueInfo{}, 0, "ok: 0 pending, 0 active"},
		{asynq.QueueInfo{Pending: 3, Active: 2, Latency: 9 * time.Second}, 0, "ok: 3 pending, 2 active"},
		{asynq.QueueInfo{Pending: 3, Latency: 90 * time.Second}, 0, "warning: 3 pending, 0 active, the oldest pending for 1m30s...-> workers do not keep up"},
		{asynq.QueueInfo{Retry: 1}, 0, "ok: 0 pending, 0 active, 1 to be tried again"},
		{asynq.QueueInfo{Archived: 7}, 0, "ok: 0 pending, 0 active, 7 archived"},
		{asynq.QueueInfo{Archived: 7}, 2, "warning: 0 pending, 0 active, 7 archived: 2 requests rejected or given up within a day...-> muster events"},
		{asynq.QueueInfo{Paused: true, Pending: 1}, 0, "failure: the job queue is paused: 1 pending...-> let it go on"},
	} {
		expect(t, fmt.Sprintf("%+v", c.queue), jobsOf(&c.queue, c.recent), c.want)
	}
}

// What the ledger says of a host, read by read, and what it comes to.
func TestHowAHostWasReached(t *testing.T) {
	t.Parallel()
	const agent, old = "agent 7f3a", "json"
	for _, c := range []struct {
		client string
		reads  string // state, and what is counted behind a slash; one read a millisecond
		want   string
	}{
		{agent, "- sent done", "ok: UDP reaches it at 10.0.0.7:6655, it answered after 3ms"},
		{agent, "acknowledged acknowledged working done", "ok: UDP reaches it at 10.0.0.7:6655, it answered after 1ms"},
		{agent, "sent sent/2 done/2", "warning: UDP does not reach it at 10.0.0.7:6655, the TCP connection does: it answered when told the second time, after 3ms -> open UDP port 6655"},
		{agent, "sent/3 done/4", "warning: ...when told the 4th time"},
		{agent, "done done/2", "ok: UDP reaches it"}, // a count that is behind the answer
		{agent, "sent", "failure: no answer within 10s, told once by UDP at 10.0.0.7:6655...muster status AC1...(4)"},
		{agent, "sent sent/3", "failure: no answer within 10s, told 3 times by UDP...(4)"},
		{agent, "sent unanswered/5", "failure: no answer within 10s, told 5 times...(4)"},
		{agent, "sent missing", "failure: UDP reaches it at 10.0.0.7:6655, and it does not find...-> its --redis...(4)"},
		{agent, "offline", "failure: it has just gone offline...(4)"},
		{agent, "-", "failure: no worker has taken the request within 10s"},
		{agent, "received failed", "warning: UDP reaches it at 10.0.0.7:6655, it answered after 1ms, and exit 0 has failed there -> muster results AC1 --host web-1"},
		{old, "sent received done", "ok: UDP reaches it at 10.0.0.7:6655, its report came after 2ms (an old client)"},
		{old, "sent", "failure: no answer within 10s, told once by UDP at 10.0.0.7:6655: an old client, which answers by its report only -> open UDP port 6655...(4)"},
		{old, "sent/2 done/2", "warning: it answered when told the second time...-> see what is lost"},
	} {
		h := reached{Presence: tasks.Presence{Host: "web-1", Online: true, Addr: netip.MustParseAddrPort("10.0.0.7:6655"), Client: c.client}, sends: 1}
		for i, read := range strings.Fields(c.reads) {
			state, counted, _ := strings.Cut(strings.TrimPrefix(read, "-"), "/")
			sends, _ := strconv.Atoi(counted)
			h.note(tasks.State(state), sends, time.Duration(i+1)*time.Millisecond)
		}
		f := h.finding("AC1", 10*time.Second)
		expect(t, c.reads, f, c.want)
		if strings.HasSuffix(c.want, "(4)") != (f.ends == statusAbsent) {
			t.Errorf("%s: %s, want %s", c.reads, told(f), c.want)
		}
	}
}

// A page of muster's says that it is well; whatever else has its address does not.
func TestAddressOfAPage(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" && r.URL.Path != "/" {
			http.NotFound(w, r)
		}
		fmt.Fprint(w, "<title>hosts - muster</title>")
	}))
	defer page.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	moved := httptest.NewServer(http.RedirectHandler(page.URL+"/healthz", http.StatusFound))
	defer moved.Close()
	unwell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "worker: no requests are taken\nredis does not answer\n")
	}))
	defer unwell.Close()
	ctx := context.Background()
	bind := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	expect(t, "a page", lookAtPage(ctx, bind(page), "/healthz", ""), "ok: 127.0.0.1:...answers, and is well")
	expect(t, "the dashboard", lookAtPage(ctx, bind(page), "/", "muster"), "ok: 127.0.0.1:...answers, and is well")
	expect(t, "another page", lookAtPage(ctx, bind(page), "/", "grafana"), "warning: ...it is a page of something else...shows who has it")
	expect(t, "something else", lookAtPage(ctx, bind(other), "/healthz", ""), "warning: ...is taken, and does not say that it is well: answers 404 Not Found...shows who has it")
	expect(t, "elsewhere", lookAtPage(ctx, bind(moved), "/healthz", ""), "warning: ...answers 302 Found...shows who has it")
	expect(t, "unwell", lookAtPage(ctx, bind(unwell), "/healthz", ""), "warning: ...: worker: no requests are taken, redis does not answer...shows who has it")
	expect(t, "free", lookAtPage(ctx, freePort, "/", ""), "ok: 127.0.0.1:0 is free")
	expect(t, "not here", lookAtPage(ctx, "192.0.2.1:1", "/", ""), "warning: nothing can listen on 192.0.2.1:1...-> choose")
	for bind, want := range map[string]string{
		"0.0.0.0:1": "127.0.0.1:1", ":1": "127.0.0.1:1", "[::]:1": "[::1]:1", "127.0.0.1:1": "127.0.0.1:1", "web:1": "web:1",
	} {
		if got := nearby(bind); got != want {
			t.Errorf("%s is dialled as %s, want %s", bind, got, want)
		}
	}
}

// A Redis that stops answering meanwhile is waited for once, not by each check.
func TestDoctorWhenRedisFallsSilent(t *testing.T) {
	t.Parallel()
	s := redistest.Open(t)
	ln, err := net.Listen("tcp", freePort)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var silent atomic.Bool
	go func() { // until ln is closed
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.Addr)
			if err != nil {
				in.Close()
				return
			}
			go func() { // until doctor closes the connection
				defer out.Close()
				b := make([]byte, 1<<16)
				for {
					n, err := in.Read(b)
					if err != nil {
						return
					}
					if silent.Store(silent.Load() || bytes.Contains(b[:n], []byte("zadd"))); !silent.Load() {
						_, _ = out.Write(b[:n]) // it may have ended
					}
				}
			}()
			go func() {
				defer in.Close()
				_, _ = io.Copy(in, out) // as long as both are there
			}()
		}
	}()
	var out, errs bytes.Buffer
	url := "redis://" + ln.Addr().String() + "/0?read_timeout=300ms"
	code := run(context.Background(), []string{"muster", "doctor", "--redis", url, "--host", "a"}, nil, &out, &errs, nil)
	if code != 1 || errs.Len() > 0 || strings.Count(out.String(), "failure\t") != 1 || strings.Count(out.String(), withoutRedis) < 10 ||
		!strings.Contains(out.String(), "failure\tredis-writes\tno answer from Redis at redis://127.0.0.1:") {
		t.Errorf("status %d\n%s%s", code, &out, &errs)
	}
}

func TestWhoHas(t *testing.T) {
	t.Parallel()
	for _, c := range [][4]string{
		{"linux", "tcp", "127.0.0.1:80", "ss -ltnp 'sport = :80'"},
		{"linux", "udp", ":6655", "ss -lunp 'sport = :6655'"},
		{"darwin", "udp", ":6655", "lsof -nP -iUDP:6655"},
		{"windows", "tcp", "[::]:80", `netstat -ano -p tcp | findstr ":80 "`},
	} {
		if got := whoHasOn(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%s: %s", c[:3], got)
		}
	}
}

func TestDoctorMisused(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"now": "doctor takes no argument", "--host a/b": "--host \"a/b\" is no host id",
		"--wait-timeout 0s": "--wait-timeout 0s: want more than zero", "--redis x": "--redis: malformed URL",
	} {
		var out, errs bytes.Buffer
		code := run(context.Background(), append([]string{"muster", "doctor"}, strings.Fields(args)...), nil, &out, &errs, nil)
		if code != 2 || out.Len() > 0 || !regexp.MustCompile("^muster: "+regexp.QuoteMeta(want)+".*\n$").Match(errs.Bytes()) {
			t.Errorf("%s: status %d, %q, %q", args, code, &out, &errs)
		}
	}
}

// Nothing that is printed or logged has a password in it, whatever the URL is like and
// whatever becomes of it. A Redis without a password takes any for the user default.
func TestDoctorSaysNoPassword(t *testing.T) {
	t.Parallel()
	s := redistest.Open(t)
	for _, url := range []string{
		"redis://default:hidden@" + s.Addr + "/0",
		"redis://who:hidden@" + s.Addr + "/0",
		"redis-cluster://default:hidden@" + s.Addr,
		"redis-sentinel://default:hidden@" + s.Addr + "/0?master_name=m&sentinel_username=u&sentinel_password=hidden",
		"rediss://:hidden@127.0.0.1:1/0",
		"redis://:hidden@127.0.0.1:1/0?nonsense=hidden",
		"redis://:hi@hidden@127.0.0.1:1",
		"redis://:hi/hidden@127.0.0.1:1",
		"redis://:12/hidden@127.0.0.1:1",
		"redis://:hidden%zz@127.0.0.1:1",
		"redis://hidden:127.0.0.1:1",
		"redis://u:hidden@127.0.0.1:1/hidden",
		"unix://:hidden@/nowhere/sock?db=1",
		"unix://:12/hidden@/nowhere/sock",
		"unix://:hi@12/hidden@/nowhere/sock",
		"hidden",
		"u:hidden@127.0.0.1:1",
	} {
		for _, more := range []string{"--json", "--log-level=debug"} {
			var said screen // the Redis client may log on when the verb is done
			code := run(context.Background(), []string{"muster", "doctor", "--host", "a", "--redis", url, more}, nil, &said, &said, nil)
			if code == 0 || strings.Contains(said.all(), "hidden") {
				t.Errorf("%s %s: status %d\n%s", url, more, code, said.all())
			}
		}
	}
}
