package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/swarm"
	"github.com/musterhq/muster/tasks"
)

// These variables make of the test binary a worker that kills itself when it has done a
// step for the nth time.
const (
	victimRedis = "MUSTER_TEST_VICTIM_REDIS"
	victimStep  = "MUSTER_TEST_VICTIM_STEP"
	victimNth   = "MUSTER_TEST_VICTIM_NTH"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimRedis) != "" {
		victim()
		return
	}
	os.Exit(m.Run())
}

// victim runs a worker until it dies.
func victim() {
	left, _ := strconv.Atoi(os.Getenv(victimNth))
	w, err := New(Config{
		Redis:        redis.NewClient(&redis.Options{Addr: os.Getenv(victimRedis), DisableIdentity: true}),
		PollInterval: time.Millisecond, Concurrency: 1,
	})
	if err != nil {
		panic(err)
	}
	w.after = func(step string) error {
		if step != os.Getenv(victimStep) {
			return nil
		}
		if left--; left > 0 {
			return nil
		}
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {} // it is not asked whether it wants to
	}
	if err := w.Run(context.Background()); err != nil {
		panic(err)
	}
}

// TestWorkerKilledAtEachStep has a worker killed at each step of a job in turn, with
// another one alive, which takes the dispatch up: long before the queue itself would give
// the job to another, which takes a minute at the least. How long it took is in the log.
func TestWorkerKilledAtEachStep(t *testing.T) {
	redistest.NeedReal(t)
	k := newKilling(t)
	for _, s := range []struct {
		step   string
		nth    int
		oldGet int // how often old clients are told: whoever opens a set tells them, or nobody
	}{
		{"enqueue", 1, 1}, // the job is made, the entry not acknowledged
		{"taken", 1, 1},   // taken from the queue, nobody says that he works on it
		{"prepare", 1, 1},
		{"enlist", 1, 1},
		{"enlist", 2, 1},
		{"open", 1, 0},
		{"tell", 1, 1},
	} {
		t.Run(fmt.Sprintf("%s-%d", s.step, s.nth), func(t *testing.T) { k.kill(t, s.step, s.nth, s.oldGet) })
	}
}

const (
	killAgents = 505 // more than one chunk of hosts
	killOld    = 5
	goesOn     = 40 * time.Second // from the worker's death
	isDone     = 50 * time.Second
)

// killing is a listener with hosts, and a worker that is never killed.
type killing struct {
	*fixture
	sys         *faults.System
	agents, old *swarm.Swarm
}

func newKilling(t *testing.T) *killing {
	dir := t.TempDir()
	binary, err := faults.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	udp := listen(t)
	port := int(udp.addr.Port())
	udp.conn.Close()
	sys, err := faults.Start(t.Context(), faults.Config{Dir: dir, Binary: binary, Listeners: 1,
		ListenerArgs: []string{"--client-udp-port", strconv.Itoa(port)}})
	t.Cleanup(sys.Close)
	if err != nil {
		t.Fatal(err)
	}
	k := &killing{sys: sys}
	k.fixture = fixtureOn(t, &redistest.Server{Addr: sys.Redis.Addr(), URL: sys.Redis.URL(), Client: sys.DB, Real: true})
	k.agents = k.swarm(swarm.Config{Hosts: killAgents, Count: true})
	k.old = k.swarm(swarm.Config{Hosts: killOld, Count: true, Old: true, UDPPort: port})
	// It seldom looks for jobs, so that the victim gets most of them.
	k.start(Config{PollInterval: 200 * time.Millisecond})
	k.within(30*time.Second, "all hosts are online, and the worker waits", func() bool {
		if k.workers() == 0 {
			return false
		}
		return k.rdb.HLen(t.Context(), tasks.KeyOnline).Val() == killAgents+killOld
	})
	return k
}

func (k *killing) swarm(cfg swarm.Config) *swarm.Swarm {
	k.Helper()
	cfg.Servers = k.sys.Addrs
	s, err := swarm.New(cfg)
	if err != nil {
		k.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { ended <- s.Run(ctx, func() { close(ready) }) }()
	k.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			k.Errorf("swarm: %v", err)
		}
	})
	<-ready
	return s
}

func (k *killing) within(most time.Duration, what string, done func() bool) {
	k.Helper()
	if err := faults.Wait(k.Context(), most, what, done); err != nil {
		k.Fatal(err)
	}
}

