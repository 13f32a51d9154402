package script_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/script"
)

var (
	count = script.New("local by = tonumber(ARGV[1])", "return redis.call('INCRBY', KEYS[1], by)")
	echo  = script.New("return ARGV")
	none  = script.New("return nil")
	fail  = script.New("return redis.error_reply(ARGV[1])")
)

func add(key string, by int) script.Call {
	return script.Call{Script: count, Keys: []string{key}, Args: []any{by}}
}

func TestRun(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	got, err := script.Run(t.Context(), srv.Client,
		add("a", 1), add("a", 2), add("b", 5),
		script.Call{Script: echo, Args: []any{"x", 7, true, ""}}, script.Call{Script: none}, add("a", 4))
	if err != nil {
		t.Fatal(err)
	}
	if want := "[{1 <nil>} {3 <nil>} {5 <nil>} {[x 7 1 ] <nil>} {<nil> <nil>} {7 <nil>}]"; fmt.Sprint(got) != want {
		t.Fatalf("results %v, want %s", got, want)
	}
	if got, err := script.Run(t.Context(), srv.Client); got != nil || err != nil {
		t.Fatalf("no calls: %v, %v", got, err)
	}
}

// A server that was restarted, or another in its place, knows no script.
func TestForgottenScripts(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	calls := []script.Call{add("a", 1), {Script: echo, Args: []any{"x"}}, add("a", 1), add("a", 1)}
	for round := 1; round <= 3; round++ {
		if err := srv.Client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if round == 3 { // one of the two is known
			if _, err := script.Run(t.Context(), srv.Client, calls[1]); err != nil {
				t.Fatal(err)
			}
		}
		got, err := script.Run(t.Context(), srv.Client, calls...)
		if err != nil {
			t.Fatal(err)
		}
		// Calls of one script keep their order, and each runs once.
		n := int64(3 * round)
		if want := fmt.Sprintf("[{%d <nil>} {[x] <nil>} {%d <nil>} {%d <nil>}]", n-2, n-1, n); fmt.Sprint(got) != want {
			t.Fatalf("round %d: results %v, want %s", round, got, want)
		}
	}
}

// The error of one call is its own.
func TestErrorOfOneCall(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	if err := srv.Client.LPush(t.Context(), "list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // with the script unknown and with it known
		if err := srv.Client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := script.Run(t.Context(), srv.Client,
				add("list", 1), add("a", 1), script.Call{Script: fail, Args: []any{"ERR my own"}}, add("b", 1))
			if err != nil {
				t.Fatal(err)
			}
			if got[0].Err == nil || got[1].Err != nil || got[2].Err == nil || got[3].Err != nil {
				t.Fatalf("results %v", got)
			}
			if script.Transient(got[0].Err) || script.Transient(got[2].Err) {
				t.Fatalf("%v and %v are about the call", got[0].Err, got[2].Err)
			}
			if got[0].Value != nil || got[1].Value != got[3].Value {
				t.Fatalf("results %v", got)
			}
		}
	}
}

// What Redis can't do now fails the whole, and no result is claimed.
func TestNotNow(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	for _, reply := range []string{
		"LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica.",
		"OOM command not allowed when used memory > 'maxmemory'.", "MISCONF Redis is configured to save",
		"ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
	} {
		got, err := script.Run(t.Context(), srv.Client, add("a", 1), script.Call{Script: fail, Args: []any{reply}}, add("a", 1))
		if got != nil || err == nil || !script.Transient(err) {
			t.Errorf("%s gives %v, %v", reply, got, err)
		}
	}
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	srv := redistest.OpenReal(t)
	calls := []script.Call{add("a", 1), add("b", 1)}
	if _, err := script.Run(t.Context(), srv.Client, calls...); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: srv.Addr, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})
	t.Cleanup(func() { client.Close() })
	if _, err := script.Run(t.Context(), client, calls...); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	for range 2 { // on the connection that broke, and with none
		if got, err := script.Run(t.Context(), client, calls...); got != nil || !script.Transient(err) {
			t.Fatalf("without Redis: %v, %v", got, err)
		}
	}
	srv.Start() // empty: it knows no script
	got, err := script.Run(t.Context(), client, calls...)
	if err != nil || fmt.Sprint(got) != "[{1 <nil>} {1 <nil>}]" {
		t.Fatalf("with Redis again: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := script.Run(ctx, client, calls...); got != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v, %v", got, err)
	}
}

