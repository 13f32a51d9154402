package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// killer has services fail.
type killer struct {
	mu      sync.Mutex
	service string
	passes  int // rounds that it passes before
	always  bool
	how     func() error
}

func (k *killer) arm(service string, passes int, how func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.service, k.passes, k.how = service, passes, how
}

func (k *killer) fault(service string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if service != k.service {
		return nil
	}
	if k.passes--; k.passes >= 0 {
		return nil
	}
	if !k.always {
		k.service = ""
	}
	return k.how()
}

// within makes s one whose services k kills, and which starts them again soon.
func (k *killer) within(s *Server) {
	s.fault = k.fault
	s.again = supervise.Pace{First: time.Millisecond, Most: 10 * time.Millisecond}
}

var killings = map[string]func() error{
	"panic": func() error { panic("killed") },
	"error": func() error { return errors.New("killed") },
}

func (l *logLines) count(parts ...string) (n int) {
lines:
	for line := range strings.Lines(l.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		n++
	}
	return n
}

// until hears messages until one is as wanted; others are passed over.
func (h *host) until(wanted wire.Message) {
	h.t.Helper()
	for {
		if m := h.hear(); fmt.Sprintf("%#v", m) == fmt.Sprintf("%#v", wanted) {
			return
		}
	}
}

// fleet is the connections that are open while services are killed.
type fleet struct {
	*running
	rs    *redistest.Server
	agent *host
	old   *host
	seq   int64
	sets  int
}

const fleetIP = "127.0.60.1"

// work has a set carried out by both hosts, and a new agent come.
func (f *fleet) work() {
	f.t.Helper()
	t := f.t.(*testing.T)
	f.sets++
	n := tasks.Number(fmt.Sprintf("AC%d", f.sets))
	store := set(t, f.rs, n, "web-1", fleetIP)
	report := func(m wire.Status) {
		f.seq++
		m.Task, m.Seq = string(n), f.seq
		f.agent.say(m)
	}
	all := []string{"a", "b", "c"}
	f.agent.say(wire.Lookup{Task: string(n)})
	f.old.say(wire.Status{Task: string(n), Phase: 1, Lists: true, OnCall: all})
	report(wire.Status{Phase: 1, Lists: true, OnCall: all})
	for _, command := range all {
		report(wire.Status{Phase: 3, Result: &wire.Result{Command: command}})
	}
	f.old.say(wire.Status{Task: string(n), Phase: 3, Lists: true, Complete: all})
	f.running.agent(fmt.Sprintf("new-%d", f.sets), "i1")
	f.agent.until(wire.Confirm{Seq: f.seq})
	redistest.Eventually(t, string(n)+" is done", func() bool {
		l, err := store.Ledger(ctx, n)
		return err == nil && l.Counts[tasks.Done] == 2 && l.Stage == tasks.Closed
	})
	if findings, err := store.Verify(ctx, n); err != nil || len(findings) > 0 {
		t.Errorf("verify %s: %v %v", n, findings, err)
	}
	if got := f.rdb.XLen(ctx, tasks.KeyResults(n)).Val(); got != 3 {
		t.Errorf("%s has %d results, want 3", n, got)
	}
}

