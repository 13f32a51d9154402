package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// A page follows what happens over one live connection, without being asked for again.
func TestHostComesAndGoesLive(t *testing.T) {
	t.Parallel()
	at := brisk()
	at.check = time.Hour // it is the events that tell
	s := serveOn(t, redistest.Open(t), at)
	s.eventually("/", "the roll is read", func(p *page) bool { return p.id("hosts-online") == "0" })
	live := s.follow("numbers", "news", "roll", "chart:1h", "host:web-1")

	s.join("l1", "web-1")
	seen := map[string]bool{}
	wait := func(online, news string) {
		t.Helper()
		clear(seen)
		live.until("numbers, news, roll and host after "+news, func(m sent) bool {
			switch {
			case m.event == "swap" && m.data.Region == "numbers":
				seen["numbers"] = parsed(t, m.data.HTML).id("hosts-online") == online
			case m.event == "swap" && m.data.Region == "news":
				seen["news"] = strings.Contains(words(parsed(t, m.data.HTML).root), news)
			case m.event == "swap" && m.data.Region == "chart":
				seen["chart"] = strings.Contains(m.data.HTML, "highest 1") || strings.Contains(m.data.HTML, "1 all the time")
			case m.event == "stale":
				seen[m.data.Region] = true
			}
			return seen["numbers"] && seen["news"] && seen["roll"] && seen["host"] && seen["chart"]
		})
	}
	wait("1", "came web-1")
	p := s.get("/", http.StatusOK)
	if got := p.rows(); !slices.Equal(got, []string{"web-1"}) {
		t.Errorf("roll %v", got)
	}
	if got := p.region("roll"); !strings.Contains(got, "10.0.0.0:6655") || !strings.Contains(got, "agent") || !strings.Contains(got, "l1") || strings.Contains(got, "not known") {
		t.Errorf("row %q", got)
	}

	// What it tells of itself comes a moment later, and is found.
	s.must(tasks.NewRoll(s.rdb).Depart(t.Context(), nil, nil, []tasks.HostInfo{{
		Host: "web-1", Fields: map[string]string{"hostname": "front", "os": "plan9", "tags": `{"role":"db"}`}, IPv4: []string{"172.16.0.9"},
	}}))
	for _, q := range []string{"front", "os:plan9", "tag:role=db", "172.16.0.9"} {
		s.eventually("/?q="+q, "found by "+q, func(p *page) bool { return slices.Equal(p.rows(), []string{"web-1"}) })
	}

	s.leave("l1", "web-1")
	wait("0", "went web-1")
	if got := s.get("/", http.StatusOK).region("roll"); !strings.Contains(got, "No host is online") || !strings.Contains(got, "muster agent") {
		t.Errorf("empty roll: %q", got)
	}

	// Another instance that is refused is news, too.
	s.must(tasks.Record(t.Context(), s.rdb, tasks.Event{Type: "host.duplicate", Host: "web-1", Reason: "another instance is connected to l1"}))
	live.until("the one that was refused", func(m sent) bool {
		return m.data.Region == "news" && strings.Contains(words(parsed(t, m.data.HTML).root), "refused web-1 another instance is connected to l1")
	})
}

// raw puts hosts straight into Redis, at a listener with a lease, without any event.
func (s *site) raw(listener string, hosts ...string) {
	s.t.Helper()
	_, err := s.rdb.Pipelined(s.t.Context(), func(p redis.Pipeliner) error {
		p.ZAdd(s.t.Context(), tasks.KeyListeners, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: listener})
		for i, h := range hosts {
			p.HSet(s.t.Context(), tasks.KeyOnline, h, fmt.Sprintf("10.1.%d.%d:6655@%s", i>>8, i&255, listener))
			p.HSet(s.t.Context(), tasks.KeyClients, h, "json")
		}
		return nil
	})
	s.must(err)
}

