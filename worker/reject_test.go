package worker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// manyHosts is a JSON list of n host ids.
func manyHosts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"host-%06d"`, i)
	}
	return "[" + b.String()[1:] + "]"
}

func manyCommands(n, size int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%0*d":1`, size, i)
	}
	return "{" + b.String()[1:] + "}"
}

// Each kind of bad request is rejected with a reason that names what is wrong, in an
// event and in an archived job; nothing of it is written and nothing stays behind.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const good = `{"uptime": 1}`
	cases := []struct {
		name   string
		fields []any
		reason string // a part of it
	}{
		{"nothing but an unknown field", []any{"x", "y"}, "x: unknown field"},
		{"no commands", []any{"key", "AC1"}, "commands: missing"},
		{"commands empty", []any{"key", "AC1", "commands", ""}, "commands: "},
		{"commands not JSON", []any{"key", "AC1", "commands", "uptime"}, "commands: not a JSON object"},
		{"commands cut off", []any{"key", "AC1", "commands", `{"uptime": 1`}, "commands: not a JSON object"},
		{"commands a list", []any{"key", "AC1", "commands", `["uptime"]`}, "commands: not a JSON object"},
		{"commands null", []any{"key", "AC1", "commands", `null`}, "commands: not a JSON object"},
		{"commands two objects", []any{"key", "AC1", "commands", good + good}, "commands: not a JSON object"},
		{"no command", []any{"key", "AC1", "commands", `{}`}, "commands: 0 commands"},
		{"empty command", []any{"key", "AC1", "commands", `{"": 1}`}, "commands: a command of 0 bytes"},
		{"command too long", []any{"key", "AC1", "commands", manyCommands(1, 8193)}, "commands: a command of 8193 bytes"},
		{"too many commands", []any{"key", "AC1", "commands", manyCommands(1001, 4)}, "commands: "},
		{"commands too long together", []any{"key", "AC1", "commands", manyCommands(17, 8192)}, "bytes together"},
		{"command twice", []any{"key", "AC1", "commands", `{"a": 1, "a": 2}`}, `commands: "a" stands twice`},
		{"priority a text", []any{"key", "AC1", "commands", `{"a": "1"}`}, "priority"},
		{"priority null", []any{"key", "AC1", "commands", `{"a": null}`}, "priority"},
		{"priority infinite", []any{"key", "AC1", "commands", `{"a": 1e999}`}, "finite"},
		{"hosts not JSON", []any{"key", "AC1", "commands", good, "hosts", "web-1,web-2"}, "hosts: "},
		{"hosts a text", []any{"key", "AC1", "commands", good, "hosts", `"web-1"`}, "hosts: "},
		{"hosts empty", []any{"key", "AC1", "commands", good, "hosts", `[]`}, "hosts: an empty list"},
		{"host no id", []any{"key", "AC1", "commands", good, "hosts", `["-web"]`}, `hosts: "-web" is no host id`},
		{"host a number", []any{"key", "AC1", "commands", good, "hosts", `[1]`}, "hosts: "},
		{"host null", []any{"key", "AC1", "commands", good, "hosts", `[null]`}, "hosts: "},
		{"too many hosts", []any{"key", "AC1", "commands", good, "hosts", manyHosts(100_001)}, "hosts: "},
		{"key empty", []any{"key", "", "commands", good}, "key: "},
		{"key without AC", []any{"key", "131", "commands", good}, "key: "},
		{"key with a brace", []any{"key", "AC{1}", "commands", good}, "key: "},
		{"key with a line feed", []any{"key", "AC1\n", "commands", good}, "key: "},
		{"key too long", []any{"key", "AC" + strings.Repeat("1", 63), "commands", good}, "key: "},
		{"timeout 0", []any{"key", "AC1", "commands", good, "timeout_s", "0"}, "timeout_s: 0"},
		{"timeout too long", []any{"key", "AC1", "commands", good, "timeout_s", "604801"}, "timeout_s: 604801"},
		{"timeout a text", []any{"key", "AC1", "commands", good, "timeout_s", "10m"}, `timeout_s: "10m"`},
		{"timeout a JSON text", []any{"key", "AC1", "commands", good, "timeout_s", `"600"`}, "timeout_s: "},
		{"timeout empty", []any{"key", "AC1", "commands", good, "timeout_s", ""}, "timeout_s: "},
		{"deadline a fraction", []any{"key", "AC1", "commands", good, "deadline_s", "1.5"}, "deadline_s: 1.5"},
		{"deadline negative", []any{"key", "AC1", "commands", good, "deadline_s", "-1"}, "deadline_s: -1"},
		{"offline empty", []any{"key", "AC1", "commands", good, "offline", ""}, "offline: "},
		{"offline unknown", []any{"key", "AC1", "commands", good, "offline", "later"}, "offline: "},
		{"signature", []any{"key", "AC1", "commands", good, "signature", "x"}, "signature: "},
		{"unknown field", []any{"key", "AC1", "commands", good, "host", "web-1"}, "host: unknown field"},
		{"key twice", []any{"key", "AC1", "key", "AC1", "commands", good}, "key: stands twice"},
		{"commands twice", []any{"key", "AC1", "commands", good, "commands", good}, "commands: stands twice"},
		{"field not UTF-8", []any{"key", "AC1", "commands", good, "x\xff", "y"}, "not UTF-8"},
		{"command not UTF-8", []any{"key", "AC1", "commands", "{\"a\xff\": 1}"}, "not UTF-8"},
		{"host not UTF-8", []any{"key", "AC1", "commands", good, "hosts", "[\"a\xc3\"]"}, "not UTF-8"},
		{"long field cut inside a letter", []any{strings.Repeat("é", 80), "y", "commands", good}, "unknown field"},
		{"entry too large", []any{"key", "AC1", "commands", good, "hosts", strings.Repeat(" ", maxEntry+1)}, "want at most 20971520"},
	}
	ids := make([]string, len(cases))
	for i, c := range cases {
		ids[i] = f.add(c.fields...)
	}
	f.start(Config{})
	inspector := asynq.NewInspectorFromRedisClient(f.rdb)
	for i, c := range cases {
		e := f.event("request.rejected", ids[i])
		if !strings.Contains(e.Reason, c.reason) || !utf8.ValidString(e.Reason) {
			t.Errorf("%s: reason %q, want %q in it", c.name, e.Reason, c.reason)
		}
		if len(e.Reason) > 500 {
			t.Errorf("%s: a reason of %d bytes", c.name, len(e.Reason))
		}
		var info *asynq.TaskInfo
		redistest.Eventually(t, "archived job of "+c.name, func() bool {
			var err error
			info, err = inspector.GetTaskInfo(tasks.JobQueue, ids[i])
			return err == nil && info.State == asynq.TaskStateArchived
		})
		if info.LastErr != e.Reason || len(info.Payload) > 4<<20 {
			t.Errorf("%s: the job shows %q and %d bytes", c.name, info.LastErr, len(info.Payload))
		}
		// The number is named where it is one.
		if k := c.fields[1]; c.fields[0] == "key" && tasks.Number(fmt.Sprint(k)) != e.Key {
			if _, err := tasks.ParseNumber(fmt.Sprint(k)); err == nil {
				t.Errorf("%s: the event names %q, want %q", c.name, e.Key, k)
			}
		}
	}
	f.drained()
	// A worker may have noted a job as active just before it ended; that note goes soon.
	redistest.Eventually(t, "no job is noted any more", func() bool {
		return f.rdb.Exists(t.Context(), tasks.KeyJobs).Val() == 0
	})
	f.onlyKeys()
	if n := len(f.events("request.rejected")); n != len(cases) {
		t.Errorf("%d events of %d requests", n, len(cases))
	}
	warned := 0
	for _, e := range f.logs.AllEntries() {
		if e.Level == logrus.WarnLevel && e.Message == "request rejected" {
			warned++
		} else if e.Level <= logrus.WarnLevel {
			t.Errorf("logged: %s %v", e.Message, e.Data)
		}
	}
	if warned != len(cases) {
		t.Errorf("%d warnings of %d requests", warned, len(cases))
	}
}

