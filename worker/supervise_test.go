package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

// always is the round of a service that nobody kills.
func always() error { return nil }

// killer has services fail, each as often as there is a way for it.
type killer struct {
	mu   sync.Mutex
	ways map[string][]func() error
}

func (k *killer) arm(service string, ways ...func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ways = map[string][]func() error{service: ways}
}

func (k *killer) fault(service string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ways := k.ways[service]
	if len(ways) == 0 {
		return nil
	}
	k.ways[service] = ways[1:]
	return ways[0]()
}

func panics() error { panic("killed") }
func fails() error  { return errors.New("killed") }

var soon = supervise.Pace{First: time.Millisecond, Most: 10 * time.Millisecond}

// startKilled runs a worker whose services k kills, and returns what its Run returns.
func (f *fixture) startKilled(ctx context.Context, k *killer, after func(string) error) <-chan error {
	f.Helper()
	w, err := New(Config{Redis: f.rdb, Log: f.log})
	if err != nil {
		f.Fatal(err)
	}
	w.fault, w.again, w.after = k.fault, soon, after
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return ended
}

// lines counts lines of the log by message, service and error.
func (f *fixture) lines(message, service, failure string) (n int) {
	for _, e := range f.logs.AllEntries() {
		err, _ := e.Data[logrus.ErrorKey].(error)
		if e.Message == message && (service == "" || e.Data["service"] == service) &&
			(failure == "" || err != nil && strings.Contains(err.Error(), failure)) {
			n++
		}
	}
	return n
}

// noStacks fails the test if a line of the log above debug shows a stack.
func (f *fixture) noStacks() {
	f.Helper()
	for _, e := range f.logs.AllEntries() {
		if line, _ := e.String(); e.Level < logrus.DebugLevel && strings.Contains(line, "goroutine ") {
			f.Errorf("a stack in the log: %s", line)
		}
	}
}

// Each service of a worker is killed in turn while requests come. It comes back, and
// each request is one dispatch of which each host is told once.
func TestKilledServicesComeBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := listen(t)
	f.online("10.0.0.5", "json", old.addr) // old clients show if they are told twice
	k := &killer{}
	k.arm("queue", panics, fails) // it goes round where it begins
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var once sync.Once
	ended := f.startKilled(ctx, k, func(step string) error {
		if step == "enqueue" { // the job is there, and its entry too
			once.Do(func() { panic("killed halfway") })
		}
		return nil
	})
	var numbers []string
	for _, service := range []string{"queue", "requests", "deadlines", "due", "arrived", "jobs", "holding", "sweep"} {
		times := 2
		if service == "requests" {
			times++ // halfway
		}
		if service != "queue" {
			k.arm(service, panics, fails)
		}
		for range 2 {
			n := fmt.Sprintf("AC%d", len(numbers))
			numbers = append(numbers, n)
			f.event("task.sent", f.add("key", n, "commands", `{"a":1}`, "hosts", `["10.0.0.5"]`, "deadline_s", "600"))
		}
		redistest.Eventually(t, service+" is started again", func() bool {
			return f.lines("service started again", service, "") == times
		})
		if n := f.lines("service failed, it is started again", service, "killed"); n != times {
			t.Errorf("%d lines say that %s has failed, want %d", n, service, times)
		}
	}
	// All of it works by now: what is due at its deadline is ended, too.
	last := f.add("key", "AClast", "commands", `{"a":1}`, "hosts", `["10.0.0.5"]`, "deadline_s", "1")
	f.event("task.sent", last)
	f.event("task.closed", last)
	f.drained()
	old.wants(append(numbers, "AClast")...)
	for _, n := range numbers {
		if l := f.ledger(tasks.Number(n)); counts(l) != "sent:1" {
			t.Errorf("%s: %s", n, counts(l))
		}
		f.sound(tasks.Number(n))
	}
	f.noStacks()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A service that can't stay up ends the worker with an error that names it. What it was
// about is left for others.
func TestAServiceThatCantStayUp(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"requests", "queue", "holding"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			old := listen(t)
			f.online("10.0.0.5", "json", old.addr)
			k := &killer{}
			k.arm(service, panics, panics, panics, panics, panics, panics)
			ended := f.startKilled(context.Background(), k, nil)
			id := f.add("key", "AC1", "commands", `{"a":1}`, "hosts", `["10.0.0.5"]`)
			want := "worker: " + service + " can't stay up, it failed 6 times in a short time, the last time with: panic: killed"
			if err := <-ended; err == nil || err.Error() != want {
				t.Errorf("Run: %v, want %s", err, want)
			}
			f.start(Config{})
			f.event("task.sent", id)
			old.wants("AC1")
			f.drained()
		})
	}
}

// A job that panics is tried again, and the log says so in a line. Where it is not to be
// tried again the request is rejected.
func TestPanicOfAJob(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"taken", "open"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var once sync.Once
			ctx, cancel := context.WithCancel(context.Background())
			ended := f.startKilled(ctx, &killer{}, func(s string) error {
				if s == step {
					once.Do(func() { panic("killed") })
				}
				return nil
			})
			f.event("task.sent", f.add("key", "AC1", "commands", `{"a":1}`, "hosts", `["h1"]`))
			f.sound("AC1")
			if n := f.lines("dispatch was cut short, it will be tried again", "", "panic: killed"); n != 1 {
				t.Errorf("%d lines of it in the log", n)
			}
			if n := f.lines(queueSays, "", ""); n != 0 {
				for _, e := range f.logs.AllEntries() {
					if e.Message == queueSays && e.Level < logrus.DebugLevel {
						t.Errorf("the queue says %v", e.Data)
					}
				}
			}
			f.noStacks()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	f := newFixture(t)
	d := f.dispatcher(&order{})
	d.after = func(string) error { panic("killed") }
	var no *rejection
	if err := d.run(t.Context(), "r1", job(`{"key":"AC1","commands":{"a":1},"hosts":["h1"]}`), true); !errors.As(err, &no) {
		t.Errorf("the last try: %v, want a rejection", err)
	}
	if e := f.event("request.rejected", "r1"); e.Key != "AC1" || e.Reason != "panic: killed" {
		t.Errorf("event %+v", e)
	}
}

// What panics on an agenda is left for a while, and keeps nothing else.
func TestPanicOnAnAgenda(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	list := tasks.NewAgenda(f.rdb, tasks.KeyDue)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 100)
	all := watchRedis(f.log)
	a := &agenda{list: list, what: "task", log: f.log, away: all.Part("task"),
		do: func(_ context.Context, _ time.Time, member string) (time.Time, error) {
			seen <- member
			if member == "bad" {
				panic("killed")
			}
			return time.Time{}, nil
		}}
	if err := list.Hold(ctx, 0, "bad", "good"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.run(ctx, always) }()
	redistest.Eventually(t, "the good one is done with, and the bad one put off", func() bool {
		good := f.rdb.ZScore(ctx, tasks.KeyDue, "good").Err()
		bad, err := f.rdb.ZScore(ctx, tasks.KeyDue, "bad").Result()
		return good != nil && err == nil && bad > float64(time.Now().Add(brokenAgain/2).UnixMilli())
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := f.lines("can't be looked after", "", "panic: killed"); n != 1 || len(seen) != 2 {
		t.Errorf("%d lines of it in the log, %d looks", n, len(seen))
	}
	f.noStacks()
}
