package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/musterhq/muster/wire"
)

func TestBackOff(t *testing.T) {
	t.Parallel()
	for failures, bound := range map[int]time.Duration{
		1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 5: 3200 * time.Millisecond,
		7: 12800 * time.Millisecond, 8: 15 * time.Second, 10: 15 * time.Second, 1000: 15 * time.Second,
	} {
		if d := backOff(failures, 0); d != 0 {
			t.Errorf("at least %v after %d failures, want 0", d, failures)
		}
		if d := backOff(failures, 0.5); d != bound/2 {
			t.Errorf("%v in the middle after %d failures, want %v", d, failures, bound/2)
		}
	}
}

func TestServersInTurn(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	cfg := testConfig(t, "one:1", "two:2", "three:3")
	var mu sync.Mutex
	var dialed []string
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dialed = append(dialed, network+" "+addr)
		if len(dialed) < 5 {
			return nil, errors.New("connection refused")
		}
		return net.Dial(network, l.addr())
	}
	runAgent(t, cfg)
	l.conn(0)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"tcp one:1", "tcp two:2", "tcp three:3", "tcp one:1", "tcp two:2"}; !slices.Equal(dialed, want) {
		t.Errorf("dialed %q, want %q", dialed, want)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.refuse = "another host has this id"
	cfg := testConfig(t, l.addr())
	log, hook := logtest.NewNullLogger()
	cfg.Log = log
	a, _ := runAgent(t, cfg)
	l.conn(2)
	if a.session.Load() != nil {
		t.Error("at work without a welcome")
	}
	said := 0
	for _, e := range hook.AllEntries() {
		err, _ := e.Data[logrus.ErrorKey].(error)
		if e.Level == logrus.WarnLevel && err != nil && strings.Contains(err.Error(), l.refuse) {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the reason is in %d warnings, want one", said)
	}
	l.with(func() { l.refuse = "" })
	connected(t, a)
}

// What has not been confirmed is sent again, in its order, and what has is not.
func TestReportsAreSentAgain(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.confirms = false
	l.put("AC1", "1-0", "echo a", "echo b")
	cfg := testConfig(t, l.addr())
	a, stop := runAgent(t, cfg)
	tell(t, a, "AC1")
	l.results("AC1", 2)
	send(l.conn(0), wire.Confirm{Seq: 3})
	send(l.conn(0), wire.Confirm{Seq: -1})
	eventually(t, "the confirmation", func() bool {
		seq, _, _ := a.journal.after(0)
		return seq == 4
	})
	sent := func(c *fakeConn) (list []int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, m := range c.got {
			switch m := m.(type) {
			case wire.Status:
				list = append(list, m.Seq)
			case wire.Answer:
				list = append(list, m.Seq)
			}
		}
		return list
	}
	if got := sent(l.conn(0)); !slices.Equal(got, []int64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("first sent %v", got)
	}
	l.conn(0).Close()
	again := func(n int) {
		t.Helper()
		c := l.conn(n)
		eventually(t, "three reports", func() bool { return len(sent(c)) >= 3 })
		if got := sent(c); !slices.Equal(got, []int64{4, 5, 6}) {
			t.Errorf("connection %d: sent again %v, want 4, 5, 6", n, got)
		}
	}
	again(1)
	stop() // also across a restart
	a, _ = runAgent(t, cfg)
	again(2)
	// What was never sent can't be confirmed.
	send(l.conn(2), wire.Confirm{Seq: 1 << 40})
	eventually(t, "the confirmation", func() bool {
		_, _, waiting := a.journal.after(0)
		return !waiting
	})
	tell(t, a, "AC1")
	eventually(t, "number 7", func() bool { return slices.Contains(sent(l.conn(2)), 7) })
}

func TestOnlyWhatWasSentIsConfirmed(t *testing.T) {
	t.Parallel()
	a, err := New(testConfig(t, "l:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer release(a)
	mustAppend(t, a.journal, answer("AC1"), answer("AC2"))
	s := &session{agent: a}
	s.sent.Store(1)
	s.confirm(2)
	if got := seqs(t, a.journal); !slices.Equal(got, []int64{2}) {
		t.Errorf("unconfirmed %v, want 2, which never left", got)
	}
}

func TestInfoIsSentAgain(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	runAgent(t, testConfig(t, l.addr()))
	send(l.conn(0), wire.Push{Action: wire.ActionInfo})
	eventually(t, "the information again", func() bool { return len(got[wire.Info](l)) == 2 })
}

// On its way to another listener the agent is never away, and what runs runs on.
func TestMove(t *testing.T) {
	t.Parallel()
	l1, l2 := newFakeListener(t), newFakeListener(t)
	f := newLedger(t)
	l1.put("AC1", "1-0", until(string(f)+".go")+"; "+f.add("one"), f.add("two"))
	cfg := testConfig(t, l1.addr(), l2.addr())
	var away atomic.Bool
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == l2.addr() {
			l1.with(func() { away.Store(l1.conns[0].closed) })
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	a, _ := runAgent(t, cfg)
	tell(t, a, "AC1")
	l1.answers(1)
	send(l1.conn(0), wire.Push{Action: wire.ActionMove})
	l2.conn(0)
	eventually(t, "the old connection to be closed", func() bool {
		var closed bool
		l1.with(func() { closed = l1.conns[0].closed })
		return closed
	})
	if away.Load() {
		t.Error("left before it was welcome elsewhere")
	}
	os.WriteFile(string(f)+".go", nil, 0o600)
	if r := l2.results("AC1", 2); r[0].ExitCode != 0 || r[1].ExitCode != 0 {
		t.Errorf("%+v", r)
	}
	f.expect(t, "one", "two")
	// Back, over the list's end.
	send(l2.conn(0), wire.Push{Action: wire.ActionMove})
	l1.conn(1)
}

func TestMoveWhereThereIsOneServer(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	runAgent(t, testConfig(t, l.addr()))
	send(l.conn(0), wire.Push{Action: wire.ActionMove})
	if l.conn(1).hello.Instance != l.conn(0).hello.Instance {
		t.Error("another instance")
	}
}

// A listener that says what can't be understood is not left for it.
func TestUnknownMessagesArePassedOver(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.put("AC1", "1-0", "true")
	runAgent(t, testConfig(t, l.addr()))
	for _, body := range []string{`{"flag":"ADH99"}`, `{"flag":"ADH34","action":"dance"}`} {
		l.conn(0).Write(wire.AppendFrame(nil, []byte(body)))
	}
	send(l.conn(0), wire.Push{Action: wire.ActionStart, Task: "AC1"})
	l.results("AC1", 1)
	l.with(func() {
		if len(l.conns) != 1 {
			t.Errorf("%d connections, want one", len(l.conns))
		}
	})
	l.conn(0).Write([]byte{0, 0, 0, 0}) // but a stream that is no more one is
	l.conn(1)
}

// A listener that accepts and is silent is given up; so is one that speaks first.
func TestNoWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t, "l:1")
		a, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer release(a)
		for name, says := range map[string][]byte{
			"silence": nil,
			"push":    wire.EncodeFrame(wire.Push{Action: wire.ActionInfo}),
			"rubbish": []byte("HTTP/1.1 400"),
		} {
			far, near := net.Pipe()
			a.cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
			go func() {
				wire.NewDecoder(far, 0).Next()
				far.Write(says)
			}()
			begin := time.Now()
			if _, err := a.connect(t.Context(), "l:1", nil); err == nil {
				t.Errorf("%s: welcome", name)
			}
			want := time.Duration(0)
			if says == nil {
				want = 30 * time.Second
			}
			if took := time.Since(begin); took != want {
				t.Errorf("%s: given up after %v, want %v", name, took, want)
			}
			far.Close()
		}
	})
}

// release frees what New took, for an agent that is not run.
func release(a *Agent) {
	a.udp.Close()
	a.journal.close()
	a.state.close()
}
