package tasks_test

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// keep is how long the sets of tests stay after their deadline.
const keep = 3 * time.Hour

// fixture is a Redis and what most tests do on it. Tests that share one use task
// numbers of their own.
type fixture struct {
	*testing.T
	srv   *redistest.Server
	rdb   *redis.Client
	store *tasks.Store
}

func open(t *testing.T) fixture {
	t.Helper()
	return on(t, redistest.Open(t))
}

func on(t *testing.T, srv *redistest.Server) fixture {
	return fixture{t, srv, srv.Client, tasks.NewStore(srv.Client, tasks.StoreConfig{Keep: keep})}
}

func (f fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// request is a good request for n; the commands run in the order given.
func request(n tasks.Number, commands ...string) tasks.Request {
	r := tasks.Request{Key: n, Timeout: 600 * time.Second, Deadline: time.Hour}
	for i, line := range commands {
		r.Commands = append(r.Commands, tasks.Command{Line: line, Priority: float64(len(commands) - i)})
	}
	return r
}

// prepare writes a set of the commands "a", "b", ... of the string commands.
func (f fixture) prepare(n tasks.Number, commands string) {
	f.Helper()
	p, err := f.store.Prepare(f.Context(), "request of "+string(n), request(n, strings.Split(commands, "")...))
	f.must(err)
	if p.Stage != tasks.Preparing {
		f.Fatalf("%s is %s after Prepare", n, p.Stage)
	}
}

// enlist writes hosts: "web-1 sent, web-2 offline".
func (f fixture) enlist(n tasks.Number, hosts string) {
	f.Helper()
	var list []tasks.Enlisted
	for _, entry := range strings.Split(hosts, ", ") {
		host, state, _ := strings.Cut(entry, " ")
		list = append(list, tasks.Enlisted{Host: host, State: tasks.State(state)})
	}
	f.await(n, list)
	ok, err := f.store.Enlist(f.Context(), n, list)
	f.must(err)
	if !ok {
		f.Fatalf("%s is not being prepared", n)
	}
}

// await notes those that are to wait, as it has to be before they are enlisted.
func (f fixture) await(n tasks.Number, hosts []tasks.Enlisted) {
	f.Helper()
	var waiting []string
	for _, h := range hosts {
		if h.State == tasks.Waiting {
			waiting = append(waiting, h.Host)
		}
	}
	if len(waiting) > 0 {
		f.must(f.store.Await(f.Context(), n, f.now().Add(time.Hour), waiting))
	}
}

// set makes a set and opens it.
func (f fixture) set(n tasks.Number, commands, hosts string) {
	f.Helper()
	f.prepare(n, commands)
	f.enlist(n, hosts)
	opened, err := f.store.Open(f.Context(), n)
	f.must(err)
	if !opened {
		f.Fatalf("%s was opened by another", n)
	}
	f.sound(n)
}

func answer(n tasks.Number, host string, rcc int) tasks.Report {
	return tasks.Report{Number: n, Host: host, RCC: rcc}
}

// lists is the report of a client that reports lists: "ab" is the commands a and b.
func lists(n tasks.Number, host string, phase int, working, complete, oncall string) tasks.Report {
	return tasks.Report{
		Number: n, Host: host, Phase: phase, Working: working, Lists: true,
		Complete: letters(complete), OnCall: letters(oncall),
	}
}

func letters(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "")
}

// ended is an agent's report of one command.
func ended(n tasks.Number, host, command string, code int) tasks.Report {
	return tasks.Report{Number: n, Host: host, Phase: 3, Result: &tasks.Result{
		Command: command, ExitCode: code, DurationMS: 7,
		Stdout: "out of " + command, Stderr: "err", StdoutBytes: int64(len("out of " + command)), StderrBytes: 3,
	}}
}

// report brings reports in, holds what became of them against want, and checks the
// ledgers. Given a second time the same reports must change nothing.
func (f fixture) report(want tasks.Reported, reports ...tasks.Report) {
	f.Helper()
	for _, round := range []string{"first", "second"} {
		got, err := f.store.Report(f.Context(), reports)
		f.must(err)
		if got.NoSet != want.NoSet || got.Strangers != want.Strangers || got.PassedOver != want.PassedOver || (got.Failed == nil) != (want.Failed == nil) {
			f.Fatalf("%s time: reported %+v, want %+v", round, got, want)
		}
	}
	seen := map[tasks.Number]bool{}
	for _, r := range reports {
		if !seen[r.Number] && want.NoSet == 0 {
			seen[r.Number] = true
			f.sound(r.Number)
		}
	}
}

// twice brings reports in twice, as one call each, and fails if the second time
// changed anything.
func (f fixture) twice(reports ...tasks.Report) {
	f.Helper()
	n := reports[0].Number
	_, err := f.store.Report(f.Context(), reports)
	f.must(err)
	f.sound(n)
	before := f.dump(n)
	_, err = f.store.Report(f.Context(), reports)
	f.must(err)
	f.same(n, before)
}

// same fails if the keys of a set are not as they were.
func (f fixture) same(n tasks.Number, before map[string]string) {
	f.Helper()
	if after := f.dump(n); !maps.Equal(before, after) {
		f.Fatalf("the keys of %s have changed:\n%v\nand now\n%v", n, before, after)
	}
}

// keysOf are the keys of a set that exist.
func (f fixture) keysOf(n tasks.Number) []string {
	f.Helper()
	keys, err := f.rdb.Keys(f.Context(), "*"+string(n)+"*").Result()
	f.must(err)
	keys = slices.DeleteFunc(keys, func(k string) bool { return k != string(n) && !strings.HasPrefix(k, "{"+string(n)+"}:") })
	slices.Sort(keys)
	return keys
}

