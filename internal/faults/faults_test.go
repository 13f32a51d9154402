package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
)

// binaries is a directory that lives as long as the tests.
var binaries string // set by TestMain only

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "muster-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	return m.Run()
}

// binary builds muster once for all tests, without the race detector: what the tests
// look for are faults between processes.
var binary = sync.OnceValues(func() (string, error) { return Build(context.Background(), binaries) })

// fixture is a system that ends with the test.
type fixture struct {
	*testing.T
	*System
	asked map[string]bool // keys whose dispatch was asked for
}

func newFixture(t *testing.T, cfg Config) *fixture {
	t.Helper()
	redistest.NeedReal(t)
	var err error
	if cfg.Binary, err = binary(); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = t.TempDir()
	s, err := Start(t.Context(), cfg)
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			s.showLogs(t)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{T: t, System: s, asked: map[string]bool{}}
}

// showLogs prints the end of each process's log.
func (s *System) showLogs(t *testing.T) {
	for _, list := range [][]*Process{s.Listeners, s.Workers, s.Agents} {
		for _, p := range list {
			b, _ := os.ReadFile(p.Log)
			t.Logf("%s:\n%s", p.Name, b[max(0, len(b)-2000):])
		}
	}
}

// dispatch asks for a dispatch of one command that leaves its mark, to all agents and
// more. It returns false if Redis did not answer.
func (f *fixture) dispatch(key, then string, more ...string) bool {
	f.Helper()
	commands, err := json.Marshal(map[string]float64{EffectOf(key, then): 1})
	if err != nil {
		f.Fatal(err)
	}
	hosts, err := json.Marshal(append(f.Hosts(), more...))
	if err != nil {
		f.Fatal(err)
	}
	err = f.DB.XAdd(f.Context(), &redis.XAddArgs{Stream: "muster:requests", Values: []any{
		"key", key, "commands", commands, "hosts", hosts, "deadline_s", 600,
	}}).Err()
	if err == nil {
		f.asked[key] = true
	}
	return err == nil
}

// eventually waits for what may take a while when processes die.
func (f *fixture) eventually(most time.Duration, what string, done func() bool) {
	f.Helper()
	if err := Wait(f.Context(), most, what, done); err != nil {
		f.Error(err)
		f.FailNow()
	}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// allDone waits until every agent is done with every dispatch that was asked for, and
// then takes stock: each ledger adds up, and each command has left exactly one mark.
func (f *fixture) allDone() {
	f.Helper()
	open := f.asked
	f.eventually(patience, "all agents done with all dispatches", func() bool {
		still := map[string]bool{}
		for key := range open {
			if !f.doneWith(key) {
				still[key] = true
			}
		}
		if open = still; len(open) == 0 {
			return true
		}
		return false
	})
	for key := range f.asked {
		a, err := Recount(f.Context(), f.DB, key)
		if err != nil {
			f.Fatal(err)
		}
		for _, w := range a.Wrong {
			f.Error(w)
		}
	}
	for i := range f.Agents {
		marks, err := f.Effects(i)
		if err != nil {
			f.Fatal(err)
		}
		for key := range f.asked {
			if marks[key] != 1 {
				f.Errorf("%s has run the command of %s %d times", f.AgentID(i), key, marks[key])
			}
			delete(marks, key)
		}
		for mark := range marks {
			f.Errorf("%s has run the command of %s, which was not asked for", f.AgentID(i), mark)
		}
	}
}

func (f *fixture) doneWith(key string) bool {
	states, err := f.DB.HMGet(f.Context(), "{"+key+"}:hosts", f.Hosts()...).Result()
	if err != nil {
		return false
	}
	for _, s := range states {
		if s != "done" {
			return false
		}
	}
	return true
}

// events counts the events of a type.
func (f *fixture) events(kind string) int {
	f.Helper()
	all, err := f.DB.XRange(f.Context(), "{muster}:events", "-", "+").Result()
	if err != nil {
		f.Fatal(err)
	}
	n := 0
	for _, e := range all {
		if e.Values["type"] == kind {
			n++
		}
	}
	return n
}

// later runs f beside the test, which waits for it.
func later(t *testing.T, f func() error) (wait func()) {
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	return sync.OnceFunc(func() {
		t.Helper()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// pause lets time pass that the system under test needs: what happens in it is what the
// test is about.
func (f *fixture) pause(d time.Duration) {
	select {
	case <-f.Context().Done():
	case <-time.After(d):
	}
}
