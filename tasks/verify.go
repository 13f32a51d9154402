package tasks

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

// expiryGrace is how long after its deadline a set may still have open hosts: a
// worker ends them within seconds.
const expiryGrace = time.Minute

// cancelGrace is the same after a cancellation: who cancels ends them, and if he dies
// over it a worker does.
const cancelGrace = 10 * time.Second

// Verify recounts the ledger of a set from its hosts, lists and results, and returns
// what does not add up, a line each and sorted: nothing for a sound ledger. Run on a
// set that is still changing it may report what is only under way. The error is
// ErrNotFound if there is no such set.
func (s *Store) Verify(ctx context.Context, n Number) ([]string, error) {
	l, err := s.Ledger(ctx, n)
	if err != nil {
		return nil, err
	}
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", n, err)
	}
	v := verifier{
		store: s, number: n, ledger: l, now: now, past: now.Sub(l.Deadline),
		states: map[string]State{}, results: map[string]map[string]Result{},
	}
	for _, step := range []func(context.Context) error{v.countStates, v.checkAwaiting, v.checkWaiting, v.checkSends, v.readResults, v.checkLists} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	v.checkStage()
	sort.Strings(v.findings)
	return v.findings, nil
}

type verifier struct {
	store    *Store
	number   Number
	ledger   Ledger
	now      time.Time     // by Redis's clock
	past     time.Duration // since the deadline; negative before it
	states   map[string]State
	results  map[string]map[string]Result // host -> command
	findings []string
}

func (v *verifier) find(format string, args ...any) {
	v.findings = append(v.findings, fmt.Sprintf(format, args...))
}

func (v *verifier) countStates(ctx context.Context) error {
	err := v.store.Hosts(ctx, v.number, func(hosts []HostState) error {
		for _, h := range hosts {
			v.states[h.Host] = h.State
		}
		return nil
	})
	if err != nil {
		return err
	}
	counted := map[State]int64{}
	for host, state := range v.states {
		if !isState(string(state)) {
			v.find("%s is in an unknown state %q", host, state)
		}
		counted[state]++
	}
	var sum int64
	for _, state := range States() {
		sum += v.ledger.Counts[state]
		if counted[state] != v.ledger.Counts[state] {
			v.find("counter %s is %d, but %d hosts are in that state", state, v.ledger.Counts[state], counted[state])
		}
	}
	if sum != v.ledger.Total {
		v.find("the counters add up to %d, but total is %d", sum, v.ledger.Total)
	}
	if int64(len(v.states)) != v.ledger.Total {
		v.find("total is %d, but there are %d hosts", v.ledger.Total, len(v.states))
	}
	return nil
}

