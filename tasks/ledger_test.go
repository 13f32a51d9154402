package tasks_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

var errStop = errors.New("stop")

func TestHostsAndAwaiting(t *testing.T) {
	t.Parallel()
	f := open(t)
	n, ctx := tasks.Number("AC1"), t.Context()
	f.prepare(n, "a")
	const total = 3*tasks.Chunk + 7
	for i := 0; i < total; i += tasks.Chunk {
		var chunk []tasks.Enlisted
		for j := i; j < min(i+tasks.Chunk, total); j++ {
			state := tasks.Sent
			if j%3 == 0 {
				state = tasks.Offline
			}
			chunk = append(chunk, tasks.Enlisted{Host: fmt.Sprint("host-", j), State: state})
		}
		_, err := f.store.Enlist(ctx, n, chunk)
		f.must(err)
	}
	states := f.states(n)
	if len(states) != total || states["host-0"] != tasks.Offline || states["host-1"] != tasks.Sent {
		t.Fatalf("%d hosts, want %d", len(states), total)
	}
	awaited := map[string]bool{}
	f.must(f.store.Awaiting(ctx, n, func(hosts []string) error {
		if len(hosts) == 0 || len(hosts) > tasks.Chunk {
			t.Errorf("%d hosts at once", len(hosts))
		}
		for _, h := range hosts {
			awaited[h] = true
		}
		return nil
	}))
	for host, state := range states {
		if awaited[host] != (state == tasks.Sent) {
			t.Fatalf("%s is %s, awaited %v", host, state, awaited[host])
		}
	}
	calls := 0
	for _, err := range []error{
		f.store.Hosts(ctx, n, func([]tasks.HostState) error { calls++; return errStop }),
		f.store.Awaiting(ctx, n, func([]string) error { calls++; return errStop }),
	} {
		if err != errStop {
			t.Fatalf("error of visit: %v", err)
		}
	}
	if calls != 2 {
		t.Fatalf("visited %d times after an error", calls)
	}
}

func TestResultsPages(t *testing.T) {
	t.Parallel()
	f := open(t)
	n, ctx := tasks.Number("AC1"), t.Context()
	for i := range 250 {
		f.must(f.rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.KeyResults(n), Values: []string{
			"host", fmt.Sprint("web-", i%2), "command", fmt.Sprint(i), "exit_code", "-1", "truncated", "1",
		}}).Err())
	}
	all := f.results(n, "")
	if len(all) != 250 || all[0].Command != "0" || all[249].Command != "249" || all[7].ExitCode != -1 || !all[7].Truncated {
		t.Fatalf("%d results, the first %+v", len(all), all[0])
	}
	if one := f.results(n, "web-1"); len(one) != 125 || one[0].Command != "1" {
		t.Fatalf("%d results of one host, the first %+v", len(one), one[0])
	}
	if err := f.store.Results(ctx, n, "", func(tasks.Result) error { return errStop }); err != errStop {
		t.Fatalf("error of visit: %v", err)
	}
	var rest []string
	visit := func(r tasks.Result) error {
		if rest = append(rest, r.Command); len(rest) == 120 {
			return errStop
		}
		return nil
	}
	last, err := f.store.ResultsAfter(ctx, n, "", visit)
	if err != errStop {
		t.Fatalf("error of visit: %v", err)
	}
	last, err = f.store.ResultsAfter(ctx, n, last, visit) // the one that failed comes again
	if err != nil || len(rest) != 251 || rest[119] != "119" || rest[120] != "119" || rest[250] != "249" {
		t.Fatalf("%d results in two parts: %v", len(rest), err)
	}
	if again, err := f.store.ResultsAfter(ctx, n, last, visit); err != nil || again != last || len(rest) != 251 {
		t.Fatalf("behind the last result: %d, %v", len(rest), err)
	}
	if none := f.results("AC2", ""); len(none) != 0 {
		t.Fatalf("results of a set that is not there: %v", none)
	}
}

