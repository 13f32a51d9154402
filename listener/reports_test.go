package listener

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// set writes an open set of three commands for the given hosts.
func set(t *testing.T, rs *redistest.Server, n tasks.Number, hosts ...string) *tasks.Store {
	t.Helper()
	store := tasks.NewStore(rs.Client, tasks.StoreConfig{})
	r, err := tasks.Request{Key: n, Commands: []tasks.Command{{Line: "a", Priority: 3}, {Line: "b", Priority: 2}, {Line: "c", Priority: 1}}}.Validate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Prepare(ctx, "r-"+string(n), r); err != nil {
		t.Fatal(err)
	}
	var list []tasks.Enlisted
	for _, h := range hosts {
		list = append(list, tasks.Enlisted{Host: h, State: tasks.Sent})
	}
	if _, err := store.Enlist(ctx, n, list); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(ctx, n); err != nil {
		t.Fatal(err)
	}
	return store
}

func (r *running) state(n tasks.Number, host string) tasks.State {
	return tasks.State(r.rdb.HGet(ctx, tasks.KeyHosts(n), host).Val())
}

func TestReportsOfAnOldClient(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	r := start(t, rs, Config{})
	const ip = "127.0.20.1"
	store := set(t, rs, "AC1", ip, "127.0.20.2")
	h := r.old(ip)
	all, none := []string{"a", "b", "c"}, []string{}
	for _, step := range []struct {
		say  wire.Message
		want tasks.State
	}{
		{wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Time: 1}, tasks.Acknowledged},
		{wire.Status{Task: "AC1", Phase: 1, Lists: true, Complete: none, OnCall: all}, tasks.Received},
		{wire.Status{Task: "AC1", Phase: 2, Working: "a", Lists: true, Complete: none, OnCall: all}, tasks.Working},
		{wire.Status{Task: "AC1", Phase: 3, Lists: true, Complete: all[:1], OnCall: all[1:]}, tasks.Working},
		{wire.Status{Task: "AC1", Phase: 3, Lists: true, Complete: all, OnCall: none}, tasks.Done},
	} {
		h.say(step.say)
		redistest.Eventually(t, fmt.Sprintf("%s is %s", ip, step.want), func() bool { return r.state("AC1", ip) == step.want })
	}
	if got := rs.Client.LRange(ctx, tasks.KeyCompleteOf("AC1", ip), 0, -1).Val(); !reflect.DeepEqual(got, all) {
		t.Errorf("complete %q", got)
	}
	// Reports that belong nowhere are counted and write nothing.
	h.say(wire.Answer{Task: "AC404", RCC: wire.RCCReceived})
	r.old("127.0.20.9").say(wire.Status{Task: "AC1", Phase: 1, Lists: true, OnCall: all})
	redistest.Eventually(t, "both are counted", func() bool { return r.Stats().Stray.Load() == 2 })
	h.say(wire.Answer{RCC: wire.RCCUnreadable})
	redistest.Eventually(t, "it is counted", func() bool { return r.Stats().Unreadable.Load() == 1 })
	if findings, err := store.Verify(ctx, "AC1"); err != nil || len(findings) > 0 {
		t.Errorf("verify: %v %v", findings, err)
	}
	if keys := rs.Client.Keys(ctx, "*AC404*").Val(); len(keys) > 0 {
		t.Errorf("keys %v for a set that does not exist", keys)
	}
}

