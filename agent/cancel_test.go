package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/musterhq/muster/wire"
)

// cancelled is the answer to a look-up of a set that was cancelled.
var cancelled = wire.Found{Cancelled: true}

// A set that the look-up calls cancelled is not begun; the host has heard of it all
// the same.
func TestLookUpSaysCancelled(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.with(func() { l.sets["AC1"] = cancelled })
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	tell(t, a, "AC1")
	if codes := l.answers(1); !slices.Equal(codes, []wire.RCC{wire.RCCReceived}) {
		t.Errorf("answers %v, want one 1", codes)
	}
	if list := got[wire.Status](l); len(list) != 0 {
		t.Errorf("reports %+v on a set that was never taken up", list)
	}
}

// So it is with one that runs already, or waits for its turn.
func TestLookUpSaysCancelledWhileItRuns(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("one")+"; sleep 300", f.add("two"))
	l.put("AC2", "2-0", f.add("waiting"))
	cfg := testConfig(t, l.addr())
	cfg.Parallel = 1
	a, _ := runAgent(t, cfg)
	tell(t, a, "AC1")
	eventually(t, "the first command", func() bool { return len(f.lines()) == 1 })
	tell(t, a, "AC2")
	l.answers(2)
	for i, number := range []string{"AC2", "AC1"} {
		l.with(func() { l.sets[number] = cancelled })
		tell(t, a, number)
		if codes := l.answers(3 + i); slices.Max(codes) != wire.RCCReceived {
			t.Errorf("answers %v, want 1 alone", codes)
		}
	}
	if r := l.results("AC1", 1); r[0].Error != "cancelled" || r[0].ExitCode != 143 {
		t.Errorf("%+v", r[0])
	}
	eventually(t, "all sets to be over", func() bool { return len(a.journal.unfinished()) == 0 })
	f.expect(t, "one")
}

// Cancelled while the host was away: it learns it once it is back. A set of which
// Redis knows no more is none of those.
func TestCancelledWhileAway(t *testing.T) {
	t.Parallel()
	for _, throughStore := range []bool{false, true} {
		t.Run(fmt.Sprint("store ", throughStore), func(t *testing.T) {
			t.Parallel()
			l := newFakeListener(t)
			f := newLedger(t)
			l.put("AC1", "1-0", f.add("one")+"; sleep 300", f.add("two"))
			l.put("AC2", "2-0", f.add("two")+"; "+until(string(f)+".go"))
			l.put("AC3", "3-0", f.add("waiting"))
			cfg := testConfig(t, l.addr())
			cfg.Parallel = 2
			if throughStore {
				cfg.Store = finder(func(_ context.Context, number, _ string) (found wire.Found, _ error) {
					l.with(func() { found = l.sets[number] })
					return found, nil
				})
			}
			a, _ := runAgent(t, cfg)
			tell(t, a, "AC1")
			eventually(t, "the first command", func() bool { return len(f.lines()) == 1 })
			tell(t, a, "AC2")
			eventually(t, "the second command", func() bool { return len(f.lines()) == 2 })
			tell(t, a, "AC3")
			l.answers(3)
			l.with(func() {
				l.sets["AC1"], l.sets["AC3"] = cancelled, cancelled
				delete(l.sets, "AC2")
			})
			l.conn(0).Close()
			if r := l.results("AC1", 1); r[0].Error != "cancelled" || r[0].ExitCode != 143 {
				t.Errorf("%+v", r[0])
			}
			eventually(t, "two sets to be over", func() bool { return len(a.journal.unfinished()) == 1 })
			os.WriteFile(string(f)+".go", nil, 0o600)
			if r := l.results("AC2", 1); r[0].Error != "" || r[0].ExitCode != 0 {
				t.Errorf("not found is not cancelled: %+v", r[0])
			}
			eventually(t, "all sets to be over", func() bool { return len(a.journal.unfinished()) == 0 })
			f.expect(t, "one", "two")
			if n := len(got[wire.Answer](l)); n != 3 {
				t.Errorf("%d answers, want those to the three datagrams", n)
			}
			if n := len(got[wire.Lookup](l)); throughStore && n != 0 {
				t.Errorf("the listener was asked %d times", n)
			}
		})
	}
}