func (k *killing) kill(t *testing.T, step string, nth, oldGet int) {
	k = &killing{fixture: k.fixture.in(t), sys: k.sys, agents: k.agents, old: k.old}
	key, request, died := k.dieAt(step, nth)
	left := func(d time.Duration) time.Duration { return max(0, time.Until(died.Add(d))) }
	before := k.rdb.HGetAll(t.Context(), tasks.KeyMeta(key)).Val()

	// A run of the job that comes to its end records that the number was sent. One by the
	// victim can't be meant: it dies before it comes to that.
	k.within(left(goesOn), step+": the dispatch goes on after the worker's death", func() bool {
		return k.sent(request) > 0
	})
	t.Logf("the dispatch went on %v after the worker's death", time.Since(died).Round(time.Millisecond))
	k.within(left(isDone), step+": the dispatch is done", func() bool {
		n, err := k.rdb.HGet(t.Context(), tasks.KeyMeta(key), "done").Int()
		return err == nil && n == killAgents
	})
	after := k.rdb.HGetAll(t.Context(), tasks.KeyMeta(key)).Val()
	if c := before["created_ms"]; c != "" && c != after["created_ms"] {
		t.Errorf("the set was made at %s, and again at %s", c, after["created_ms"])
	}
	if after["request"] != request {
		t.Errorf("the set is of request %s, want %s", after["request"], request)
	}
	accepted := map[string]bool{}
	for _, e := range k.events("task.accepted") {
		if e.Key == key {
			accepted[e.Request] = true
		}
	}
	if len(accepted) != 1 || !accepted[request] {
		t.Errorf("accepted: %v, want request %s alone", accepted, request)
	}
	for n := range killOld {
		if got := k.old.Heard(n, string(key)).Datagrams; got != oldGet {
			t.Errorf("an old client was told %d times, want %d", got, oldGet)
		}
	}
	for n := range killAgents {
		if runs := k.agents.Heard(n, string(key)).Runs; runs != 1 {
			t.Errorf("an agent has run the set %d times", runs)
		}
	}
	a, err := faults.Recount(t.Context(), k.rdb, string(key))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range a.Wrong {
		t.Error(w)
	}
	k.drained()
	k.within(30*time.Second, "no job is left in the queue", func() bool {
		return k.rdb.LLen(t.Context(), queueKey("active")).Val()+k.rdb.LLen(t.Context(), queueKey("pending")).Val() == 0
	})
}

// in is the fixture for a test within the test.
func (f *fixture) in(t testing.TB) *fixture {
	inner := *f
	inner.TB = t
	return &inner
}

func (k *killing) sent(request string) int {
	n := 0
	for _, e := range k.events("task.sent") {
		if e.Request == request {
			n++
		}
	}
	return n
}

// dieAt starts a victim and asks for dispatches, one after another, until one has killed
// it. It returns which one that was.
func (k *killing) dieAt(step string, nth int) (tasks.Number, string, time.Time) {
	k.Helper()
	before := k.workers()
	self, err := os.Executable()
	if err != nil {
		k.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), victimRedis+"="+k.redis.Addr, victimStep+"="+step, victimNth+"="+strconv.Itoa(nth))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	ended := make(chan time.Time, 1)
	go func() {
		_ = cmd.Wait() // it is killed
		ended <- time.Now()
	}()
	k.Cleanup(func() { _ = cmd.Process.Kill() }) // of a victim that lives, or nothing
	k.within(20*time.Second, "the victim has joined the workers", func() bool {
		return k.workers() > before
	})
	hosts, err := json.Marshal(k.hosts())
	if err != nil {
		k.Fatal(err)
	}
	for try := range 30 {
		key := tasks.Number(fmt.Sprintf("AC%s-%d-%d", step, nth, try))
		request := k.add("key", string(key), "commands", `{"true": 1}`, "hosts", hosts)
		var died time.Time
		k.within(20*time.Second, string(key)+" is sent, or the victim dead", func() bool {
			select {
			case died = <-ended:
			default:
			}
			return !died.IsZero() || k.sent(request) > 0
		})
		if died.IsZero() {
			select { // the number was sent, and that was the last step
			case died = <-ended:
			case <-time.After(300 * time.Millisecond):
			}
		}
		if !died.IsZero() {
			return key, request, died
		}
	}
	k.Fatalf("the victim has survived 30 dispatches")
	return "", "", time.Time{}
}

func (k *killing) hosts() []string {
	var hosts []string
	for n := range killOld {
		hosts = append(hosts, k.old.ID(n))
	}
	for n := range killAgents {
		hosts = append(hosts, k.agents.ID(n))
	}
	return hosts
}

// workers is how many have ever joined the group of workers.
func (k *killing) workers() int {
	list, err := k.rdb.XInfoConsumers(k.Context(), tasks.KeyRequests, group).Result()
	if err != nil {
		return 0
	}
	return len(list)
}