// onlyKeys fails the test if Redis holds a key of a task set.
func (f *fixture) onlyKeys() {
	f.Helper()
	keys, err := f.rdb.Keys(f.Context(), "*").Result()
	if err != nil {
		f.Fatal(err)
	}
	allowed := []string{tasks.KeyRequests, tasks.KeyEvents, tasks.KeyOnline, tasks.KeyClients, tasks.KeyListeners}
	for _, k := range keys {
		if !strings.HasPrefix(k, "asynq:") && !slices.Contains(allowed, k) {
			f.Errorf("key %q was written", k)
		}
	}
}

// A number that is another request's, or a key of something else, is not touched.
func TestNumberInUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h := listen(t)
	f.online("web-1", "agent i1", h.addr)
	f.rdb.Set(t.Context(), "ACforeign", "x", 0)
	f.start(Config{})
	first := f.add("key", "AC1", "commands", `{"uptime": 1}`)
	f.event("task.sent", first)
	second := f.add("key", "AC1", "commands", `{"reboot": 1}`)
	if e := f.event("request.rejected", second); e.Key != "AC1" || !strings.Contains(e.Reason, "in use") || !strings.Contains(e.Reason, first) {
		t.Errorf("rejected %+v", e)
	}
	third := f.add("key", "ACforeign", "commands", `{"reboot": 1}`)
	if e := f.event("request.rejected", third); e.Key != "ACforeign" || !strings.Contains(e.Reason, "in use") {
		t.Errorf("rejected %+v", e)
	}
	h.wants("AC1")
	if got := f.rdb.ZRange(t.Context(), "AC1", 0, -1).Val(); strings.Join(got, ",") != "uptime" {
		t.Errorf("set %q", got)
	}
	if got := f.rdb.Get(t.Context(), "ACforeign").Val(); got != "x" {
		t.Errorf("the key of something else is %q", got)
	}
	if l := f.ledger("AC1"); l.Request != first || counts(l) != "sent:1" {
		t.Errorf("ledger %+v", l)
	}
}

