package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/wire"
)

func TestToldTenTimesRunsOnce(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("a"), f.add("b"))
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	for range 5 {
		tell(t, a, "AC1")
	}
	l.results("AC1", 2)
	for range 5 {
		send(l.conn(0), wire.Push{Action: wire.ActionStart, Task: "AC1"})
	}
	if codes := l.answers(10); len(codes) != 10 || slices.Max(codes) != wire.RCCReceived {
		t.Errorf("answers %v, want ten times 1", codes)
	}
	f.expect(t, "a", "b")
}

// The same number with another request is another set; what an older one still had
// to report would be taken for the new one's.
func TestNewRequestRunsAgain(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("a"))
	l.confirms = false
	a, _ := runAgent(t, testConfig(t, l.addr()))
	tell(t, a, "AC1")
	l.results("AC1", 1)
	l.put("AC1", "2-0", f.add("b"))
	tell(t, a, "AC1")
	l.results("AC1", 2)
	tell(t, a, "AC1")
	l.answers(3)
	f.expect(t, "a", "b")

	l.with(func() { l.confirms = true })
	l.conn(0).Close()
	l.conn(1)
	eventually(t, "all to be confirmed", func() bool {
		_, _, waiting := a.journal.after(0)
		return !waiting
	})
	again := 0
	l.with(func() {
		for _, m := range l.conns[1].got {
			if m, ok := m.(wire.Status); ok && m.Result != nil {
				again++
				if m.Result.Command != f.add("b") {
					t.Errorf("%q of the old request was sent again", m.Result.Command)
				}
			}
		}
	})
	if again != 1 {
		t.Errorf("%d results sent again, want that of the new request", again)
	}
}

func TestOldRequestStopsForNew(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	f := newLedger(t)
	l.put("AC1", "1-0", f.add("a")+"; while ! grep -q c "+string(f)+"; do sleep 0.01; done", f.add("b"))
	a, _ := runAgent(t, testConfig(t, l.addr()))
	tell(t, a, "AC1")
	eventually(t, "the first command", func() bool { return len(f.lines()) == 1 })
	l.put("AC1", "2-0", f.add("c"))
	tell(t, a, "AC1")
	if r := l.results("AC1", 1); r[0].Command != f.add("c") {
		t.Errorf("a result of %q, want that of the new request alone", r[0].Command)
	}
	eventually(t, "the old set to end", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.running) == 0
	})
	f.expect(t, "a", "c")
	if r := l.results("AC1", 1); len(r) != 1 {
		t.Errorf("results %+v, want that of the new request alone", r)
	}
}

func TestUnknownNumber(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	a, _ := runAgent(t, testConfig(t, l.addr()))
	tell(t, a, "AC404")
	l.answers(1)
	if m := got[wire.Answer](l)[0]; m.Task != "AC404" || m.RCC != wire.RCCMissing || m.Seq != 1 {
		t.Errorf("answer %+v, want 2 for AC404", m)
	}
	// It may be there the next time.
	l.put("AC404", "1-0", "true")
	tell(t, a, "AC404")
	if r := l.results("AC404", 1); r[0].ExitCode != 0 {
		t.Errorf("result %+v", r[0])
	}
}

func TestUnreadableDatagram(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	for i, datagram := range []string{"AC1\n", "", strings.Repeat("A", 60_000)} {
		tell(t, a, datagram)
		l.answers(i + 1)
		if m := got[wire.Answer](l)[i]; m.Task != "" || m.RCC != wire.RCCUnreadable || m.Seq < 1 {
			t.Errorf("answer to %.20q: %+v, want 3 without a number", datagram, m)
		}
	}
}

func TestUnreadableDatagramsAreAnsweredSparingly(t *testing.T) {
	t.Parallel()
	var l limiter
	at := time.Unix(1000, 0)
	allowed := 0
	for i := range 300 {
		if l.allow(10, at.Add(time.Duration(i)*10*time.Millisecond)) {
			allowed++
		}
	}
	if allowed != 30 {
		t.Errorf("%d allowed in 3 s, want 30", allowed)
	}
}

// Silence is no answer: the question is put again, and none of the three possible
// answers is given before.
func TestLookUpIsRepeated(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.mute = true
	a, _ := runAgent(t, testConfig(t, l.addr()))
	connected(t, a)
	tell(t, a, "AC1")
	eventually(t, "three questions", func() bool { return len(got[wire.Lookup](l)) >= 3 })
	if n := len(got[wire.Answer](l)); n != 0 {
		t.Errorf("%d answers without a look-up that had one", n)
	}
	l.put("AC1", "1-0", "true")
	l.with(func() { l.mute = false })
	l.results("AC1", 1)
}

// What was asked before the connection broke is asked on the next one, at once.
func TestLookUpSurvivesTheConnection(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.mute = true
	cfg := testConfig(t, l.addr())
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.retryMin, a.retryMax = time.Hour, time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	defer running.Wait()
	defer cancel()
	connected(t, a)
	tell(t, a, "AC1")
	eventually(t, "the question", func() bool { return len(got[wire.Lookup](l)) == 1 })
	l.put("AC1", "1-0", "true")
	l.with(func() { l.mute = false })
	l.conn(0).Close()
	l.results("AC1", 1)
}