func (v *verifier) checkAwaiting(ctx context.Context) error {
	awaited := map[string]bool{}
	err := v.store.Awaiting(ctx, v.number, func(hosts []string) error {
		for _, h := range hosts {
			awaited[h] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for host, state := range v.states {
		if state == Sent && !awaited[host] {
			v.find("%s is sent, but not among those awaited", host)
		}
	}
	for host := range awaited {
		if v.states[host] != Sent {
			v.find("%s is awaited, but %s", host, orNone(v.states[host]))
		}
	}
	return nil
}

// checkWaiting looks whether each host that is waited for is noted for this set: else
// it would not be told when it comes online. Past its deadline, or cancelled, a set waits
// for nobody, though its hosts may not be ended yet.
func (v *verifier) checkWaiting(ctx context.Context) error {
	if v.past >= 0 || !v.ledger.Cancelled.IsZero() {
		return nil
	}
	hosts := make([]string, 0, Chunk)
	for host, state := range v.states {
		if state != Waiting {
			continue
		}
		if hosts = append(hosts, host); len(hosts) == Chunk {
			if err := v.checkNoted(ctx, hosts); err != nil {
				return err
			}
			hosts = hosts[:0]
		}
	}
	return v.checkNoted(ctx, hosts)
}

func (v *verifier) checkNoted(ctx context.Context, hosts []string) error {
	if len(hosts) == 0 {
		return nil
	}
	noted := make([]*redis.BoolCmd, len(hosts))
	pipe := v.store.rdb.Pipeline()
	for i, h := range hosts {
		noted[i] = pipe.SIsMember(ctx, KeyWaiting(h), string(v.number))
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	for i, h := range hosts {
		switch err := noted[i].Err(); {
		case script.Transient(err):
			return fmt.Errorf("what waits for hosts of %s: %w", v.number, err)
		case err != nil:
			v.find("%s is no set", KeyWaiting(h))
		case !noted[i].Val():
			v.find("%s is waiting, but %s does not name the set", h, KeyWaiting(h))
		}
	}
	return nil
}

// checkSends looks for sends that are counted of a host that is not in the set.
func (v *verifier) checkSends(ctx context.Context) error {
	counted := map[string]bool{}
	var cursor uint64
	for {
		page, next, err := v.store.rdb.HScan(ctx, KeySends(v.number), cursor, "", Chunk).Result()
		if err != nil {
			return fmt.Errorf("sends of %s: %w", v.number, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			counted[page[i]] = true // one can come twice
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for host := range counted {
		if v.states[host] == "" {
			v.find("sends to %s are counted, which is not in the set", host)
		}
	}
	return nil
}

func (v *verifier) readResults(ctx context.Context) error {
	return v.store.Results(ctx, v.number, "", func(r Result) error {
		if _, ok := v.states[r.Host]; !ok {
			v.find("there is a result of %s, which is not in the set", r.Host)
		}
		if v.results[r.Host] == nil {
			v.results[r.Host] = map[string]Result{}
		}
		if _, twice := v.results[r.Host][r.Command]; twice {
			v.find("%s has two results of %q", r.Host, r.Command)
		}
		r.Stdout, r.Stderr = "", ""
		v.results[r.Host][r.Command] = r
		return nil
	})
}

// checkLists holds the state of each host against what it has run.
func (v *verifier) checkLists(ctx context.Context) error {
	commands, err := v.store.rdb.ZRange(ctx, KeySet(v.number), 0, -1).Result()
	if err != nil {
		return fmt.Errorf("commands of %s: %w", v.number, err)
	}
	if len(commands) != v.ledger.Commands {
		v.find("%d commands were written, but the set has %d", v.ledger.Commands, len(commands))
	}
	hosts := make([]string, 0, Chunk)
	for host := range v.states {
		if hosts = append(hosts, host); len(hosts) == Chunk {
			if err := v.checkListsOf(ctx, commands, hosts); err != nil {
				return err
			}
			hosts = hosts[:0]
		}
	}
	return v.checkListsOf(ctx, commands, hosts)
}

func (v *verifier) checkListsOf(ctx context.Context, commands, hosts []string) error {
	complete, err := v.lists(ctx, hosts, KeyCompleteOf)
	if err != nil {
		return err
	}
	oncall, err := v.lists(ctx, hosts, KeyOnCallOf)
	if err != nil {
		return err
	}
	inSet := map[string]bool{}
	for _, c := range commands {
		inSet[c] = true
	}
	for i, host := range hosts {
		v.checkHost(host, inSet, complete[i], oncall[i])
	}
	return nil
}

func (v *verifier) checkHost(host string, inSet map[string]bool, complete, oncall []string) {
	ran := map[string]bool{}
	for _, c := range complete {
		if ran[c] {
			v.find("%s has run %q twice", host, c)
		}
		ran[c] = true
	}
	for _, list := range [][]string{complete, oncall} {
		for _, c := range list {
			if !inSet[c] {
				v.find("%s lists %q, which is not in the set", host, c)
			}
		}
	}
	bad := false
	for c, r := range v.results[host] {
		bad = bad || r.ExitCode != 0 || r.Error != ""
		if !ran[c] {
			v.find("%s has a result of %q, but has not run it", host, c)
		}
	}
	state := v.states[host]
	whole := true
	for c := range inSet {
		whole = whole && ran[c]
	}
	switch {
	case (state == Done || state == Failed) && !whole:
		v.find("%s is %s, but has run %d of %d commands", host, state, len(ran), len(inSet))
	case state == Done && bad:
		v.find("%s is done, but a command failed", host)
	case state == Failed && !bad:
		v.find("%s is failed, but no command failed", host)
	case state.Open() && whole && v.past < 0:
		v.find("%s is %s, but has run every command", host, state)
	}
}

// lists reads one list a host, in one round trip.
func (v *verifier) lists(ctx context.Context, hosts []string, key func(Number, string) string) ([][]string, error) {
	lists := make([][]string, len(hosts))
	pipe := v.store.rdb.Pipeline()
	for _, h := range hosts {
		pipe.LRange(ctx, key(v.number, h), 0, -1)
	}
	if len(hosts) == 0 {
		return lists, nil
	}
	cmds, _ := pipe.Exec(ctx)
	for i, c := range cmds {
		switch err := c.Err(); {
		case script.Transient(err):
			return nil, fmt.Errorf("lists of %s: %w", v.number, err)
		case err != nil:
			v.find("%s is no list", key(v.number, hosts[i]))
		default:
			lists[i] = c.(*redis.StringSliceCmd).Val()
		}
	}
	return lists, nil
}

func (v *verifier) checkStage() {
	open, stage := v.ledger.Open(), v.ledger.Stage
	if v.past > expiryGrace && (open > 0 || stage != Closed) {
		v.find("the deadline has passed, but the set is %s and %d hosts are open", stage, open)
	}
	if cancelled := v.ledger.Cancelled; !cancelled.IsZero() && v.now.Sub(cancelled) > cancelGrace && (open > 0 || stage != Closed) {
		v.find("the set was cancelled, but is %s and %d hosts are open", stage, open)
	}
	// A closed set may have open hosts: some that were offline, missing or unanswered
	// and were heard of since.
	switch {
	case stage == Open && open == 0:
		v.find("the set is open, but no host is")
	case stage != Preparing && stage != Open && stage != Closed:
		v.find("the set is in an unknown state %q", stage)
	case (stage == Closed) == v.ledger.Closed.IsZero():
		v.find("the set is %s, and its time of closing is %v", stage, v.ledger.Closed)
	}
}

func orNone(s State) string {
	if s == "" {
		return "not in the set"
	}
	return string(s)
}
