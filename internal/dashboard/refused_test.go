package dashboard

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// forbid has Redis refuse commands.
func (s *site) forbid(commands ...string) {
	s.t.Helper()
	args := []any{"ACL", "SETUSER", "default"}
	for _, c := range commands {
		args = append(args, "-"+c)
	}
	s.must(s.rdb.Do(s.t.Context(), args...).Err())
}

// A refusal is no answer: what is known of hosts stays, Redis counts as away, and the page
// of a host says that not all could be read. A key of another type is nothing to show.
func TestRefusalIsNoAnswer(t *testing.T) {
	t.Parallel()
	r := redistest.OpenReal(t)
	s := &site{t: t, rdb: r.Client, Server: newServer(t, r.Client, r.Client)}
	ctx := t.Context()
	s.raw("l1", "web-1", "web-2")
	s.must(s.rdb.HSet(ctx, tasks.KeyHost("web-1", "info"), "hostname", "front").Err())
	s.must(s.rdb.Set(ctx, tasks.KeyHost("web-2", "info"), "no hash", 0).Err())
	s.must(s.rdb.Set(ctx, tasks.KeyWaiting("web-2"), "no set", 0).Err())
	s.put("AC1", "web-1")
	s.must(s.fleet.readAll(ctx, s.fleet.look(ctx)))
	s.must(s.fleet.readInfo(ctx, []string{"web-1", "web-2"}))
	if h := s.fleet.host("web-1"); h.info == nil || h.info.hostname != "front" || !s.fleet.host("web-2").info.empty() {
		t.Fatalf("read %+v", h.info)
	}
	if got := ask(t, s.Server, "/hosts/web-2").Body.String(); strings.Contains(got, "Not all could be read") {
		t.Errorf("keys of another type: %s", got)
	}

	s.forbid("hmget", "hgetall", "lrange", "hget", "sscan")
	s.contact.last = time.Now().Add(-time.Hour)
	if err := s.fleet.readInfo(ctx, []string{"web-1", "web-2"}); err == nil || s.contact.away() == nil {
		t.Errorf("refused: %v, away %v", err, s.contact.away())
	}
	if got := s.fleet.host("web-1").info.hostname; got != "front" {
		t.Errorf("hostname %q after a refusal", got)
	}
	s.contact.answered()
	v := func(read func(*hostView)) error {
		v := &hostView{ID: "web-1", s: s.Server, ctx: ctx}
		read(v)
		return v.failed
	}
	for what, err := range map[string]error{
		"info":       v(func(v *hostView) { v.Info() }),
		"waiting":    v(func(v *hostView) { v.Waiting() }),
		"dispatches": v(func(v *hostView) { v.Dispatches() }),
	} {
		if !redis.HasErrorPrefix(err, "NOPERM") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if w := ask(t, s.Server, "/tasks/AC1"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "Redis refuses: ") {
		t.Errorf("task page: %d %s", w.Code, w.Body)
	}
	w := httptest.NewRecorder()
	s.failWith(w, httptest.NewRequest("GET", "/", nil), errors.New("no route"))
	if !strings.Contains(w.Body.String(), "Redis does not answer: no route") {
		t.Errorf("away: %s", w.Body)
	}
}

// Of a series of refusals one is logged.
func TestRefusalsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	r := redistest.OpenReal(t)
	log, lines := logtest.NewNullLogger()
	server, err := New(Config{Redis: r.Client, Reader: r.Client, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, rdb: r.Client, Server: server}
	visit(t, s.hub, "ledger:AC1")
	s.forbid("hgetall", "zcard")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.sets.happened("AC1")
	w := s.newLooksWatch()
	for range 3 {
		s.sets.refresh(ctx, false)
		w.beat(ctx)
	}
	ended := make(chan error)
	go func() { ended <- s.sets.run(ctx) }()
	tries := 0
	s.must(s.rejected.load(ctx, func(context.Context, string) ([]tasks.Event, error) {
		if tries++; tries == 2 {
			cancel()
		}
		return nil, s.rdb.Do(context.WithoutCancel(ctx), "ZCARD", "k").Err()
	}))
	s.must(<-ended)
	seen := map[string]int{}
	for _, e := range lines.AllEntries() {
		seen[e.Message]++
	}
	for _, want := range []string{
		"the list of task sets can't be read, trying on", "task sets can't be read, trying on", "task sets that are on a page can't be read, trying on",
		"rejected requests can't be read, trying on",
	} {
		if seen[want] != 1 {
			t.Errorf("%d times %q", seen[want], want)
		}
	}
}
