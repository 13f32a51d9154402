package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/wire"
)

// TestMain lets the test binary be an agent of its own, that can be killed.
func TestMain(m *testing.M) {
	if server := os.Getenv("AGENT_TEST_SERVER"); server != "" {
		a, err := New(Config{Servers: []string{server}, ID: "web-1", BindIP: loopback, StateDir: os.Getenv("AGENT_TEST_STATE")})
		if err == nil {
			err = a.Run(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Killed while the second of three commands runs, the agent runs none twice: the
// second is reported as interrupted, the third is run.
func TestKilledInTheSecondOfThree(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	goOn := string(f) + ".go"
	second := f.add("two") + "; " + until(goOn)
	l.put("AC1", "1-0", f.add("one"), second, f.add("three"))
	defer os.WriteFile(goOn, nil, 0o600)

	state := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "AGENT_TEST_SERVER="+l.addr(), "AGENT_TEST_STATE="+state)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	send(l.conn(0), wire.Push{Action: wire.ActionStart, Task: "AC1"})
	eventually(t, "the second command", func() bool { return len(f.lines()) == 2 })
	cmd.Process.Kill()
	cmd.Wait()

	cfg := testConfig(t, l.addr())
	cfg.StateDir = state
	a, _ := runAgent(t, cfg)
	tell(t, a, "AC1")
	results := l.results("AC1", 3)
	if l.conn(0).hello.Instance != l.conn(1).hello.Instance {
		t.Error("another instance after the restart")
	}
	l.answers(2)
	f.expect(t, "one", "two", "three")
	if r := results[1]; r.Command != second || r.ExitCode != -1 || r.Error != "interrupted: the agent stopped while the command ran" {
		t.Errorf("second result %+v", r)
	}
	if results[0].ExitCode != 0 || results[2].ExitCode != 0 || results[2].Command != f.add("three") || len(results) != 3 {
		t.Errorf("results %+v", results)
	}
	// What was confirmed just before the end may come twice, and is then the same.
	bySeq := map[int64]string{}
	for _, m := range got[wire.Status](l) {
		body := string(wire.Encode(m))
		if was, again := bySeq[m.Seq]; again && was != body {
			t.Errorf("number %d is of two reports: %s and %s", m.Seq, was, body)
		}
		bySeq[m.Seq] = body
	}
	if len(bySeq) != 7 {
		t.Errorf("%d reports, want received, and working and ended for each", len(bySeq))
	}
}

// Told to stop, the agent ends what runs within its time and says so; what has not
// begun is run by the next one.
func TestStoppedBetween(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("one"), "trap '' TERM; "+f.add("two")+"; while :; do sleep 1; done", f.add("three"))
	cfg := testConfig(t, l.addr())
	cfg.KillAfter = 300 * time.Millisecond
	a, stop := runAgent(t, cfg)
	tell(t, a, "AC1")
	eventually(t, "the second command", func() bool { return len(f.lines()) == 2 })
	stop()
	// The last report leaves on the connection that is still there.
	if r := l.results("AC1", 2)[1]; r.ExitCode != 137 || r.Error != errInterrupted.Error() {
		t.Errorf("second result %+v", r)
	}
	f.expect(t, "one", "two")
	runAgent(t, cfg)
	if r := l.results("AC1", 3); r[len(r)-1].Command != f.add("three") {
		t.Errorf("results %+v", r)
	}
	f.expect(t, "one", "two", "three")
}

func TestCancel(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("one"), f.add("two")+"; sleep 300", f.add("three"))
	l.put("AC2", "2-0", until(string(f)+".go")+"; "+f.add("other"))
	cfg := testConfig(t, l.addr())
	a, stop := runAgent(t, cfg)
	tell(t, a, "AC1")
	tell(t, a, "AC2")
	eventually(t, "the second command", func() bool { return len(f.lines()) == 2 })
	send(l.conn(0), wire.Push{Action: wire.ActionCancel, Task: "AC1"})
	r := l.results("AC1", 2)
	if r[1].Error != "cancelled" || r[1].ExitCode != 143 {
		t.Errorf("second result %+v", r[1])
	}
	os.WriteFile(string(f)+".go", nil, 0o600)
	if r := l.results("AC2", 1); r[0].ExitCode != 0 || r[0].Error != "" {
		t.Errorf("the other set: %+v", r[0])
	}
	// Neither being told again nor a restart brings it back.
	tell(t, a, "AC1")
	l.answers(3)
	stop()
	a, _ = runAgent(t, cfg)
	tell(t, a, "AC1")
	l.answers(4)
	f.expect(t, "one", "two", "other")
	if n := len(l.results("AC1", 2)); n != 2 {
		t.Errorf("%d results of the cancelled set", n)
	}
}

// Cancelled and then killed before the command's end was seen: nothing more of the
// set is run.
func TestCancelLastsOverAKill(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	cfg := testConfig(t, l.addr())
	j := testJournal(t, cfg.StateDir)
	mustAppend(t, j, accept("AC1", "1-0", f.add("one"), f.add("two")), start("AC1", "1-0", 0))
	mustAppend(t, j, record{Kind: kindCancel, Number: "AC1", Request: "1-0"})
	j.close()
	a, _ := runAgent(t, cfg)
	if r := l.results("AC1", 1); r[0].Command != f.add("one") || r[0].ExitCode != -1 || r[0].Error != errInterrupted.Error() {
		t.Errorf("%+v", r[0])
	}
	eventually(t, "the set to be over", func() bool { return len(a.journal.unfinished()) == 0 })
	f.expect(t)
}

// A cancel that comes while the number is looked up, or while its set waits for
// its turn, leaves nothing to run.
func TestCancelBeforeTheFirstCommand(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", until(string(f)+".go"))
	l.put("AC2", "2-0", f.add("waiting"))
	l.put("AC3", "3-0", f.add("looked-up"))
	cfg := testConfig(t, l.addr())
	cfg.Parallel = 1
	a, _ := runAgent(t, cfg)
	tell(t, a, "AC1")
	l.answers(1)
	tell(t, a, "AC2")
	l.answers(2)
	l.with(func() { l.mute = true })
	tell(t, a, "AC3")
	eventually(t, "the question", func() bool {
		list := got[wire.Lookup](l)
		return list[len(list)-1].Task == "AC3"
	})
	send(l.conn(0), wire.Push{Action: wire.ActionCancel, Task: "AC2"})
	send(l.conn(0), wire.Push{Action: wire.ActionCancel, Task: "AC3"})
	eventually(t, "the cancel to be known", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.lookups["AC3"].cancelled
	})
	l.with(func() { l.mute = false })
	l.answers(3)
	os.WriteFile(string(f)+".go", nil, 0o600)
	l.results("AC1", 1)
	eventually(t, "all sets to be over", func() bool { return len(a.journal.unfinished()) == 0 })
	f.expect(t)
}