// Each service of a listener is killed in turn. It comes back, and who is connected
// notices nothing: no connection ends, no report is lost or counted twice.
func TestKilledServicesComeBack(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	k := &killer{}
	k.arm("returns", 0, killings["panic"]) // it goes round once, at the beginning
	r := start(t, rs, Config{ID: "a"}, quick, k.within)
	f := &fleet{running: r, rs: rs, old: r.old(fleetIP)}
	f.agent, _ = r.agent("web-1", "i1")
	back := func(service string, times int) {
		t.Helper()
		redistest.Eventually(t, service+" is started again", func() bool {
			return r.log.count(`msg="service started again"`, "service="+service+" ") == times ||
				r.log.count(`msg="service started again"`, "service="+service+"\n") == times
		})
		if n := r.log.count("level=error", `msg="service failed, it is started again"`, "service="+service, "killed"); n != times {
			t.Errorf("%d lines say that %s failed, want %d", n, service, times)
		}
	}
	back("returns", 1)
	services := map[string]int{ // and how often each goes round a piece of work
		"connections": 1, "lease": 1, "roll": 1, "sweep": 1, "messages": 1, "memory": 1,
		"presence": 2, "arrivals": 2, "reports": 2, "look-ups": 2,
	}
	for service, rounds := range services {
		times := 0
		for name, how := range killings {
			for passes := range rounds {
				t.Logf("%s of %s after %d rounds", name, service, passes)
				k.arm(service, passes, how)
				if service == "messages" {
					r.rdb.Publish(ctx, tasks.ChannelOff, "nobody")
				}
				f.work()
				times++
				back(service, times)
				r.hears()
			}
		}
	}
	f.work()
	if err := r.roll.Push(ctx, "a", tasks.Push{Action: tasks.PushCancel, Number: "AC1", Hosts: []string{"web-1"}}); err != nil {
		t.Fatal(err)
	}
	f.agent.until(wire.Push{Action: wire.ActionCancel, Task: "AC1"})
	for _, h := range []string{"web-1", fleetIP, "new-1", fmt.Sprintf("new-%d", f.sets)} {
		if got := r.events(h); len(got) != 1 || got[0] != "host.online" {
			t.Errorf("%s: events %q, want that it came online", h, got)
		}
	}
	if n := r.Stats().Connections.Load(); n != int64(f.sets)+2 {
		t.Errorf("%d connections, want %d", n, f.sets+2)
	}
	if strings.Contains(r.log.String(), "goroutine ") {
		t.Error("a stack in the log")
	}
}

// A service that can't stay up ends the listener, in good order, with an error that
// names it. What others of it had to write is written.
func TestAServiceThatCantStayUp(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"lease", "reports", "presence", "connections"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			rs := redistest.Open(t)
			set(t, rs, "AC1", "web-1")
			k := &killer{}
			s, err := New(Config{Redis: rs.Client, ID: "a", Drain: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			quick(s)
			k.within(s)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(ctx, ln) }()
			r := &running{Server: s, t: t, addr: ln.Addr().String(), rdb: rs.Client}
			h, _ := r.agent("web-1", "i1")
			k.mu.Lock()
			k.always = true
			k.mu.Unlock()
			k.arm(service, 0, killings["panic"])
			if service == "connections" {
				r.dial("127.0.0.1")
			}
			if service == "presence" {
				r.dial("127.0.0.1").say(wire.Heartbeat{})
			}
			h.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 1})
			want := "listener: " + service + " can't stay up, it failed 6 times in a short time, the last time with: panic: killed"
			if err := <-ended; err == nil || err.Error() != want {
				t.Errorf("Serve: %v, want %s", err, want)
			}
			h.closed()
			if got := r.state("AC1", "web-1"); got != tasks.Acknowledged && service != "reports" {
				t.Errorf("the report of the agent: it is %s", got)
			}
			if leaseOf(t, rs.Client, "a") < 0 {
				t.Error("the lease has ended")
			}
		})
	}
}

// Where the socket is lost the address is listened on again; who is connected stays so.
func TestListensAgain(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	s, err := New(Config{Redis: rs.Client, ID: "a", Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(serving, ln) }()
	r := &running{Server: s, t: t, addr: ln.Addr().String(), rdb: rs.Client}
	first, _ := r.agent("web-1", "i1")
	served := s.Stats().Connections.Load()
	ln.Close()
	// A connection that is made counts only when it is served: the system keeps the old
	// socket until the goroutine that accepts has let it go.
	redistest.Eventually(t, "the address is listened on again", func() bool {
		if conn, err := net.Dial("tcp", r.addr); err == nil {
			conn.Close()
		}
		return s.Stats().Connections.Load() > served
	})
	r.agent("web-2", "i1")
	first.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 1})
	first.until(wire.Confirm{Seq: 1})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A listener that is more than TCP is not replaced by one that is not.