// Cancelled while the agent was dead: no further command of it starts. What was not
// cancelled goes on, and so does all if nobody is there to ask.
func TestCancelledWhileDown(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	goOn := string(f) + ".go"
	wait := "; " + until(goOn)
	l.put("AC1", "1-0", f.add("one")+wait, f.add("two"))
	l.put("AC2", "2-0", f.add("other")+wait, f.add("another"))
	defer os.WriteFile(goOn, nil, 0o600)

	state := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "AGENT_TEST_SERVER="+l.addr(), "AGENT_TEST_STATE="+state)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i, number := range []string{"AC1", "AC2"} {
		send(l.conn(0), wire.Push{Action: wire.ActionStart, Task: number})
		eventually(t, "the command of "+number, func() bool { return len(f.lines()) == i+1 })
	}
	cmd.Process.Kill()
	cmd.Wait()

	// The answer is late: the agent waits for it.
	l.with(func() { l.sets["AC1"], l.mute = cancelled, true })
	cfg := testConfig(t, l.addr())
	cfg.StateDir = state
	_, stop := runAgent(t, cfg)
	eventually(t, "three rounds of questions", func() bool { return len(got[wire.Lookup](l)) >= 2+3*2 })
	f.expect(t, "one", "other")
	l.with(func() { l.mute = false })
	if r := l.results("AC2", 2); r[1].Command != f.add("another") || r[1].ExitCode != 0 {
		t.Errorf("%+v", r)
	}
	stop()
	f.expect(t, "one", "other", "another")
	if r := l.results("AC1", 1); len(r) != 1 || r[0].Error != errInterrupted.Error() {
		t.Errorf("%+v, want the interrupted one alone", r)
	}
	runAgent(t, cfg) // once more: it is in the journal by now
	l.conn(2)
	f.expect(t, "one", "other", "another")
}

func TestWithNobodyToAskWorkGoesOn(t *testing.T) {
	t.Parallel()
	f := newLedger(t)
	cfg := testConfig(t, "127.0.0.1:1")
	cfg.Dial = refused
	j := testJournal(t, cfg.StateDir)
	mustAppend(t, j, accept("AC1", "1-0", f.add("one")))
	j.close()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if a.patience != 10*time.Second {
		t.Errorf("waits for %v", a.patience)
	}
	a.patience = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	defer running.Wait()
	defer cancel()
	eventually(t, "the command", func() bool { return len(f.lines()) == 1 })
}

// A thousand sets that are not over: few questions at a time, so that a new number
// has its turn at once; in the end all were asked, also those that got no answer.
func TestManyUnfinishedSetsAreVerified(t *testing.T) {
	t.Parallel()
	const sets = 1000
	l := newFakeListener(t)
	l.mute = true
	f := newLedger(t)
	cfg := testConfig(t, l.addr())
	cfg.Parallel = 1
	j := testJournal(t, cfg.StateDir)
	goOn := "while [ ! -e " + string(f) + ".go ]; do sleep 0.02; done; "
	for i := range sets {
		mustAppend(t, j, accept(fmt.Sprint("AC", i), "1-0", goOn+f.add(fmt.Sprint(i))))
	}
	j.close()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.retryMin, a.retryMax = time.Hour, time.Hour
	a.patience = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	defer running.Wait()
	defer cancel()
	connected(t, a)
	eventually(t, "the first questions", func() bool { return len(got[wire.Lookup](l)) == checkedTogether })
	tell(t, a, "AC-new")
	eventually(t, "the new number", func() bool {
		list := got[wire.Lookup](l)
		return list[len(list)-1].Task == "AC-new"
	})
	if n := len(got[wire.Lookup](l)); n != checkedTogether+1 {
		t.Errorf("%d questions, want %d and that for the new number", n, checkedTogether)
	}

	// They are put again on the next connection, without a wait.
	l.with(func() {
		l.mute = false
		for i := range sets {
			if number := fmt.Sprint("AC", i); i%100 != 0 {
				l.sets[number] = cancelled
			} else {
				l.sets[number] = wire.Found{} // not there any more
			}
		}
	})
	l.conn(0).Close()
	eventually(t, "all cancelled ones to be over", func() bool { return len(a.journal.unfinished()) == sets/100 })
	os.WriteFile(string(f)+".go", nil, 0o600)
	eventually(t, "the others to be over", func() bool { return len(a.journal.unfinished()) == 0 })
	var want []string
	for i := 0; i < sets; i += 100 {
		want = append(want, fmt.Sprint(i))
	}
	lines := f.lines()
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("run %q, want %q", lines, want)
	}
}

