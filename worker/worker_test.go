package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

func TestNew(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	w, err := New(Config{Redis: rdb})
	if err != nil {
		t.Fatal(err)
	}
	got := w.cfg
	if got.Reader != redis.UniversalClient(rdb) || got.Concurrency != 10 || got.PollInterval != 10*time.Millisecond ||
		got.Keep != 7*24*time.Hour || got.UDPPort != 6655 || got.Log == nil {
		t.Errorf("defaults: %+v", got)
	}
	for _, bad := range []Config{
		{},
		{Redis: rdb, Concurrency: -1},
		{Redis: rdb, PollInterval: -1},
		{Redis: rdb, Keep: -1},
		{Redis: rdb, UDPPort: -1},
		{Redis: rdb, UDPPort: 65536},
	} {
		if _, err := New(bad); err == nil {
			t.Errorf("New accepts %+v", bad)
		}
	}
}

func TestNamedHosts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old, agent := listen(t), listen(t)
	f.online("10.0.0.5", "json", old.addr)
	f.online("web-1", "agent i1", agent.addr)
	f.start(Config{})

	id := f.add("key", "AC131", "commands", `{"uptime": 10, "df -h": 5}`, "hosts", `["web-1","10.0.0.5","web-9","web-1"]`, "timeout_s", "7", "deadline_s", "60")
	accepted, sent := f.event("task.accepted", id), f.event("task.sent", id)
	if accepted.Key != "AC131" || *accepted.Total != 3 || sent.Key != "AC131" || sent.More["datagrams"] != "2" {
		t.Errorf("events %+v, %+v", accepted, sent)
	}
	old.wants("AC131")
	agent.wants("AC131")
	l := f.ledger("AC131")
	if l.Stage != tasks.Open || l.Request != id || counts(l) != "sent:2 offline:1" ||
		l.Timeout != 7*time.Second || l.Deadline.Sub(l.Created) != time.Minute {
		t.Errorf("ledger %+v", l)
	}
	if got := f.rdb.ZRangeArgs(t.Context(), redis.ZRangeArgs{Key: "AC131", Start: 0, Stop: -1, Rev: true}).Val(); strings.Join(got, ",") != "uptime,df -h" {
		t.Errorf("set %q", got)
	}
	f.sound("AC131")
	f.drained()
}

func TestBroadcast(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hosts := []*host{listen(t), listen(t), listen(t)}
	f.online("10.0.0.5", "json", hosts[0].addr)
	f.online("web-1", "agent i1", hosts[1].addr)
	f.online("gone", "json", hosts[2].addr)
	// The listener of this one has lost its lease.
	f.rdb.HSet(t.Context(), tasks.KeyOnline, "gone", tasks.FormatPlace(hosts[2].addr, "l2"))
	f.start(Config{})

	id := f.add("key", "ACall", "commands", `{"uptime": 1}`)
	f.event("task.sent", id)
	hosts[0].wants("ACall")
	hosts[1].wants("ACall")
	hosts[2].wants()
	if l := f.ledger("ACall"); l.Stage != tasks.Open || counts(l) != "sent:2" || l.Total != 2 {
		t.Errorf("ledger %+v", l)
	}
	f.sound("ACall")
}

func TestBroadcastToNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start(Config{})
	id := f.add("key", "AC0", "commands", `{"uptime": 1}`)
	if e := f.event("task.sent", id); e.More["datagrams"] != "0" {
		t.Errorf("sent %+v", e)
	}
	if e := f.event("task.accepted", id); e.Total == nil || *e.Total != 0 {
		t.Errorf("accepted %+v", e)
	}
	f.event("task.closed", id)
	f.event("task.sent", id)
	if got := f.types(id); !slices.Equal(got, []string{"task.accepted", "task.closed", "task.sent"}) {
		t.Errorf("events %q, want the end after the beginning", got)
	}
	if l := f.ledger("AC0"); l.Stage != tasks.Closed || l.Total != 0 {
		t.Errorf("ledger %+v", l)
	}
}

// A job put into the queue by itself is as good as an entry, and the number is made
// from its id.
func TestDirectJob(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start(Config{})
	info, err := asynq.NewClientFromRedisClient(f.rdb).Enqueue(job(`{"commands":{"uptime":1},"hosts":["web-1"]}`), asynq.Queue(tasks.JobQueue))
	if err != nil {
		t.Fatal(err)
	}
	e := f.event("task.sent", info.ID)
	if e.Key != tasks.Number("AC"+info.ID) {
		t.Errorf("number %s of job %s", e.Key, info.ID)
	}
	if l := f.ledger(e.Key); l.Request != info.ID || counts(l) != "offline:1" || l.Stage != tasks.Closed {
		t.Errorf("ledger %+v", l)
	}
}

// An offline host whose id is an IP address is told once; no other is.
func TestOfflineAddress(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h := listen(t)
	f.start(Config{UDPPort: int(h.addr.Port())})
	id := f.add("key", "ACoff", "commands", `{"uptime": 1}`, "hosts", `["127.0.0.1","web-1","255.255.255.255","0.0.0.0"]`)
	if e := f.event("task.sent", id); e.More["datagrams"] != "1" {
		t.Errorf("sent %+v", e)
	}
	h.wants("ACoff")
	if l := f.ledger("ACoff"); counts(l) != "offline:4" || l.Stage != tasks.Closed {
		t.Errorf("ledger %+v", l)
	}
}

