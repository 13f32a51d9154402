package tasks

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

// Ledger is the head of a task set: how far it is and how many hosts are in each
// state.
type Ledger struct {
	Number    Number
	Stage     Stage
	Request   string // the id of the request that made it
	Created   time.Time
	Deadline  time.Time
	Closed    time.Time     // zero until it is closed
	Cancelled time.Time     // zero unless it was cancelled
	Timeout   time.Duration // limit for each command
	Commands  int           // how many commands it has
	Sent      time.Time     // when its number went out first; zero before
	Retry     time.Duration // wait before it is sent again, doubled each time; zero before
	Total     int64
	Counts    map[State]int64 // every state has an entry; together they are Total
}

// Fields is the ledger for a line of a log: task, request, total, and how many hosts are
// in each state that some are in, under the state's name.
func (l Ledger) Fields() map[string]any {
	fields := map[string]any{"task": string(l.Number), "request": l.Request, "total": l.Total}
	for state, n := range l.Counts {
		if n > 0 {
			fields[string(state)] = n
		}
	}
	return fields
}

// Open is how many hosts are still to be heard of.
func (l Ledger) Open() int64 {
	var n int64
	for s, count := range l.Counts {
		if s.Open() {
			n += count
		}
	}
	return n
}

// Ledger reads the head of a set. The error is ErrNotFound if there is none.
func (s *Store) Ledger(ctx context.Context, n Number) (Ledger, error) {
	l, _, err := s.head(ctx, n)
	return l, err
}

// head is Ledger, and the mark that the end of the set was announced, empty if it was not.
func (s *Store) head(ctx context.Context, n Number) (l Ledger, mark string, err error) {
	meta, err := s.rdb.HGetAll(ctx, KeyMeta(n)).Result()
	if err != nil {
		return Ledger{}, "", fmt.Errorf("ledger of %s: %w", n, err)
	}
	if meta["state"] == "" {
		return Ledger{}, "", fmt.Errorf("%s: %w", n, ErrNotFound)
	}
	return parseLedger(n, meta), meta["announced"], nil
}

func parseLedger(n Number, meta map[string]string) Ledger {
	number := func(name string) int64 {
		i, _ := strconv.ParseInt(meta[name], 10, 64)
		return i
	}
	l := Ledger{
		Number: n, Stage: Stage(meta["state"]), Request: meta["request"],
		Created: unixMilli(meta["created_ms"]), Deadline: unixMilli(meta["deadline_ms"]), Closed: unixMilli(meta["closed_ms"]), Cancelled: unixMilli(meta["cancelled_ms"]),
		Timeout: time.Duration(number("timeout_s")) * time.Second, Commands: int(number("commands")),
		Sent: unixMilli(meta["sent_ms"]), Retry: time.Duration(number("retry_ms")) * time.Millisecond,
		Total: number("total"), Counts: map[State]int64{},
	}
	for _, state := range States() {
		l.Counts[state] = number(string(state))
	}
	return l
}

// HostState is a host of a set and its state.
type HostState struct {
	Host  string
	State State
}

