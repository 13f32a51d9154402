// Package script runs Lua scripts on Redis, many of them in one round trip.
//
// A script is sent by its hash alone. A server that does not know it (it is new, it
// was restarted, another one took its place) is sent the text in a second round trip,
// also in a pipeline, where go-redis itself has no fallback.
package script

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Script is one Lua script. It is made once and never changes.
type Script struct {
	lua *redis.Script
	src string
}

// New returns the script whose text is the parts, one after another, so that
// scripts can share a beginning.
func New(parts ...string) *Script {
	src := strings.Join(parts, "\n")
	return &Script{lua: redis.NewScript(src), src: src}
}

// Call is one run of a script.
type Call struct {
	Script *Script
	Keys   []string
	Args   []any
}

// Result is what one Call returned. Err is an error that Redis gave for this call;
// it says nothing of the others.
type Result struct {
	Value any
	Err   error
}

// Run runs the calls in order in one round trip. The error says that it is not
// known what was run: Redis did not answer, or can't do this at the moment (it is
// loading, read-only, full). The whole may then be tried again, since every script
// here is safe to repeat.
//
// Calls may change places while the server does not know a script of theirs. What must
// stay in order belongs in one script, or in two calls of Run.
func Run(ctx context.Context, rdb redis.UniversalClient, calls ...Call) ([]Result, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	results := make([]Result, len(calls))
	pending := make([]int, len(calls))
	for i := range pending {
		pending[i] = i
	}
	forgotten, err := send(ctx, rdb, calls, results, pending, false)
	if err == nil && len(forgotten) > 0 {
		_, err = send(ctx, rdb, calls, results, forgotten, true)
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

// send runs those of the calls that pending names and returns those whose script
// the server does not know.
func send(ctx context.Context, rdb redis.UniversalClient, calls []Call, results []Result, pending []int, whole bool) ([]int, error) {
	cmds := make([]*redis.Cmd, len(pending))
	_, execErr := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, n := range pending {
			c := calls[n]
			if whole {
				cmds[i] = p.Eval(ctx, c.Script.src, c.Keys, c.Args...)
			} else {
				cmds[i] = p.EvalSha(ctx, c.Script.lua.Hash(), c.Keys, c.Args...)
			}
		}
		return nil
	})
	var forgotten []int
	for i, n := range pending {
		value, err := cmds[i].Result()
		switch {
		case err == nil || errors.Is(err, redis.Nil):
			results[n] = Result{Value: value}
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			forgotten = append(forgotten, n)
		case Transient(err):
			return nil, err
		default:
			results[n] = Result{Err: err}
		}
	}
	if execErr != nil && Transient(execErr) && !redis.HasErrorPrefix(execErr, "NOSCRIPT") {
		return nil, execErr
	}
	return forgotten, nil
}

// Transient reports whether err may go away by itself: Redis can't be reached, or
// has answered that it can't do this now. Other errors of Redis are about the
// command.
func Transient(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true // not an answer of Redis
	}
	text := reply.Error()
	for _, now := range []string{
		"LOADING", "READONLY", "OOM", "BUSY ", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF",
		"NOAUTH", "WRONGPASS", "NOPERM", "NOREPLICAS", "MOVED", "ASK ", "UNBLOCKED", "NOSCRIPT", "ERR max number of clients",
		"ERR Protocol error: unauthenticated", // too much for one who has not logged in
	} {
		// An error inside a script stands behind other words in some versions.
		if strings.HasPrefix(text, now) || strings.Contains(text, "-"+now) {
			return true
		}
	}
	// What a script may not do is refused in other words than what a client may not: up to
	// Redis 7.0, and since.
	return strings.Contains(text, "The user executing the script can't ") || strings.Contains(text, "ACL failure in script")
}