// The roll follows Redis where no event tells of a change: entries made by other means,
// taken away, and hosts whose listener is dead.
func TestReconcileWithoutEvents(t *testing.T) {
	t.Parallel()
	at := brisk()
	at.every = time.Hour // it is the checks that tell
	s := serveOn(t, redistest.Open(t), at)
	ctx := t.Context()
	online := func(n string) func(*page) bool {
		return func(p *page) bool { return p.id("hosts-online") == n }
	}
	s.eventually("/", "the roll is read", online("0"))

	var hosts []string
	for i := range 500 {
		hosts = append(hosts, "raw-"+strconv.Itoa(i))
	}
	s.raw("l1", hosts...)
	s.raw("l2", "other-1", "other-2")
	// The leases are of a check, which may be older than the reading of the roll.
	p := s.eventually("/", "hosts without events", func(p *page) bool { return online("502")(p) && p.id("listeners-alive") == "2" })
	if got := p.region("listeners"); !strings.Contains(got, "l1 500 hosts") || !strings.Contains(got, "l2 2 hosts") {
		t.Errorf("listeners %q", got)
	}

	s.must(s.rdb.HDel(ctx, tasks.KeyOnline, hosts[:490]...).Err())
	s.eventually("/", "hosts taken away", online("12"))

	// A lease that ends takes its hosts along, and nothing else.
	s.must(s.rdb.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "l1"}).Err())
	p = s.eventually("/", "hosts of a dead listener", online("2"))
	if got := p.region("listeners"); !strings.Contains(got, "l1 0 hosts lease ended") {
		t.Errorf("listeners %q", got)
	}

	// An emptied Redis has nobody; what comes then is seen, also if its events begin with
	// lower ids than those that were read.
	s.must(s.rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.KeyEvents, ID: "99999999999999-0", Values: []string{"type", "host.duplicate", "host", "late"}}).Err())
	s.eventually("/", "the last event", func(p *page) bool { return strings.Contains(p.region("news"), "refused late") })
	s.must(s.rdb.FlushAll(ctx).Err())
	s.eventually("/", "nobody", func(p *page) bool { return p.id("hosts-online") == "0" && p.id("listeners-alive") == "0" })
	s.join("l9", "fresh")
	s.eventually("/", "a host after the loss", func(p *page) bool {
		return p.id("hosts-online") == "1" && strings.Contains(p.region("news"), "came fresh") && !strings.Contains(p.region("news"), "late")
	})
	s.leave("l9", "fresh")
	s.eventually("/", "an event after the loss", func(p *page) bool { return strings.Contains(p.region("news"), "went fresh") })
}

// As many as before, but others: only reading all of it finds that.
func TestOneInPlaceOfAnother(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.raw("l1", "first")
	s.eventually("/", "the first", func(p *page) bool { return slices.Equal(p.rows(), []string{"first"}) })
	_, err := s.rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.HDel(t.Context(), tasks.KeyOnline, "first")
		p.HSet(t.Context(), tasks.KeyOnline, "second", "10.0.0.1:6655@l1")
		return nil
	})
	s.must(err)
	s.eventually("/", "the second", func(p *page) bool { return slices.Equal(p.rows(), []string{"second"}) })
}

// What the events of the past name is looked up, since the roll may have been read before;
// what comes by itself is not news twice.
func TestRecall(t *testing.T) {
	t.Parallel()
	r := redistest.Open(t)
	s := &site{t: t, rdb: r.Client, Server: newServer(t, r.Client, r.Client)}
	s.join("l1", "web-1")
	last, err := tasks.LastEvent(t.Context(), r.Client)
	s.must(err)
	s.join("l1", "web-2")
	s.must(s.recall(t.Context(), last))
	if list := s.news.newest(); len(list) != 1 || list[0].Host != "web-1" {
		t.Errorf("news %v", list)
	}
	if due := s.fleet.due; !due["web-1"] || !due["web-2"] {
		t.Errorf("to be looked up: %v", due)
	}
}

// Browsers are told when Redis goes away, and when it is back that all may have changed.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := unasked(t)
		log, lines := logtest.NewNullLogger()
		s.cfg.Log = log
		ctx, cancel := context.WithCancel(t.Context())
		var services sync.WaitGroup
		services.Go(func() { s.watch(ctx) })
		services.Go(func() { s.hub.run(ctx) })
		b := visit(t, s.hub, "redis", "roll")
		rest(silence / 2)
		s.contact.answered()
		rest(silence)
		if list := got(b); list != nil {
			t.Errorf("while Redis answers: %v", list)
		}
		s.contact.failed(errors.New("no route"))
		rest(2 * time.Second)
		if e := lines.LastEntry(); e == nil || fmt.Sprint(e.Data[logrus.ErrorKey]) != "no route" {
			t.Errorf("log: %v", e)
		}
		if list := got(b); len(list) != 1 || !strings.HasPrefix(list[0], "swap redis <p") {
			t.Errorf("Redis is away: %v", list)
		}
		s.contact.answered()
		rest(2 * time.Second)
		list := got(b)
		slices.Sort(list)
		if !slices.Equal(list, []string{"stale roll ", "swap redis "}) {
			t.Errorf("Redis is back: %v", list)
		}
		cancel()
		services.Wait()
	})
}

// A host that has come is read soon, and again when it has had time to tell of itself.
func TestInfosAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newInfoQueue()
		q.wantAgain("a")
		q.want("b", "a")
		var seen []string
		for range 12 {
			seen = append(seen, strings.Join(q.take(10), "+"))
			time.Sleep(time.Second)
		}
		if want := "a+b,,a,,,,,,,,a,"; strings.Join(seen, ",") != want {
			t.Errorf("read %v, want %s", seen, want)
		}
		if len(q.now) != 0 || len(q.there) != 0 || q.later[0] != nil || q.later[1] != nil {
			t.Errorf("left: %v %v %v", q.now, q.there, q.later)
		}
	})
}