// No command starts after the deadline; one that runs goes on.
func TestDeadline(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.putFor(time.Second, 600, "AC1", "1-0", "sleep 1.2; "+f.add("one"), f.add("two"))
	l.putFor(-time.Second, 600, "AC2", "2-0", f.add("late"))
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	tell(t, a, "AC1")
	tell(t, a, "AC2")
	if r := l.results("AC1", 1); r[0].ExitCode != 0 || r[0].Error != "" {
		t.Errorf("%+v", r[0])
	}
	if codes := l.answers(2); !slices.Equal(codes, []wire.RCC{1, 1}) {
		t.Errorf("answers %v", codes)
	}
	eventually(t, "all sets to be over", func() bool { return len(a.journal.unfinished()) == 0 })
	f.expect(t, "one")
	if list := got[wire.Status](l); len(list) != 3 {
		t.Errorf("reports %+v, want received, working and ended", list)
	}
}

// Deadlines are Redis's, not the host's.
func TestDeadlineByRedisClock(t *testing.T) {
	t.Parallel()
	c := new(clock)
	c.assume(-60_000)
	if off := c.now() - time.Now().UnixMilli(); off < -60_100 || off > -59_900 {
		t.Errorf("assumed a minute behind, is %d ms", off)
	}
	if off := c.set(time.Now().Add(-time.Hour).UnixMilli()); off < -3_600_100 || off > -3_599_900 {
		t.Errorf("an hour behind is %d ms", off)
	}
	if off := c.now() - time.Now().UnixMilli(); off < -3_600_100 || off > -3_599_900 {
		t.Errorf("an hour behind, is %d ms", off)
	}
	c.assume(0)
	if off := c.now() - time.Now().UnixMilli(); off > -3_599_900 {
		t.Error("what is known is forgotten for what was assumed")
	}
}

