package faults

import (
	"context"
	"fmt"
	"sort"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// states are all that a host can be in, as docs/PROTOCOL.md names them to the world.
var states = [...]string{
	"waiting", "sent", "acknowledged", "received", "working",
	"done", "failed", "cancelled", "expired", "offline", "missing", "unanswered",
}

// Account is what Redis holds of a task set, counted anew.
type Account struct {
	Key     string
	Exists  bool
	State   string // of the set: preparing, open, closed
	Request string
	Meta    map[string]string
	Hosts   map[string]string            // host -> state
	Results map[string]map[string]Result // host -> command
	Wrong   []string                     // what does not add up, sorted
}

// Result is how a command ended, as far as it matters here.
type Result struct{ Code, Error string }

// Counted is how many hosts are in a state.
func (a Account) Counted(state string) int {
	n := 0
	for _, s := range a.Hosts {
		if s == state {
			n++
		}
	}
	return n
}

// Recount reads a set with plain commands, and counts. A set that is still changing may
// not add up, since it is read bit by bit.
func Recount(ctx context.Context, rdb *redis.Client, key string) (Account, error) {
	a := Account{Key: key, Results: map[string]map[string]Result{}}
	var meta, hosts *redis.MapStringStringCmd
	var awaiting, commands *redis.StringSliceCmd
	var results *redis.XMessageSliceCmd
	_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		meta = p.HGetAll(ctx, "{"+key+"}:meta")
		hosts = p.HGetAll(ctx, "{"+key+"}:hosts")
		awaiting = p.SMembers(ctx, "{"+key+"}:awaiting")
		commands = p.ZRange(ctx, key, 0, -1)
		results = p.XRange(ctx, "{"+key+"}:results", "-", "+")
		return nil
	})
	if err != nil {
		return a, fmt.Errorf("recount %s: %w", key, err)
	}
	a.Meta, a.Hosts = meta.Val(), hosts.Val()
	a.Exists, a.State, a.Request = len(a.Meta) > 0, a.Meta["state"], a.Meta["request"]
	if !a.Exists {
		return a, nil
	}
	a.count()
	a.awaited(awaiting.Val())
	for _, m := range results.Val() {
		a.result(m.Values)
	}
	if err := a.ran(ctx, rdb, commands.Val()); err != nil {
		return a, err
	}
	sort.Strings(a.Wrong)
	return a, nil
}

func (a *Account) wrong(format string, args ...any) {
	a.Wrong = append(a.Wrong, a.Key+": "+fmt.Sprintf(format, args...))
}

func (a *Account) number(field string) int {
	n, err := strconv.Atoi(a.Meta[field])
	if err != nil {
		a.wrong("%s is %q", field, a.Meta[field])
	}
	return n
}

func (a *Account) count() {
	sum, total := 0, a.number("total")
	for _, s := range states {
		n := a.number(s)
		sum += n
		if c := a.Counted(s); c != n {
			a.wrong("counter %s is %d, but %d hosts are in that state", s, n, c)
		}
	}
	if sum != total || len(a.Hosts) != total {
		a.wrong("total is %d, the counters add up to %d, and there are %d hosts", total, sum, len(a.Hosts))
	}
	if a.State == "closed" && a.Meta["closed_ms"] == "" || a.State != "closed" && a.Meta["closed_ms"] != "" {
		a.wrong("it is %s, and closed_ms is %q", a.State, a.Meta["closed_ms"])
	}
}

func (a *Account) awaited(hosts []string) {
	if len(hosts) != a.Counted("sent") {
		a.wrong("%d hosts are awaited, %d are sent", len(hosts), a.Counted("sent"))
	}
	for _, h := range hosts {
		if a.Hosts[h] != "sent" {
			a.wrong("%s is awaited, but %s", h, a.Hosts[h])
		}
	}
}

func (a *Account) result(m map[string]any) {
	field := func(name string) string { s, _ := m[name].(string); return s }
	host, command := field("host"), field("command")
	if a.Results[host] == nil {
		a.Results[host] = map[string]Result{}
	}
	if _, twice := a.Results[host][command]; twice {
		a.wrong("%s has two results of %q", host, command)
	}
	a.Results[host][command] = Result{field("exit_code"), field("error")}
}

// ran holds the states of the hosts against what they have run.
func (a *Account) ran(ctx context.Context, rdb *redis.Client, commands []string) error {
	complete := map[string]*redis.StringSliceCmd{}
	if len(a.Hosts) == 0 {
		return nil
	}
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for h := range a.Hosts {
			complete[h] = p.LRange(ctx, "{"+a.Key+"}:complete:"+h, 0, -1)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recount %s: %w", a.Key, err)
	}
	for h, state := range a.Hosts {
		ran := map[string]int{}
		for _, c := range complete[h].Val() {
			if ran[c]++; ran[c] == 2 {
				a.wrong("%s has run %q twice", h, c)
			}
		}
		missing, bad := 0, false
		for _, c := range commands {
			if ran[c] == 0 {
				missing++
			}
			r, reported := a.Results[h][c]
			bad = bad || reported && (r.Code != "0" || r.Error != "")
		}
		switch {
		case (state == "done" || state == "failed") && missing > 0:
			a.wrong("%s is %s, but has not run %d commands", h, state, missing)
		case state == "done" && bad, state == "failed" && !bad:
			a.wrong("%s is %s, but its results say otherwise", h, state)
		}
	}
	return nil
}