// While Redis is away the page says since when, and shows what was last known.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	r := redistest.OpenReal(t)
	s := serveOn(t, r, brisk())
	s.join("l1", "web-1", "web-2")
	s.eventually("/", "two hosts", func(p *page) bool { return p.id("hosts-online") == "2" })
	redistest.Eventually(t, "ready", func() bool { return s.Ready(t.Context()) == nil })
	live := s.follow("redis", "numbers")
	if got := s.get("/", http.StatusOK).region("redis"); got != "" {
		t.Errorf("banner %q while Redis answers", got)
	}

	s.contact.mu.Lock()
	s.contact.most = silence
	s.contact.mu.Unlock()
	r.Stop()
	live.until("the banner", func(m sent) bool {
		return m.data.Region == "redis" && strings.HasPrefix(parsed(t, m.data.HTML).id("redis-away"), "Redis has not answered since ")
	})
	p := s.get("/", http.StatusOK)
	if got := p.rows(); !slices.Equal(got, []string{"web-1", "web-2"}) || !strings.HasPrefix(p.id("redis-away"), "Redis has not answered since 2") {
		t.Errorf("roll %v, banner %q", got, p.id("redis-away"))
	}
	if got := s.get("/hosts/web-1", http.StatusOK); !strings.HasPrefix(got.id("host-state"), "online") || !strings.Contains(got.region("dispatches"), "while Redis is away") {
		t.Errorf("host %q", got.region("host"))
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "redis has not answered for") {
		t.Errorf("ready: %v", err)
	}

	r.Start() // empty
	live.until("the end of the banner", func(m sent) bool { return m.event == "swap" && m.data.Region == "redis" && m.data.HTML == "" })
	s.eventually("/", "the empty roll", func(p *page) bool { return p.id("hosts-online") == "0" })
	s.join("l1", "web-3")
	s.eventually("/", "a host after the outage", func(p *page) bool { return slices.Equal(p.rows(), []string{"web-3"}) })
}

// A page is answered while there was no Redis yet at all.
func TestRedisNeverThere(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	s.fleet.read = time.Time{}
	s.contact.last, s.contact.began = time.Time{}, time.Now().Add(-time.Minute)
	p := find(t, s, "/")
	if got := p.id("redis-away"); !strings.HasPrefix(got, "Redis has not answered yet") {
		t.Errorf("banner %q", got)
	}
	if got := p.region("roll"); got != "The roll has not been read yet." {
		t.Errorf("roll %q", got)
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Error("it is ready")
	}
	s.contact.answered()
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "roll") {
		t.Errorf("ready without a roll: %v", err)
	}
}

// What was before the dashboard is known from the events.
func TestPastFromEvents(t *testing.T) {
	t.Parallel()
	r := redistest.Open(t)
	first := &site{t: t, rdb: r.Client}
	first.join("l1", "a", "b", "c")
	first.leave("l1", "b")
	s := serveOn(t, r, brisk())
	p := s.eventually("/", "the past", func(p *page) bool { return strings.Contains(p.region("chart"), "highest 3") })
	if got := p.region("news"); strings.Count(got, "came ") != 3 || !strings.Contains(got, "went b connection ended") {
		t.Errorf("news %q", got)
	}
	if got := p.region("roll"); strings.Contains(got, "not known") {
		t.Errorf("since when they are online is not known: %q", got)
	}
	live := s.follow("news")
	s.leave("l1", "a")
	m := live.until("the next news", func(m sent) bool { return m.data.Region == "news" })
	if got := words(parsed(t, m.data.HTML).root); strings.Count(got, "came ") != 3 || strings.Count(got, "went ") != 2 {
		t.Errorf("news %q", got) // none twice
	}
}

// Nobody's page costs Redis nothing: all hosts are gone round only while there is a browser,
// and a lease that is renewed is no news.
func TestNobodyLooks(t *testing.T) {
	t.Parallel()
	s := unasked(t)
	many(s, infoChunk*3/2)
	var round infoRound
	if got := round.next(s.fleet); len(got) != 0 {
		t.Errorf("%d hosts for nobody", len(got))
	}
	b := visit(t, s.hub, "listeners")
	if got := round.next(s.fleet); len(got) != infoChunk {
		t.Errorf("%d hosts when the first one looks", len(got))
	}
	s.hub.leave(b)
	if got := round.next(s.fleet); len(got) != 0 {
		t.Errorf("%d hosts when the last one has gone", len(got))
	}
	visit(t, s.hub, "listeners")
	if got := len(round.next(s.fleet)); got != infoChunk/2 || len(round.next(s.fleet)) != 0 {
		t.Errorf("%d hosts in the rest of the round", got)
	}

	touched := func(until time.Duration, runs bool) bool {
		s.fleet.compare(check{leases: []lease{{ID: "l1", Until: time.Now().Add(until), Runs: runs}}})
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		was := s.hub.topics["listeners"].touched
		s.hub.topics["listeners"].touched = false
		return was
	}
	got := fmt.Sprint(touched(10*time.Second, true), touched(11*time.Second, true), touched(-time.Second, false), touched(10*time.Second, true))
	if got != "true false true true" {
		t.Errorf("a new lease, one renewed, one ended, a new one: %s", got)
	}
	if got := find(t, s, "/").region("listeners"); got != "l1 75 hosts" {
		t.Errorf("shown: %q", got)
	}
}