// While a set waits for its turn its deadline may pass.
func TestDeadlineInTheQueue(t *testing.T) {
	t.Parallel()
	a := &Agent{clock: new(clock), slots: make(chan struct{}, 1)}
	a.slots <- struct{}{}
	if a.turn(t.Context(), time.Now().UnixMilli()+50) {
		t.Error("a turn that nobody gave")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a.turn(ctx, 1<<50) {
		t.Error("a turn after the end")
	}
	<-a.slots
	if !a.turn(ctx, 1<<50) {
		t.Error("no turn, though there is one")
	}
}

func TestSideBySide(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	// Each waits for the other: only together they can end.
	both := func(mine, other string) string {
		return fmt.Sprintf("echo >%[1]s.%[2]s; while [ ! -e %[1]s.%[3]s ]; do sleep 0.02; done", f, mine, other)
	}
	l.put("AC1", "1-0", both("a", "b"))
	l.put("AC2", "2-0", both("b", "a"))
	cfg := testConfig(t, l.addr())
	cfg.Parallel = 2
	a, _ := runAgent(t, cfg)
	tell(t, a, "AC1")
	tell(t, a, "AC2")
	l.results("AC1", 1)
	l.results("AC2", 1)
}

func TestTimeoutOfASet(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.putFor(time.Hour, 1, "AC1", "1-0", "sleep 300", f.add("next"))
	a, _ := runAgent(t, testConfig(t, l.addr()))
	tell(t, a, "AC1")
	if r := l.results("AC1", 2); r[0].Error != "timed out after 1s" || r[0].ExitCode != 143 || r[1].ExitCode != 0 {
		t.Errorf("%+v", r)
	}
	f.expect(t, "next")
}

// Nothing is run that the journal does not know; it is run once it can be written.
func TestNothingRunsOnAFullDisk(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("one")+"; "+until(string(f)+".go"), f.add("two"))
	l.put("AC2", "2-0", f.add("three"))
	a, _ := runAgent(t, testConfig(t, l.addr()))
	tell(t, a, "AC1")
	eventually(t, "the first command", func() bool { return len(f.lines()) == 1 })

	bad := spoil(a, "")
	os.WriteFile(string(f)+".go", nil, 0o600)
	tell(t, a, "AC2")
	eventually(t, "six failures", func() bool { return bad.failed.Load() >= 6 })
	f.expect(t, "one")
	if n := len(got[wire.Answer](l)); n != 1 {
		t.Errorf("%d answers, want that to AC1 alone", n)
	}
	bad.noSpace.Store(false)
	l.results("AC1", 2)
	l.results("AC2", 1)
	if lines := f.lines(); len(lines) != 3 || lines[0] != "one" {
		t.Errorf("commands left %q", lines)
	}
}

// spoil has no space for what the agent's journal writes from here on, if only is
// in it.
func spoil(a *Agent, only string) *badFile {
	a.journal.disk.Lock()
	defer a.journal.disk.Unlock()
	bad := &badFile{journalFile: a.journal.file, only: only}
	bad.noSpace.Store(true)
	a.journal.file = bad
	return bad
}

// The acceptance fits on the disk, the start of the command does not.
func TestNoCommandStartsUnknownToTheJournal(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("one"))
	l.putFor(200*time.Millisecond, 60, "AC2", "2-0", f.add("two"))
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	bad := spoil(a, `"k":"start"`)
	tell(t, a, "AC1")
	tell(t, a, "AC2")
	l.answers(2)
	eventually(t, "the deadline of AC2", func() bool { return len(a.journal.unfinished()) == 1 })
	eventually(t, "six failures", func() bool { return bad.failed.Load() >= 6 })
	f.expect(t)
	bad.noSpace.Store(false)
	l.results("AC1", 1)
	f.expect(t, "one")
}

// The end of a set does not fit on the disk: it is unfinished until it does, and no longer.
func TestEndOfASetWaitsForTheJournal(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("one"))
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	bad := spoil(a, `"k":"over"`)
	tell(t, a, "AC1")
	l.results("AC1", 1)
	eventually(t, "two failures", func() bool { return bad.failed.Load() >= 2 })
	if n := len(a.journal.unfinished()); n != 1 {
		t.Errorf("%d sets are unfinished, want 1", n)
	}
	bad.noSpace.Store(false)
	eventually(t, "the end of the set", func() bool { return len(a.journal.unfinished()) == 0 })
	f.expect(t, "one")
}

// Reports that nobody confirms do not pile up without an end: no set is taken up
// until they are.
func TestNothingIsTakenUpOnTooManyReports(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.confirms = false
	l.put("AC1", "1-0", "true")
	l.put("AC2", "2-0", "true")
	a, _ := runAgent(t, testConfig(t, l.addr()))
	tell(t, a, "AC1")
	l.results("AC1", 1)
	a.journal.mu.Lock()
	a.journal.memory.maxBytes = 10
	a.journal.mu.Unlock()
	tell(t, a, "AC2")
	eventually(t, "three look-ups of AC2", func() bool { return len(got[wire.Lookup](l)) >= 4 })
	if n := len(l.answers(1)); n != 1 {
		t.Errorf("%d answers, want that to AC1 alone", n)
	}
	l.with(func() { l.confirms = true })
	send(l.conn(0), wire.Confirm{Seq: 4})
	l.results("AC2", 1)
}

// A burst of sets: each once, and the reports of all in one order.
func TestManySets(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	for i := range 50 {
		l.put(fmt.Sprint("AC", i), "1-0", f.add("x"))
	}
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	for i := range 50 {
		send(l.conn(0), wire.Push{Action: wire.ActionStart, Task: fmt.Sprint("AC", i)})
	}
	for i := range 50 {
		l.results(fmt.Sprint("AC", i), 1)
	}
	f.expect(t, strings.Fields(strings.Repeat("x ", 50))...)
	l.mu.Lock()
	defer l.mu.Unlock()
	last := int64(0)
	for _, m := range l.conns[0].got {
		seq := int64(0)
		switch m := m.(type) {
		case wire.Status:
			seq = m.Seq
		case wire.Answer:
			seq = m.Seq
		default:
			continue
		}
		if seq != last+1 {
			t.Fatalf("number %d after %d", seq, last)
		}
		last = seq
	}
}