// A tell that comes while a question is under way may mean a later set.
func TestTellDuringLookUpIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	asked, goOn := make(chan struct{}, 10), make(chan struct{})
	var mu sync.Mutex
	var set wire.Found
	cfg := testConfig(t, l.addr())
	cfg.Store = finder(func(_ context.Context, number, host string) (wire.Found, error) {
		if number != "AC1" || host != "web-1" {
			t.Errorf("asked for %s of %s", number, host)
		}
		mu.Lock()
		found := set
		mu.Unlock()
		asked <- struct{}{}
		<-goOn
		return found, nil
	})
	a, _ := runAgent(t, cfg)
	connected(t, a)
	tell(t, a, "AC1")
	<-asked
	mu.Lock()
	set = wire.Found{Found: true, Request: "1-0", Commands: []wire.Command{{Line: "true"}}, DeadlineMS: 1 << 50}
	mu.Unlock()
	tell(t, a, "AC1")
	eventually(t, "the second tell", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.lookups["AC1"].tells == 1
	})
	close(goOn)
	if codes := l.answers(2); !slices.Equal(codes, []wire.RCC{2, 1}) {
		t.Errorf("answers %v, want 2 and 1", codes)
	}
	l.results("AC1", 1)
	if n := len(got[wire.Lookup](l)); n != 0 {
		t.Errorf("the listener was asked %d times", n)
	}
}

type finder func(ctx context.Context, number, host string) (wire.Found, error)

func (f finder) Find(ctx context.Context, number, host string) (wire.Found, error) {
	return f(ctx, number, host)
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	cfg := testConfig(t, l.addr())
	asked := 0
	cfg.Store = finder(func(context.Context, string, string) (wire.Found, error) {
		if asked++; asked < 4 {
			return wire.Found{}, errors.New("connection refused")
		}
		return wire.Found{Found: true, Request: "1-0", Commands: []wire.Command{{Line: "echo here"}}, DeadlineMS: 1 << 50}, nil
	})
	a, _ := runAgent(t, cfg)
	tell(t, a, "AC1")
	if r := l.results("AC1", 1); r[0].Stdout != "here\n" {
		t.Errorf("result %+v", r[0])
	}
	if codes := l.answers(1); !slices.Equal(codes, []wire.RCC{1}) {
		t.Errorf("answers %v, want one 1", codes)
	}
}

func TestLookUpsAreBounded(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "127.0.0.1:1")
	a, _ := runAgent(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 2 * maxLookups {
		a.told(ctx, "AC"+strings.Repeat("x", i%40)+string(rune('a'+i%26))+time.Duration(i).String())
	}
	for range 100 {
		a.told(ctx, "ACa0s")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.lookups); n != maxLookups {
		t.Errorf("%d look-ups at once, want %d", n, maxLookups)
	}
	if n := a.lookups["ACa0s"].tells; n > maxTells {
		t.Errorf("%d answers due, want at most %d", n, maxTells)
	}
}

func TestSetsBeyondTheLimitsAreNotRun(t *testing.T) {
	t.Parallel()
	commands := func(n int, line string) (list []wire.Command) {
		for range n {
			list = append(list, wire.Command{Line: line})
		}
		return list
	}
	for name, list := range map[string][]wire.Command{
		"none":         nil,
		"too many":     commands(1001, "a"),
		"empty":        commands(1, ""),
		"too long":     commands(1, strings.Repeat("a", 8193)),
		"too much":     commands(17, strings.Repeat("a", 8192)),
		"not a text":   commands(1, "\xff"),
		"one too long": append(commands(3, "a"), commands(1, strings.Repeat("b", 8193))...),
	} {
		if _, err := newSet(wire.Found{Task: "AC1", Commands: list}); err == nil {
			t.Errorf("%s: taken up", name)
		}
	}
	for name, found := range map[string]wire.Found{
		"many":    {Commands: commands(1000, "a")},
		"much":    {Commands: commands(16, strings.Repeat("a", 8192))},
		"forever": {Commands: commands(1, "a"), TimeoutS: 1 << 52},
	} {
		s, err := newSet(found)
		if err != nil || s.TimeoutS < 1 || s.TimeoutS > maxTimeoutS || len(s.Commands) != len(found.Commands) {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
		body := wire.Encode(wire.Status{Task: "AC1", Phase: 1, Lists: true, OnCall: s.Commands})
		if len(body) > wire.MaxFrame {
			t.Errorf("%s: report of %d bytes", name, len(body))
		}
	}
	worst := make([]string, 16)
	for i := range worst {
		worst[i] = strings.Repeat("\x01", 8192)
	}
	if n := len(wire.Encode(wire.Status{Task: "AC1", Phase: 1, Lists: true, OnCall: worst})); n > wire.MaxFrame {
		t.Errorf("report of %d bytes", n)
	}
}