// What Redis refuses for good, and what has failed to the last try, is rejected with
// the reason; what may go away is tried again and not recorded.
func TestFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.dispatcher(&counter{})
	ctx := t.Context()
	var no *rejection

	broken := errors.New("broken \xff")
	d.after = func(string) error { return broken }
	err := d.run(ctx, "r1", job(`{"commands":{"a":1}}`), false)
	if errors.As(err, &no) || errors.Is(err, asynq.SkipRetry) || !errors.Is(err, broken) || !utf8.ValidString(err.Error()) {
		t.Errorf("first try: %v", err)
	}
	if n := len(f.events("request.rejected")); n != 0 {
		t.Errorf("%d rejections recorded", n)
	}
	err = d.run(ctx, "r1", job(`{"commands":{"a":1}}`), true)
	if !errors.As(err, &no) || !errors.Is(err, asynq.SkipRetry) || no.reason != `broken \xff` || no.key != "ACr1" {
		t.Errorf("last try: %v", err)
	}
	if e := f.event("request.rejected", "r1"); e.Reason != `broken \xff` || e.Key != "ACr1" {
		t.Errorf("recorded %+v", e)
	}

	d.after = nil
	f.rdb.Set(ctx, tasks.KeyOnline, "x", 0)
	err = d.run(ctx, "r2", job(`{"commands":{"a":1}}`), false)
	if !errors.As(err, &no) || !strings.Contains(no.reason, "WRONGTYPE") {
		t.Errorf("a key of another type: %v", err)
	}
	err = d.run(ctx, "r3", asynq.NewTask("other", nil), false)
	if !errors.As(err, &no) || !strings.Contains(no.reason, `"other"`) {
		t.Errorf("another type of job: %v", err)
	}
	// An event that can't be recorded leaves the job in the queue.
	f.rdb.Set(ctx, tasks.KeyEvents, "x", 0)
	if err = d.run(ctx, "r4", job(`x`), false); err == nil || errors.Is(err, asynq.SkipRetry) {
		t.Errorf("rejected in silence: %v", err)
	}
}

// A pipeline of two: repeated fields survive in RESP2 as they do in RESP3.
func TestRepeatedFieldInRESP2(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	two := redis.NewClient(&redis.Options{Addr: f.redis.Addr, Protocol: 2, DisableIdentity: true})
	defer two.Close()
	stop := f.start(Config{Redis: two})
	defer stop()
	bad := f.add("key", "AC1", "key", "AC2", "commands", `{"uptime": 1}`)
	good := f.add("key", "AC3", "commands", `{"uptime": 1}`)
	f.event("request.rejected", bad)
	f.event("task.sent", good)
	f.drained()
}