func TestDoesNotListenAgainWithoutTLS(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	s, err := New(Config{Redis: rs.Client, ID: "a", Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := s.Serve(ctx, &failing{Listener: ln}); !errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "times") {
		t.Errorf("Serve: %v, want that the listener is closed", err)
	}
}

// faulty is a connection of which parts panic.
type faulty struct {
	net.Conn
	read, write, addr bool
}

func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if f.read && strings.Contains(string(p[:n]), "ADH33") {
		panic("killed")
	}
	return n, err
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.write && strings.Contains(string(p), "ADH35") {
		panic("killed")
	}
	return f.Conn.Write(p)
}

// RemoteAddr is asked for when a connection ends, and before.
func (f *faulty) RemoteAddr() net.Addr {
	if f.addr {
		panic("killed")
	}
	return f.Conn.RemoteAddr()
}

// faultyListener makes its second connection a faulty one.
type faultyListener struct {
	net.Listener
	n      int
	second *faulty
}

func (l *faultyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if l.n++; err == nil && l.n == 2 {
		l.second.Conn = conn
		return l.second, nil
	}
	return conn, err
}

// A panic while a connection is served ends that one, and no other.
func TestPanicOfAConnection(t *testing.T) {
	t.Parallel()
	for name, conn := range map[string]*faulty{
		"while it is read":                 {read: true},
		"while it is written":              {write: true},
		"while its messages are looked at": {addr: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs := redistest.Open(t)
			lines, log := &logLines{}, logrus.New()
			log.SetOutput(lines)
			s, err := New(Config{Redis: rs.Client, ID: "a", Log: log})
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			serving, cancel := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(serving, &faultyListener{Listener: ln, second: conn}) }()
			r := &running{Server: s, t: t, addr: ln.Addr().String(), rdb: rs.Client, log: lines}
			first, _ := r.agent("web-1", "i1")
			second := r.dial("127.0.0.1")
			second.say(wire.Hello{ID: "web-2", Instance: "i1", UDP: 7000})
			if !conn.addr {
				r.on("web-2")
			}
			second.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 1})
			second.closed()
			redistest.Eventually(t, "the connection is forgotten", func() bool { return len(s.members.sessionsNow()) == 1 })
			if !conn.addr {
				r.off("web-2")
				if n := lines.count("level=error", `msg="connection failed and is closed"`, "host=web-2", `error="panic: killed"`); n != 1 {
					t.Errorf("%d lines of it in the log:\n%s", n, lines)
				}
			}
			if n := s.Stats().Panics.Load(); n < 1 {
				t.Errorf("%d panics counted", n)
			}
			first.say(wire.Answer{Task: "AC1", RCC: wire.RCCReceived, Seq: 1})
			first.until(wire.Confirm{Seq: 1})
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// onCommand calls do before a pipeline with a command of that name.
type onCommand struct {
	name string
	do   func()
}

func (o onCommand) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (o onCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (o onCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == o.name {
				o.do()
				break
			}
		}
		return next(ctx, cmds)
	}
}

// A departure that is cut short between the roll and the keys of the host is finished.
func TestDepartureCutShort(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	var cuts atomic.Int32
	rdb := redis.NewClient(rs.Client.Options())
	defer rdb.Close()
	rdb.AddHook(onCommand{"zmscore", func() {
		if cuts.Add(1) <= 2 {
			panic("killed")
		}
	}})
	k := &killer{}
	r := start(t, rs, Config{ID: "a", Redis: rdb}, slow, k.within)
	h, _ := r.agent("web-1", "i1")
	h.say(wire.Info{Hostname: "one", IPv4: []string{"10.0.0.5"}})
	redistest.Eventually(t, "the information is there", func() bool {
		return rs.Client.Exists(ctx, tasks.KeyHost("web-1", "info")).Val() == 1
	})
	h.conn.Close()
	r.off("web-1")
	if n := cuts.Load(); n != 3 {
		t.Errorf("%d tries, want 3", n)
	}
	if got := r.events("web-1"); len(got) != 2 || got[1] != "host.offline connection closed" {
		t.Errorf("events %q", got)
	}
	if rs.Client.Exists(ctx, tasks.KeyHost("web-1", "info")).Val() != 0 {
		t.Error("what it told of itself is still there")
	}
	redistest.Eventually(t, "no departure is queued", func() bool {
		r.members.mu.Lock()
		defer r.members.mu.Unlock()
		return len(r.members.leaving) == 0
	})
}