// A question that gets no answer is put again, on the same connection too.
func TestVerifyingIsRepeated(t *testing.T) {
	t.Parallel()
	for _, throughStore := range []bool{false, true} {
		t.Run(fmt.Sprint("store ", throughStore), func(t *testing.T) {
			t.Parallel()
			l := newFakeListener(t)
			l.mute = true
			f := newLedger(t)
			cfg := testConfig(t, l.addr())
			j := testJournal(t, cfg.StateDir)
			mustAppend(t, j, accept("AC1", "1-0", f.add("one")), accept("AC2", "1-0", f.add("two")))
			j.close()
			var mu sync.Mutex
			asked := 0
			count := func() int {
				mu.Lock()
				defer mu.Unlock()
				return asked + len(got[wire.Lookup](l))
			}
			if throughStore {
				cfg.Store = finder(func(_ context.Context, number, _ string) (found wire.Found, err error) {
					mu.Lock()
					asked++
					mu.Unlock()
					l.with(func() {
						if found = l.sets[number]; l.mute {
							err = errors.New("connection refused")
						}
					})
					return found, err
				})
			}
			a, _ := runAgent(t, cfg)
			eventually(t, "some rounds", func() bool { return count() >= 6 })
			l.with(func() {
				l.sets["AC1"], l.sets["AC2"] = cancelled, cancelled
				l.mute = false
			})
			eventually(t, "the sets to be over", func() bool { return len(a.journal.unfinished()) == 0 })
			f.expect(t)
			was := count()
			l.conn(0).Close()
			connected(t, a)
			l.conn(1)
			send(l.conn(1), wire.Push{Action: wire.ActionInfo}) // answered after all questions
			eventually(t, "three times the information", func() bool { return len(got[wire.Info](l)) == 3 })
			if n := count(); n != was {
				t.Errorf("asked %d times for what is over", n-was)
			}
		})
	}
}

// What is over meanwhile is not asked for any more.
func TestVerifyingEndsWithTheSets(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.mute = true
	f := newLedger(t)
	cfg := testConfig(t, l.addr())
	j := testJournal(t, cfg.StateDir)
	mustAppend(t, j, accept("AC1", "1-0", f.add("one")), accept("AC2", "1-0", f.add("two")))
	j.close()
	a, _ := runAgent(t, cfg)
	eventually(t, "some rounds", func() bool { return len(got[wire.Lookup](l)) >= 6 })
	for _, number := range []string{"AC1", "AC2"} {
		send(l.conn(0), wire.Push{Action: wire.ActionCancel, Task: number})
	}
	eventually(t, "the end of the questions", func() bool {
		select {
		case <-a.verified:
			return true
		default:
			return false
		}
	})
	f.expect(t)
}

// Once is enough: the second cancel finds nothing to do.
func TestCancelTwice(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	deaf := "trap '' TERM; " + f.add("one") + "; sleep 300 & while :; do wait; done"
	l.put("AC1", "1-0", deaf, f.add("two"))
	cfg := testConfig(t, l.addr())
	cfg.KillAfter = 300 * time.Millisecond
	log, hook := logtest.NewNullLogger()
	cfg.Log = log
	a, _ := runAgent(t, cfg)
	tell(t, a, "AC1")
	eventually(t, "the command", func() bool { return len(f.lines()) == 1 })
	for range 2 {
		send(l.conn(0), wire.Push{Action: wire.ActionCancel, Task: "AC1"})
	}
	if r := l.results("AC1", 1); r[0].Error != "cancelled" || r[0].ExitCode != 137 {
		t.Errorf("%+v", r[0])
	}
	eventually(t, "the set to be over", func() bool { return len(a.journal.unfinished()) == 0 })
	send(l.conn(0), wire.Push{Action: wire.ActionCancel, Task: "AC1"})
	send(l.conn(0), wire.Push{Action: wire.ActionInfo})
	eventually(t, "the information again", func() bool { return len(got[wire.Info](l)) == 2 })
	said := 0
	for _, e := range hook.AllEntries() {
		if e.Message == "task set cancelled" && e.Level == logrus.InfoLevel {
			said++
		}
	}
	if said != 1 {
		t.Errorf("said %d times that it is cancelled", said)
	}
	for _, s := range got[wire.Status](l) {
		if s.Working == f.add("two") || s.Result != nil && s.Result.Command != deaf {
			t.Errorf("%+v, and nothing of the second command should be said", s)
		}
	}
	f.expect(t, "one")
}

