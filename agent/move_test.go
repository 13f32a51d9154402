package agent

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/wire"
)

func refused(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("connection refused")
}

// While no other listener lets it in, the agent stays where it is: reports and
// heartbeats leave there. What was not confirmed there is sent again on the new
// connection.
func TestMoveThatFindsNobody(t *testing.T) {
	t.Parallel()
	l1, l2 := newFakeListener(t), newFakeListener(t)
	l1.confirms = false
	l1.put("AC1", "1-0", "echo one", "echo two")
	cfg := testConfig(t, l1.addr(), "down:1", l2.addr())
	var mu sync.Mutex
	var dialed []string
	open := make(chan struct{})
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dialed = append(dialed, addr)
		n := len(dialed)
		mu.Unlock()
		switch {
		case n == 6:
			<-open
		case n > 1:
			return refused(ctx, network, addr)
		}
		return net.Dial(network, addr)
	}
	defer close(open)
	a, _ := runAgent(t, cfg)
	send(l1.conn(0), wire.Push{Action: wire.ActionMove})
	eventually(t, "attempts to move", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(dialed) == 6
	})
	tell(t, a, "AC1")
	l1.results("AC1", 2)
	beats := len(got[wire.Heartbeat](l1))
	eventually(t, "two heartbeats on the old connection", func() bool { return len(got[wire.Heartbeat](l1)) >= beats+2 })
	l1.with(func() {
		if len(l1.conns) != 1 || l1.conns[0].closed {
			t.Error("the old connection was given up")
		}
	})
	open <- struct{}{}
	l2.results("AC1", 2)
	var again []int64
	l2.with(func() {
		for _, m := range l2.conns[0].got {
			switch m := m.(type) {
			case wire.Status:
				again = append(again, m.Seq)
			case wire.Answer:
				again = append(again, m.Seq)
			}
		}
	})
	if !slices.Equal(again, []int64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("sent again %v, want 1 to 6", again)
	}
	eventually(t, "the old connection to be closed", func() bool {
		var closed bool
		l1.with(func() { closed = l1.conns[0].closed })
		return closed
	})
	mu.Lock()
	defer mu.Unlock()
	// The others first; its own server comes after them.
	if want := []string{l1.addr(), "down:1", l2.addr(), l1.addr(), "down:1", l2.addr()}; !slices.Equal(dialed, want) {
		t.Errorf("dialed %q, want %q", dialed, want)
	}
}

// dialing is an attempt to connect, in a bubble.
type dialing struct {
	server string
	after  time.Duration // since the bubble began
}

// inBubble keeps an agent connected to servers a and b. dial says what becomes of
// the n-th attempt: a listener's side of a connection goes to serve.
func inBubble(t *testing.T, dial func(ctx context.Context, n int) (net.Conn, error)) (attempts func() []dialing) {
	t.Helper()
	a, err := New(testConfig(t, "a:1", "b:1"))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var mu sync.Mutex
	var list []dialing
	a.cfg.Dial = func(ctx context.Context, _, server string) (net.Conn, error) {
		mu.Lock()
		list = append(list, dialing{server[:1], time.Since(begin)})
		n := len(list) - 1
		mu.Unlock()
		return dial(ctx, n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var connecting sync.WaitGroup
	connecting.Go(func() { a.stayConnected(ctx, func(wire.Message) {}) })
	t.Cleanup(func() {
		cancel()
		connecting.Wait()
		release(a)
	})
	return func() []dialing {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// welcoming returns a connection to a listener that welcomes after a while and then
// reads. far is the listener's side.
func welcoming(after time.Duration) (near, far net.Conn) {
	near, far = net.Pipe()
	go func() {
		frames := wire.NewDecoder(far, 0)
		for first := true; ; first = false {
			if _, err := frames.Next(); err != nil {
				far.Close()
				return
			}
			if first {
				time.AfterFunc(after, func() {
					send(far, wire.Welcome{Server: "l", HeartbeatMS: 5000, TimeMS: time.Now().UnixMilli()})
				})
			}
		}
	}()
	return near, far
}

func never(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// However long it has tried in vain to move: once the old connection is gone, the
// agent is quick to look for a new one, and not only at the server that is slow.
func TestOldConnectionEndsWhileMoving(t *testing.T) {
	for name, test := range map[string]struct {
		attempt func(ctx context.Context) (net.Conn, error)
		within  time.Duration
	}{
		"refused":  {func(ctx context.Context) (net.Conn, error) { return refused(ctx, "", "") }, backOffFirst},
		"no route": {never, lastTry + backOffFirst},
		"no welcome": {func(context.Context) (net.Conn, error) {
			near, _ := welcoming(time.Hour)
			return near, nil
		}, lastTry + backOffFirst},
	} {
		synctest.Test(t, func(t *testing.T) {
			first, far := welcoming(0)
			var gone atomic.Bool
			attempts := inBubble(t, func(ctx context.Context, n int) (net.Conn, error) {
				switch {
				case n == 0:
					return first, nil
				case !gone.Load():
					return test.attempt(ctx)
				}
				near, _ := welcoming(0)
				return near, nil
			})
			synctest.Wait()
			send(far, wire.Push{Action: wire.ActionMove})
			time.Sleep(5 * time.Minute)
			if n := len(attempts()); n < 5 && name == "refused" {
				t.Errorf("%s: %d attempts in five minutes", name, n)
			}
			before := len(attempts())
			gone.Store(true)
			far.Close()
			time.Sleep(test.within)
			list := attempts()
			if len(list) != before+1 {
				t.Fatalf("%s: dialed %v, want once within %v", name, list[before-1:], test.within)
			}
			if list[before].server == list[before-1].server {
				t.Errorf("%s: dialed %v, want another server than the last", name, list)
			}
		})
	}
}

// A listener that is about to welcome the agent is not left for that the old one
// has ended.
func TestMoveIsAlmostDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, far := welcoming(0)
		attempts := inBubble(t, func(ctx context.Context, n int) (net.Conn, error) {
			if n == 0 {
				return first, nil
			}
			near, _ := welcoming(10 * time.Second)
			return near, nil
		})
		synctest.Wait()
		send(far, wire.Push{Action: wire.ActionMove})
		for len(attempts()) < 2 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(9*time.Second + 500*time.Millisecond)
		far.Close()
		time.Sleep(time.Minute)
		if list := attempts(); len(list) != 2 || list[1].server != "b" {
			t.Errorf("dialed %v, want a and b once", list)
		}
	})
}

// A connection that was good and broke is replaced at once, at the other server
// first.
func TestReconnectIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, far := welcoming(0)
		attempts := inBubble(t, func(ctx context.Context, n int) (net.Conn, error) {
			switch {
			case n == 12: // after failures that have made it slow
				return first, nil
			case n < 15:
				return refused(ctx, "", "")
			}
			near, _ := welcoming(0)
			return near, nil
		})
		for len(attempts()) < 13 {
			time.Sleep(time.Second)
		}
		time.Sleep(settled)
		far.Close()
		time.Sleep(backOffFirst + 2*backOffFirst + 4*backOffFirst)
		list := attempts()
		if len(list) != 16 {
			t.Fatalf("dialed %v, want three times after the end", list)
		}
		var servers string
		for _, d := range list[12:] {
			servers += d.server
		}
		if servers != "abab" {
			t.Errorf("dialed %s, want each in its turn", servers)
		}
	})
}