func TestAgentsAreConfirmedAfterRedisHasIt(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	r := start(t, rs, Config{})
	store := set(t, rs, "AC1", "web-1")
	h, _ := r.agent("web-1", "i1")
	seq := int64(0)
	for i, m := range []wire.Status{
		{Phase: 1, Lists: true, Complete: []string{}, OnCall: []string{"a", "b", "c"}},
		{Phase: 2, Working: "a"},
		{Phase: 3, Result: &wire.Result{Command: "a", Stdout: "out", StdoutBytes: 3}},
		{Phase: 3, Result: &wire.Result{Command: "b", ExitCode: 7, Stderr: "err", StderrBytes: 4, Truncated: true, Error: "timed out"}},
		{Phase: 3, Result: &wire.Result{Command: "c"}},
	} {
		seq++
		m.Task, m.Seq = "AC1", seq
		h.say(m)
		if i == 2 {
			h.say(m) // twice
		}
	}
	for confirmed := int64(0); confirmed < seq; {
		c, ok := h.hear().(wire.Confirm)
		if !ok || c.Seq < confirmed {
			t.Fatalf("heard %#v after the confirmation of %d", c, confirmed)
		}
		confirmed = c.Seq
		// What is confirmed is there.
		if done := rs.Client.LLen(ctx, tasks.KeyCompleteOf("AC1", "web-1")).Val(); done < confirmed-2 {
			t.Errorf("%d confirmed, but %d commands are complete", confirmed, done)
		}
	}
	if got := r.state("AC1", "web-1"); got != tasks.Failed {
		t.Errorf("state %s, want failed", got)
	}
	var results []tasks.Result
	if err := store.Results(ctx, "AC1", "", func(r tasks.Result) error { r.ID = ""; results = append(results, r); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []tasks.Result{
		{Host: "web-1", Command: "a", Stdout: "out", StdoutBytes: 3},
		{Host: "web-1", Command: "b", ExitCode: 7, Stderr: "err", StderrBytes: 4, Truncated: true, Error: "timed out"},
		{Host: "web-1", Command: "c"},
	}
	if !reflect.DeepEqual(results, want) {
		t.Errorf("results %+v", results)
	}
	if findings, err := store.Verify(ctx, "AC1"); err != nil || len(findings) > 0 {
		t.Errorf("verify: %v %v", findings, err)
	}
}

func TestLookups(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	r := start(t, rs, Config{})
	set(t, rs, "AC1", "web-1")
	h, _ := r.agent("web-1", "i1")
	other, _ := r.agent("web-2", "i1")
	h.say(wire.Lookup{Task: "AC1"})
	found, ok := h.hear().(wire.Found)
	want := []wire.Command{{Line: "a", Priority: 3}, {Line: "b", Priority: 2}, {Line: "c", Priority: 1}}
	if !ok || !found.Found || found.Request != "r-AC1" || found.TimeoutS != 600 || !reflect.DeepEqual(found.Commands, want) {
		t.Errorf("found %+v", found)
	}
	if left := time.Until(time.UnixMilli(found.DeadlineMS)); left < 50*time.Minute || left > 70*time.Minute {
		t.Errorf("deadline in %v, want an hour", left)
	}
	for _, q := range []struct {
		h    *host
		task string
	}{{other, "AC1"}, {h, "AC404"}} {
		q.h.say(wire.Lookup{Task: q.task})
		if got, ok := q.h.hear().(wire.Found); !ok || got.Found || got.Cancelled || got.Task != q.task || len(got.Commands) > 0 {
			t.Errorf("%s: heard %+v, want that it is not found", q.task, got)
		}
	}
	if err := r.rdb.HSet(t.Context(), tasks.KeyHosts("AC1"), "web-1", string(tasks.Cancelled)).Err(); err != nil {
		t.Fatal(err)
	}
	h.say(wire.Lookup{Task: "AC1"})
	if got := h.hear(); !reflect.DeepEqual(got, wire.Found{Task: "AC1", Cancelled: true}) {
		t.Errorf("heard %+v, want that it was cancelled", got)
	}
}

// Redis goes away and comes back: connections stay, and nothing is lost but what
// Redis itself has lost.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	rs := redistest.OpenReal(t)
	r := start(t, rs, Config{ID: "a"}, func(s *Server) { s.pace.renew, s.pace.step = 100*time.Millisecond, 100*time.Millisecond })
	old := r.old("127.0.21.1")
	h, _ := r.agent("web-1", "i1")
	r.on("127.0.21.1")
	rs.Stop()
	h.say(wire.Answer{Task: "AC1", RCC: 1, Seq: 5})
	redistest.Eventually(t, "the outage is logged", func() bool { return strings.Contains(r.log.String(), "does not answer") })
	r.dial("127.0.21.2").say(wire.Heartbeat{})
	// Nothing is confirmed that is not in Redis.
	_ = h.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if body, err := h.dec.Next(); err == nil {
		t.Errorf("heard %s while Redis was away", body)
	}
	rs.Start() // empty
	if m := h.hear(); m != (wire.Confirm{Seq: 5}) && m != (wire.Push{Action: wire.ActionInfo}) {
		t.Errorf("heard %#v", m)
	}
	for _, host := range []string{"127.0.21.1", "127.0.21.2", "web-1"} {
		r.on(host)
	}
	old.say(wire.Info{Hostname: "pc"})
	redistest.Eventually(t, "it is heard", func() bool { return rs.Client.Exists(ctx, tasks.KeyHost("127.0.21.1", "info")).Val() == 1 })
	if n := strings.Count(r.log.String(), "does not answer"); n > 2 {
		t.Errorf("%d lines for one outage", n)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	for name, cfg := range map[string]Config{
		"no redis":        {},
		"bad id":          {Redis: rs.Client, ID: "a b"},
		"frame too large": {Redis: rs.Client, MaxFrame: wire.MaxFrame + 1},
		"bad port":        {Redis: rs.Client, ClientUDPPort: 70000},
		"bad timeout":     {Redis: rs.Client, HeartbeatTimeout: -1},
		"session deleted": {Redis: rs.Client, OfflineDelete: []string{"session"}},
		"waiting deleted": {Redis: rs.Client, OfflineDelete: []string{"info", "waiting"}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s, err := New(Config{Redis: rs.Client})
	if err != nil {
		t.Fatal(err)
	}
	if !idForm.MatchString(s.ID()) || s.cfg.Bind != DefaultBind || s.cfg.HeartbeatTimeout != time.Minute {
		t.Errorf("defaults %+v", s.cfg)
	}
}