// dump is everything that Redis holds of a set.
func (f fixture) dump(n tasks.Number) map[string]string {
	f.Helper()
	ctx, all := f.Context(), map[string]string{}
	for _, key := range f.keysOf(n) {
		kind, err := f.rdb.Type(ctx, key).Result()
		f.must(err)
		var value any
		switch kind {
		case "hash":
			value, err = f.rdb.HGetAll(ctx, key).Result()
		case "set":
			var members []string
			members, err = f.rdb.SMembers(ctx, key).Result()
			sort.Strings(members)
			value = members
		case "list":
			value, err = f.rdb.LRange(ctx, key, 0, -1).Result()
		case "zset":
			value, err = f.rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
		case "stream":
			value, err = f.rdb.XRange(ctx, key, "-", "+").Result()
		default:
			f.Fatalf("%s is a %s", key, kind)
		}
		f.must(err)
		all[key] = fmt.Sprint(value)
	}
	return all
}

// sound fails unless the ledger adds up, awaiting is exactly the hosts in state sent,
// and every key of the set ends when it should.
func (f fixture) sound(n tasks.Number) {
	f.Helper()
	ctx := f.Context()
	findings, err := f.store.Verify(ctx, n)
	f.must(err)
	if len(findings) > 0 {
		f.Fatalf("%s does not add up:\n%s", n, strings.Join(findings, "\n"))
	}
	var sent []string
	for host, state := range f.states(n) {
		if state == tasks.Sent {
			sent = append(sent, host)
		}
	}
	slices.Sort(sent)
	awaiting, err := f.rdb.SMembers(ctx, tasks.KeyAwaiting(n)).Result()
	f.must(err)
	slices.Sort(awaiting)
	if !slices.Equal(sent, awaiting) {
		f.Fatalf("%s awaits %v, but sent are %v", n, awaiting, sent)
	}
	for _, key := range f.keysOf(n) {
		left, err := f.rdb.PTTL(ctx, key).Result()
		f.must(err)
		if most := time.Hour + keep; left > most || left < most-time.Minute {
			f.Fatalf("%s lives for %v more, want about %v", key, left, most)
		}
	}
}

func (f fixture) states(n tasks.Number) map[string]tasks.State {
	f.Helper()
	states := map[string]tasks.State{}
	f.must(f.store.Hosts(f.Context(), n, func(hosts []tasks.HostState) error {
		for _, h := range hosts {
			states[h.Host] = h.State
		}
		return nil
	}))
	return states
}

// state fails unless a host is in the given state.
func (f fixture) state(n tasks.Number, host string, want tasks.State) {
	f.Helper()
	if got := f.states(n)[host]; got != want {
		f.Fatalf("%s is %q, want %q", host, got, want)
	}
}

func (f fixture) stage(n tasks.Number, want tasks.Stage) tasks.Ledger {
	f.Helper()
	l, err := f.store.Ledger(f.Context(), n)
	f.must(err)
	if l.Stage != want {
		f.Fatalf("%s is %s, want %s", n, l.Stage, want)
	}
	return l
}

// listsAre fails unless the stored lists of a host are complete and oncall.
func (f fixture) listsAre(n tasks.Number, host, complete, oncall string) {
	f.Helper()
	for key, want := range map[string]string{tasks.KeyCompleteOf(n, host): complete, tasks.KeyOnCallOf(n, host): oncall} {
		got, err := f.rdb.LRange(f.Context(), key, 0, -1).Result()
		f.must(err)
		if strings.Join(got, "") != want {
			f.Fatalf("%s is %q, want %q", key, strings.Join(got, ""), want)
		}
	}
}

// hashIs fails unless a field of a hash is want; empty means that there is none.
func (f fixture) hashIs(key, field, want string) {
	f.Helper()
	got, err := f.rdb.HGet(f.Context(), key, field).Result()
	if err != nil && err != redis.Nil {
		f.Fatal(err)
	}
	if got != want {
		f.Fatalf("%s of %s is %q, want %q", field, key, got, want)
	}
}

// results are the commands of which a host has a result, in their order.
func (f fixture) results(n tasks.Number, host string) []tasks.Result {
	f.Helper()
	var all []tasks.Result
	f.must(f.store.Results(f.Context(), n, host, func(r tasks.Result) error {
		all = append(all, r)
		return nil
	}))
	return all
}

// past moves the deadline of a set into the past, so that no test waits for it.
func (f fixture) past(n tasks.Number) {
	f.Helper()
	f.must(f.rdb.HSet(f.Context(), tasks.KeyMeta(n), "deadline_ms", f.now().Add(-time.Millisecond).UnixMilli()).Err())
}

func (f fixture) now() time.Time {
	f.Helper()
	now, err := f.rdb.Time(f.Context()).Result()
	f.must(err)
	return now
}

// events are the events of one set.
func (f fixture) events(n tasks.Number) []tasks.Event {
	f.Helper()
	all, err := tasks.Events(f.Context(), f.rdb, "0", 100_000, 0)
	f.must(err)
	return slices.DeleteFunc(all, func(e tasks.Event) bool { return e.Key != n })
}

// closedOnce fails unless the end of a set was recorded exactly once.
func (f fixture) closedOnce(n tasks.Number) tasks.Event {
	f.Helper()
	all := f.events(n)
	if len(all) != 1 || all[0].Type != "task.closed" {
		f.Fatalf("events of %s: %+v, want one task.closed", n, all)
	}
	return all[0]
}