// A cancel overtakes the answer to a look-up that was put before it: the set is taken
// up as cancelled, in the journal too.
func TestCancelOvertakesTheLookUp(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"while it is looked up", "while it is being accepted"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			l := newFakeListener(t)
			f := newLedger(t)
			cfg := testConfig(t, l.addr())
			asked, goOn := make(chan struct{}), make(chan struct{})
			cfg.Store = finder(func(context.Context, string, string) (wire.Found, error) {
				close(asked)
				<-goOn
				return wire.Found{Found: true, Request: "1-0", DeadlineMS: 1 << 50, Commands: []wire.Command{{Line: f.add("one")}}}, nil
			})
			a, stop := runAgent(t, cfg)
			connected(t, a)
			<-a.verified
			tell(t, a, "AC1")
			<-asked
			accepted := newMemory() // what is on the disk once the set is accepted
			var synced func()
			if when == "while it is looked up" {
				a.cancel("AC1")
				synced = sync.OnceFunc(func() {
					data, _ := os.ReadFile(a.journal.path)
					replay(data, accepted.apply)
				})
			} else {
				synced = sync.OnceFunc(func() { a.cancel("AC1") })
			}
			a.journal.disk.Lock()
			a.journal.file = &syncedFile{a.journal.file, synced}
			a.journal.disk.Unlock()
			close(goOn)
			l.answers(1)
			eventually(t, "the set to be over", func() bool { return len(a.journal.unfinished()) == 0 })
			stop()
			f.expect(t)
			if s := accepted.find("AC1", "1-0"); when == "while it is looked up" && (s == nil || !s.Cancelled) {
				t.Errorf("accepted as %+v, want it cancelled from the start", s)
			}
			if s, known := testJournal(t, cfg.StateDir).lookUp(setKey{"AC1", "1-0"}); !known || !s.Cancelled {
				t.Errorf("in the journal: %+v, want it cancelled", s)
			}
		})
	}
}

// syncedFile tells when something was synced.
type syncedFile struct {
	journalFile
	synced func()
}

func (f *syncedFile) Sync() error {
	defer f.synced()
	return f.journalFile.Sync()
}

// What is told after a cancel is another matter: it may be a new set of the number.
func TestNewRequestAfterACancel(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	cfg := testConfig(t, l.addr())
	asked, answers := make(chan struct{}), make(chan wire.Found)
	cfg.Store = finder(func(context.Context, string, string) (wire.Found, error) {
		asked <- struct{}{}
		return <-answers, nil
	})
	a, _ := runAgent(t, cfg)
	connected(t, a)
	tell(t, a, "AC1")
	<-asked
	a.cancel("AC1")
	tell(t, a, "AC1")
	eventually(t, "the second tell", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.lookups["AC1"].tells == 1
	})
	answers <- cancelled
	<-asked
	answers <- wire.Found{Found: true, Request: "2-0", DeadlineMS: 1 << 50, Commands: []wire.Command{{Line: f.add("one")}}}
	l.results("AC1", 1)
	f.expect(t, "one")
}

// A datagram and a push for the same number at the same time are two answers and one
// run.
func TestToldInTwoWaysAtOnce(t *testing.T) {
	t.Parallel()
	const sets = 20
	l := newFakeListener(t)
	f := newLedger(t)
	for i := range sets {
		l.put(fmt.Sprint("AC", i), "1-0", f.add("x"))
	}
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	var telling sync.WaitGroup
	for i := range sets {
		number := fmt.Sprint("AC", i)
		telling.Go(func() { tell(t, a, number) })
		telling.Go(func() { send(l.conn(0), wire.Push{Action: wire.ActionStart, Task: number}) })
	}
	telling.Wait()
	if codes := l.answers(2 * sets); len(codes) != 2*sets || slices.Max(codes) != wire.RCCReceived {
		t.Errorf("answers %v, want %d times 1", codes, 2*sets)
	}
	for i := range sets {
		l.results(fmt.Sprint("AC", i), 1)
	}
	f.expect(t, strings.Fields(strings.Repeat("x ", sets))...)
}
