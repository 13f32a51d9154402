package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/wire"
)

// fakeListener welcomes agents, answers look-ups from sets and keeps all that it
// is told. What it does not do can be set before the agent connects.
type fakeListener struct {
	t  *testing.T
	ln net.Listener

	mu       sync.Mutex
	sets     map[string]wire.Found
	refuse   string
	mute     bool // look-ups get no answer
	confirms bool
	conns    []*fakeConn
}

// fakeConn is one connection to a fakeListener.
type fakeConn struct {
	net.Conn
	number int
	hello  wire.Hello
	got    []wire.Message // guarded by the listener's lock
	closed bool
}

func newFakeListener(t *testing.T) *fakeListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &fakeListener{t: t, ln: ln, sets: map[string]wire.Found{}, confirms: true}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.serve(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		l.mu.Lock()
		for _, c := range l.conns {
			c.Close()
		}
		l.mu.Unlock()
		serving.Wait()
	})
	return l
}

func (l *fakeListener) serve(conn net.Conn) {
	defer conn.Close()
	frames := wire.NewDecoder(conn, 0)
	from := wire.OldClient
	c := &fakeConn{Conn: conn}
	for {
		body, err := frames.Next()
		if err != nil {
			l.mu.Lock()
			c.closed = true
			l.mu.Unlock()
			return
		}
		m, err := wire.Decode(body, from)
		if err != nil {
			l.t.Errorf("the agent sent what can't be read: %v: %.200q", err, body)
			return
		}
		l.mu.Lock()
		switch m := m.(type) {
		case wire.Hello:
			from = wire.Agent
			c.hello, c.number = m, len(l.conns)
			l.conns = append(l.conns, c)
			send(conn, wire.Welcome{Server: "l1", HeartbeatMS: 1000, TimeMS: time.Now().UnixMilli(), Refused: l.refuse})
		case wire.Lookup:
			found := l.sets[m.Task]
			found.Task = m.Task
			if !l.mute {
				send(conn, found)
			}
		case wire.Status:
			if l.confirms {
				send(conn, wire.Confirm{Seq: m.Seq})
			}
		case wire.Answer:
			if l.confirms {
				send(conn, wire.Confirm{Seq: m.Seq})
			}
		}
		c.got = append(c.got, m)
		l.mu.Unlock()
	}
}

func send(conn net.Conn, m wire.Message) { conn.Write(wire.EncodeFrame(m)) }

func (l *fakeListener) addr() string { return l.ln.Addr().String() }

// put makes a set known, its deadline an hour away.
func (l *fakeListener) put(number, request string, lines ...string) {
	l.putFor(time.Hour, 600, number, request, lines...)
}

func (l *fakeListener) putFor(deadline time.Duration, timeoutS int64, number, request string, lines ...string) {
	f := wire.Found{Found: true, Request: request, TimeoutS: timeoutS,
		DeadlineMS: time.Now().Add(deadline).UnixMilli()}
	for i, line := range lines {
		f.Commands = append(f.Commands, wire.Command{Line: line, Priority: float64(len(lines) - i)})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sets[number] = f
}

// with calls f with the listener's lock held.
func (l *fakeListener) with(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// got returns all messages of a type, over all connections, in order.
func got[M wire.Message](l *fakeListener) (list []M) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		for _, m := range c.got {
			if m, ok := m.(M); ok {
				list = append(list, m)
			}
		}
	}
	return list
}

// conn waits for the n-th connection that has said hello.
func (l *fakeListener) conn(n int) *fakeConn {
	l.t.Helper()
	var c *fakeConn
	eventually(l.t, fmt.Sprintf("connection %d", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.conns) > n {
			c = l.conns[n]
		}
		return c != nil
	})
	return c
}

// results waits for n results of a number and returns them. What was sent twice
// counts once.
func (l *fakeListener) results(number string, n int) []wire.Result {
	l.t.Helper()
	var list []wire.Result
	eventually(l.t, fmt.Sprintf("%d results of %s", n, number), func() bool {
		list = nil
		seen := map[int64]bool{}
		for _, s := range got[wire.Status](l) {
			if s.Task == number && s.Result != nil && !seen[s.Seq] {
				seen[s.Seq] = true
				list = append(list, *s.Result)
			}
		}
		return len(list) >= n
	})
	return list
}

// answers waits for n answers and returns their codes. What was sent twice counts
// once.
func (l *fakeListener) answers(n int) []wire.RCC {
	l.t.Helper()
	var list []wire.RCC
	eventually(l.t, fmt.Sprintf("%d answers", n), func() bool {
		list = nil
		seen := map[int64]bool{}
		for _, m := range got[wire.Answer](l) {
			if !seen[m.Seq] {
				seen[m.Seq] = true
				list = append(list, m.RCC)
			}
		}
		return len(list) >= n
	})
	return list
}

// eventually waits until ok, for some minutes at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// testConfig is a Config for an agent of its own.
func testConfig(t *testing.T, servers ...string) Config {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	log.SetLevel(logrus.DebugLevel)
	return Config{Servers: servers, ID: "web-1", StateDir: t.TempDir(), KillAfter: 2 * time.Second,
		BindIP: loopback, Version: "1.2.3", Tags: map[string]string{"rack": "7"}, Log: log}
}

// runAgent runs an agent that is quick to try again. stop ends it and waits.
func runAgent(t *testing.T, cfg Config) (a *Agent, stop func()) {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.retryMin, a.retryMax = 20*time.Millisecond, 60*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return a, stop
}

// tell sends a datagram to the agent.
func tell(t *testing.T, a *Agent, datagram string) {
	t.Helper()
	conn, err := net.Dial("udp", a.UDPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(datagram)); err != nil {
		t.Fatal(err)
	}
}

// connected waits until reports can leave.
func connected(t *testing.T, a *Agent) {
	t.Helper()
	eventually(t, "a connection", func() bool { return a.session.Load() != nil })
}

// ledger is a file to which commands add a line each.
type ledger string

func newLedger(t *testing.T) ledger { return ledger(filepath.Join(t.TempDir(), "ledger")) }

func (f ledger) add(line string) string { return fmt.Sprintf("echo %s >>%s", line, f) }

func (f ledger) lines() []string {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

func (f ledger) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := f.lines(); !slices.Equal(got, want) {
		t.Errorf("commands left %q, want %q", got, want)
	}
}

// until is a command that waits until a file is there. When the test has ended, and its
// directory is gone, it ends too: what an agent that is killed leaves behind lives on.
func until(file string) string {
	return "while [ ! -e " + file + " ] && [ -d " + filepath.Dir(file) + " ]; do sleep 0.02; done"
}