// Hosts calls visit with the hosts of a set and their states, some hundreds at a
// time, in no order. A host can come twice.
func (s *Store) Hosts(ctx context.Context, n Number, visit func([]HostState) error) error {
	var cursor uint64
	for {
		page, next, err := s.rdb.HScan(ctx, KeyHosts(n), cursor, "", Chunk).Result()
		if err != nil {
			return fmt.Errorf("hosts of %s: %w", n, err)
		}
		states := make([]HostState, 0, len(page)/2)
		for i := 0; i+1 < len(page); i += 2 {
			states = append(states, HostState{page[i], State(page[i+1])})
		}
		if err := visit(states); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Awaiting calls visit with the hosts of a set that are in state sent, some hundreds
// at a time, in no order. A host can come twice.
func (s *Store) Awaiting(ctx context.Context, n Number, visit func([]string) error) error {
	var cursor uint64
	for {
		page, next, err := s.rdb.SScan(ctx, KeyAwaiting(n), cursor, "", Chunk).Result()
		if err != nil {
			return fmt.Errorf("hosts awaited by %s: %w", n, err)
		}
		for len(page) > 0 {
			part := page[:min(len(page), Chunk)]
			page = page[len(part):]
			if err := visit(part); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// resultsPage is how many results are read at once: with outputs at their limit of
// 64 KiB each a page is 12 MiB.
const resultsPage = 100

// Results calls visit with how each command ended, the earliest first. With a host
// only its own are given.
func (s *Store) Results(ctx context.Context, n Number, host string, visit func(Result) error) error {
	_, err := s.ResultsAfter(ctx, n, "", func(r Result) error {
		if host == "" || host == r.Host {
			return visit(r)
		}
		return nil
	})
	return err
}

// ResultsAfter calls visit with the results that have come in after the one with the id
// after, "" for all of them, the earliest first. It returns the id of the last one that
// was visited, also beside an error, to go on from there.
func (s *Store) ResultsAfter(ctx context.Context, n Number, after string, visit func(Result) error) (last string, err error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	for {
		page, err := s.rdb.XRangeN(ctx, KeyResults(n), from, "+", resultsPage).Result()
		if err != nil {
			return after, fmt.Errorf("results of %s: %w", n, err)
		}
		for _, m := range page {
			if err := visit(parseResult(m)); err != nil {
				return after, err
			}
			after = m.ID
		}
		if len(page) < resultsPage {
			return after, nil
		}
		from = "(" + after
	}
}

func parseResult(m redis.XMessage) Result {
	field := func(name string) string {
		v, _ := m.Values[name].(string)
		return v
	}
	number := func(name string) int64 {
		i, _ := strconv.ParseInt(field(name), 10, 64)
		return i
	}
	return Result{
		ID: m.ID, Host: field("host"), Command: field("command"), ExitCode: int(number("exit_code")),
		DurationMS: number("duration_ms"), Stdout: field("stdout"), Stderr: field("stderr"),
		StdoutBytes: number("stdout_bytes"), StderrBytes: number("stderr_bytes"),
		Truncated: field("truncated") == "1", Error: field("error"),
	}
}

// Lookup names a set and the host that asks for it.
type Lookup struct {
	Number Number
	Host   string
}

// Set is a task set as a host gets it.
type Set struct {
	Number    Number
	Found     bool      // false: there is no such set for this host; the rest is then empty
	Cancelled bool      // it is not found because it was cancelled
	Commands  []Command // in the order in which they run
	Request   string
	Timeout   time.Duration
	Deadline  time.Time // by Redis's clock
}

// Find answers look-ups, in their order, in one round trip.
func (s *Store) Find(ctx context.Context, lookups []Lookup) ([]Set, error) {
	type head struct {
		meta     *redis.SliceCmd
		commands *redis.ZSliceCmd
	}
	heads := map[Number]head{}
	states := make([]*redis.StringCmd, len(lookups))
	// A key of the wrong type fails its own command only; the others are good.
	cmds, _ := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, l := range lookups {
			if _, ok := heads[l.Number]; !ok {
				heads[l.Number] = head{
					p.HMGet(ctx, KeyMeta(l.Number), "request", "timeout_s", "deadline_ms", "cancelled_ms"),
					p.ZRevRangeWithScores(ctx, KeySet(l.Number), 0, -1),
				}
			}
			states[i] = p.HGet(ctx, KeyHosts(l.Number), l.Host)
		}
		return nil
	})
	for _, cmd := range cmds {
		if script.Transient(cmd.Err()) {
			return nil, fmt.Errorf("look up task sets: %w", cmd.Err())
		}
	}
	sets := make([]Set, len(lookups))
	for i, l := range lookups {
		sets[i].Number = l.Number
		state := State(states[i].Val())
		h := heads[l.Number]
		commands := h.commands.Val()
		if state == "" || len(commands) == 0 || h.meta.Err() != nil {
			continue
		}
		if sets[i].Cancelled = state == Cancelled || h.meta.Val()[3] != nil; sets[i].Cancelled {
			continue
		}
		meta := func(i int) string {
			v, _ := h.meta.Val()[i].(string)
			return v
		}
		timeout, _ := strconv.ParseInt(meta(1), 10, 64)
		sets[i] = Set{
			Number: l.Number, Found: true, Request: meta(0),
			Timeout: time.Duration(timeout) * time.Second, Deadline: unixMilli(meta(2)),
		}
		for _, z := range commands {
			line, _ := z.Member.(string)
			if !math.IsInf(z.Score, 0) {
				sets[i].Commands = append(sets[i].Commands, Command{line, z.Score})
			}
		}
	}
	return sets, nil
}