// A worker that is stopped leaves nothing behind in the group, and another goes on.
func TestStopAndGoOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	stop := f.start(Config{})
	first := f.add("key", "AC1", "commands", `{"uptime": 1}`)
	f.event("task.sent", first)
	stop()
	if left := f.rdb.XInfoConsumers(t.Context(), tasks.KeyRequests, group).Val(); len(left) != 0 {
		t.Errorf("consumers left: %+v", left)
	}
	second := f.add("key", "AC2", "commands", `{"uptime": 1}`)
	f.start(Config{})
	f.event("task.sent", second)
	f.drained()
}

// Redis is away at the start, comes, goes, and comes back empty: the worker goes on
// by itself and says so once an outage.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	f := fixtureOn(t, redistest.OpenReal(t))
	f.redis.Stop()
	f.start(Config{})
	logged := func(has func(*logrus.Entry) bool) (n int) {
		for _, e := range f.logs.AllEntries() {
			if has(e) {
				n++
			}
		}
		return n
	}
	warned := func() int { return logged(func(e *logrus.Entry) bool { return e.Level <= logrus.WarnLevel }) } // whoever warns
	begun := func() int {
		return logged(func(e *logrus.Entry) bool { return strings.HasPrefix(e.Message, "can't reach Redis") })
	}
	over := func() int { return logged(func(e *logrus.Entry) bool { return e.Message == "Redis works again" }) }
	before := 0
	for outage := 1; outage <= 2; outage++ {
		redistest.Eventually(t, "the outage is logged", func() bool { return warned() > before })
		begin := time.Now()
		redistest.Eventually(t, "all parts of the work have failed, and again", func() bool { return time.Since(begin) >= 3*time.Second })
		if n := warned() - before; n != 1 || begun() == 0 {
			t.Errorf("%d warnings of one outage, want 1", n)
		}
		f.redis.Start()
		// The worker's client goes on giving its last error for up to a second.
		look := *f
		look.rdb = redis.NewClient(&redis.Options{Addr: f.redis.Addr, DisableIdentity: true})
		defer look.rdb.Close()
		id := look.add("key", fmt.Sprintf("AC%d", outage), "commands", `{"uptime": 1}`)
		look.event("task.sent", id)
		look.drained()
		redistest.Eventually(t, "the end of the outage is logged", func() bool { return over() == begun() })
		// On a busy machine Redis may have been slow meanwhile, which is an outage, too.
		before = warned()
		f.redis.Stop()
	}
}

// A Redis that is full refuses everything: the worker waits without asking it all the
// time, and goes on.
func TestRedisFull(t *testing.T) {
	t.Parallel()
	f := fixtureOn(t, redistest.OpenReal(t))
	ctx := t.Context()
	f.start(Config{})
	f.event("task.sent", f.add("key", "AC1", "commands", `{"uptime": 1}`))
	f.rdb.ConfigSet(ctx, "maxmemory", "1")
	f.rdb.ConfigResetStat(ctx)
	begin := time.Now()
	redistest.Eventually(t, "a second passes", func() bool { return time.Since(begin) >= time.Second })
	// Its usual load is 150 a second.
	if n := f.calls(); n > 200 {
		t.Errorf("%d commands in a second", n)
	}
	f.rdb.ConfigSet(ctx, "maxmemory", "0")
	f.event("task.sent", f.add("key", "AC2", "commands", `{"uptime": 1}`))
	f.drained()
}

// A job that is under way when the worker is stopped is finished first.
func TestStopFinishesJobs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rdb := redis.NewClient(&redis.Options{Addr: f.redis.Addr, DisableIdentity: true})
	defer rdb.Close()
	hold := holdHook{reached: make(chan struct{}), release: make(chan struct{})}
	rdb.AddHook(&hold)
	stop := f.start(Config{Redis: rdb})
	id := f.add("key", "AC1", "commands", `{"uptime": 1}`)
	<-hold.reached
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	// The worker gives its name back before it waits for jobs.
	redistest.Eventually(t, "it is being stopped", func() bool {
		left, err := f.rdb.XInfoConsumers(t.Context(), tasks.KeyRequests, group).Result()
		return err == nil && len(left) == 0
	})
	select {
	case <-stopped:
		t.Error("Run returned with a job under way")
	default:
	}
	close(hold.release)
	<-stopped
	found := false
	for _, e := range f.events("task.sent") {
		found = found || e.Request == id
	}
	if !found {
		t.Error("the job was not finished")
	}
}

// holdHook holds up the first HGETALL, which is a job's look at its ledger.
type holdHook struct {
	once             sync.Once
	reached, release chan struct{}
}

func (h *holdHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *holdHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hgetall" {
			h.once.Do(func() {
				close(h.reached)
				<-h.release
			})
		}
		return next(ctx, cmd)
	}
}

func (h *holdHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