// reply is an error as a server answers it.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestTransient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{redis.Nil, false},
		{fmt.Errorf("read: %w", redis.Nil), false},
		{io.EOF, true},
		{redis.ErrClosed, true},
		{context.DeadlineExceeded, true},
		{errors.New("dial tcp 127.0.0.1:6379: connect: connection refused"), true},
		{reply("WRONGTYPE Operation against a key holding the wrong kind of value"), false},
		{reply("ERR unknown command"), false},
		{reply("ERR user_script:1: Script attempted to access nonexistent global variable 'BUSY'"), false},
		{reply("BUSYGROUP Consumer Group name already exists"), false},
		{reply("BUSYKEY Target key name already exists."), false},
		{reply("CROSSSLOT Keys in request don't hash to the same slot"), false},
		{reply("NOGROUP No such key"), false},
		{reply("BUSY Redis is busy running a script."), true},
		{reply("NOSCRIPT No matching script."), true},
		{reply("MASTERDOWN Link with MASTER is down"), true},
		{reply("CLUSTERDOWN Hash slot not served"), true},
		{reply("TRYAGAIN Multiple keys request during rehashing of slot"), true},
		{reply("MOVED 3999 127.0.0.1:6381"), true},
		{reply("ASK 3999 127.0.0.1:6381"), true},
		{reply("NOREPLICAS Not enough good replicas to write."), true},
		{reply("UNBLOCKED the instance changed state"), true},
		{reply("NOAUTH Authentication required."), true},
		{reply("WRONGPASS invalid username-password pair"), true},
		{reply("NOPERM this user has no permissions"), true},
		{reply("ERR The user executing the script can't run this command or subcommand script: 819a, on @user_script:1."), true},
		{reply("ERR ACL failure in script: User u has no permissions to run the 'hset' command"), true},
		{reply("ERR max number of clients reached"), true},
		{reply("ERR Protocol error: unauthenticated multibulk length"), true},
		{reply("ERR Protocol error: unauthenticated bulk length"), true},
		{reply("ERR Protocol error: invalid bulk length"), false},
		{fmt.Errorf("store: %w", reply("LOADING Redis is loading the dataset in memory")), true},
		{fmt.Errorf("store: %w", reply("WRONGTYPE Operation")), false},
	} {
		if got := script.Transient(c.err); got != c.want {
			t.Errorf("Transient(%v) = %v", c.err, got)
		}
	}
}

// A script that does what its user may not is refused until the user may.
func TestScriptOfOneWhoMayNot(t *testing.T) {
	t.Parallel()
	srv := redistest.OpenReal(t)
	ctx := t.Context()
	allow := func(rules ...any) {
		t.Helper()
		if err := srv.Client.Do(ctx, append([]any{"ACL", "SETUSER", "u", "on", "nopass", "~*", "+@all"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	client := redis.NewClient(&redis.Options{Addr: srv.Addr, Username: "u", Password: "any"})
	t.Cleanup(func() { client.Close() })
	for _, rule := range []string{"-incrby", "resetkeys"} {
		allow(rule)
		if _, err := script.Run(ctx, client, add("a", 1)); !script.Transient(err) {
			t.Errorf("%s: %v, want an error that time may mend", rule, err)
		}
	}
	allow()
	if _, err := script.Run(ctx, client, add("a", 1)); err != nil {
		t.Error(err)
	}
}

// A server that takes the call and never answers is no answer.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	srv := redistest.OpenReal(t)
	client := redis.NewClient(&redis.Options{Addr: srv.Addr, MaxRetries: -1, ReadTimeout: 50 * time.Millisecond, DisableIdentity: true})
	t.Cleanup(func() { client.Close() })
	// The server answers nobody for longer than the client waits.
	if err := srv.Client.Do(t.Context(), "CLIENT", "PAUSE", "300", "ALL").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := script.Run(t.Context(), client, add("a", 1)); got != nil || !script.Transient(err) {
		t.Fatalf("without an answer: %v, %v", got, err)
	}
}