func TestLedgerNotFound(t *testing.T) {
	t.Parallel()
	f := open(t)
	if _, err := f.store.Ledger(t.Context(), "AC1"); !errors.Is(err, tasks.ErrNotFound) {
		t.Fatalf("ledger of nothing: %v", err)
	}
	if _, err := f.store.Verify(t.Context(), "AC1"); !errors.Is(err, tasks.ErrNotFound) {
		t.Fatalf("verify nothing: %v", err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	f.set("AC1", "ab", "web-1 sent, web-2 offline, web-3 cancelled")
	f.set("AC2", "c", "web-1 sent")
	f.must(f.rdb.Set(ctx, "{AC3}:hosts", "no hash", 0).Err())
	f.must(f.rdb.Set(ctx, "AC4", "no set", 0).Err())
	f.must(f.rdb.HSet(ctx, "{AC4}:hosts", "web-1", "sent").Err())
	f.must(f.rdb.HSet(ctx, "{AC5}:hosts", "web-1", "sent").Err())
	f.must(f.rdb.ZAdd(ctx, "AC5", redis.Z{Score: 1, Member: "a"}).Err())
	f.must(f.rdb.Set(ctx, "{AC5}:meta", "no hash", 0).Err())

	// The damaged come first: they must not hide the others.
	got, err := f.store.Find(ctx, []tasks.Lookup{
		{Number: "AC3", Host: "web-1"}, {Number: "AC4", Host: "web-1"}, {Number: "AC5", Host: "web-1"},
		{Number: "AC1", Host: "web-1"}, {Number: "AC1", Host: "web-2"}, {Number: "AC1", Host: "web-3"},
		{Number: "AC1", Host: "web-9"}, {Number: "AC2", Host: "web-1"}, {Number: "AC-none", Host: "web-1"},
	})
	f.must(err)
	l := f.stage("AC1", tasks.Open)
	set1 := tasks.Set{
		Number: "AC1", Found: true, Request: "request of AC1", Timeout: 10 * time.Minute, Deadline: l.Deadline,
		Commands: []tasks.Command{{Line: "a", Priority: 2}, {Line: "b", Priority: 1}},
	}
	set2 := tasks.Set{
		Number: "AC2", Found: true, Request: "request of AC2", Timeout: 10 * time.Minute, Deadline: f.stage("AC2", tasks.Open).Deadline,
		Commands: []tasks.Command{{Line: "c", Priority: 1}},
	}
	want := []tasks.Set{
		{Number: "AC3"}, {Number: "AC4"}, {Number: "AC5"}, set1, set1, {Number: "AC1", Cancelled: true}, {Number: "AC1"}, set2, {Number: "AC-none"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("found\n%+v\nwant\n%+v", got, want)
	}
	if got, err := f.store.Find(ctx, nil); err != nil || len(got) != 0 {
		t.Fatalf("nothing asked: %v, %v", got, err)
	}
}

// Agents run the commands in the order in which old clients read them: ZREVRANGE.
func TestOrderOfEqualPriorities(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	for n, priorities := range map[tasks.Number]func(i int) float64{
		"AC1": func(int) float64 { return 5 },
		"AC2": func(i int) float64 { return float64(i%3) - 1 },
		"AC3": func(i int) float64 { return []float64{0, 0.1, -1e-300, 1e300, 0.30000000000000004, 0.3}[i%6] },
	} {
		r := tasks.Request{Key: n}
		for i, line := range []string{"b", "a", "ab", "B", "ä", "a b", "z\x01", "日本", "zz", "\x7f", "a\x00", "0"} {
			r.Commands = append(r.Commands, tasks.Command{Line: line, Priority: priorities(i)})
		}
		for i := range 200 { // beyond the small encoding of a sorted set
			r.Commands = append(r.Commands, tasks.Command{Line: fmt.Sprint("command ", i), Priority: priorities(i)})
		}
		r, err := r.Validate()
		f.must(err)
		_, err = f.store.Prepare(ctx, "one", r)
		f.must(err)
		f.enlist(n, "web-1 sent")
		stored, err := f.rdb.ZRevRangeWithScores(ctx, string(n), 0, -1).Result()
		f.must(err)
		found, err := f.store.Find(ctx, []tasks.Lookup{{Number: n, Host: "web-1"}})
		f.must(err)
		for i, c := range r.Commands {
			if z := stored[i]; z.Member != c.Line || z.Score != c.Priority {
				t.Fatalf("%s: the %d. is %q %v, and ZREVRANGE says %q %v", n, i, c.Line, c.Priority, z.Member, z.Score)
			}
		}
		if !reflect.DeepEqual(found[0].Commands, r.Commands) {
			t.Fatalf("%s: found %v, want %v", n, found[0].Commands, r.Commands)
		}
	}
}
