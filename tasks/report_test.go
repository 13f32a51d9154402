package tasks_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/musterhq/muster/tasks"
)

// Every state, everything a host can say, before and after the deadline.
func TestStatesFollowReports(t *testing.T) {
	t.Parallel()
	f := open(t)
	says := []struct {
		what string
		make func(n tasks.Number, host string) []tasks.Report
	}{
		{"RCC1", func(n tasks.Number, h string) []tasks.Report { return []tasks.Report{answer(n, h, 1)} }},
		{"RCC2", func(n tasks.Number, h string) []tasks.Report { return []tasks.Report{answer(n, h, 2)} }},
		{"RCC3", func(n tasks.Number, h string) []tasks.Report { return []tasks.Report{answer(n, h, 3)} }},
		{"phase1", func(n tasks.Number, h string) []tasks.Report { return []tasks.Report{lists(n, h, 1, "", "", "ab")} }},
		{"phase2", func(n tasks.Number, h string) []tasks.Report {
			return []tasks.Report{{Number: n, Host: h, Phase: 2, Working: "a"}}
		}},
		{"phase3", func(n tasks.Number, h string) []tasks.Report { return []tasks.Report{lists(n, h, 3, "", "a", "b")} }},
		{"ended", func(n tasks.Number, h string) []tasks.Report { return []tasks.Report{ended(n, h, "a", 1)} }},
		{"all", func(n tasks.Number, h string) []tasks.Report { return []tasks.Report{lists(n, h, 3, "", "ab", "")} }},
		{"good", func(n tasks.Number, h string) []tasks.Report {
			return []tasks.Report{ended(n, h, "a", 0), ended(n, h, "b", 0)}
		}},
		{"bad", func(n tasks.Number, h string) []tasks.Report {
			return []tasks.Report{ended(n, h, "a", 3), ended(n, h, "b", 0)}
		}},
	}
	// What each leads to, in the order of says; "." is no change.
	table := map[tasks.State]string{
		tasks.Waiting:      "acknowledged . . received working working working done done failed",
		tasks.Sent:         "acknowledged missing . received working working working done done failed",
		tasks.Acknowledged: ". . . received working working working done done failed",
		tasks.Received:     ". . . . working working working done done failed",
		tasks.Working:      ". . . . . . . done done failed",
		tasks.Done:         ". . . . . . . . . .",
		tasks.Failed:       ". . . . . . . . . .",
		tasks.Cancelled:    ". . . . . . . . . .",
		tasks.Expired:      ". . . . . . . . . .",
		tasks.Offline:      "acknowledged . . received working working working done done failed",
		tasks.Missing:      "acknowledged . . received working working working done done failed",
		tasks.Unanswered:   "acknowledged . . received working working working done done failed",
	}
	// What is stored whatever the state: the lists, and how many results.
	stored := map[string]string{
		"RCC1": "||0", "RCC2": "||0", "RCC3": "||0", "phase1": "|ab|0", "phase2": "||0", "phase3": "a|b|0",
		"ended": "a||1", "all": "ab||0", "good": "ab||2", "bad": "ab||2",
	}
	for i, from := range tasks.States() {
		for _, late := range []bool{false, true} {
			n := tasks.Number(fmt.Sprintf("AC%d.%v", i, late))
			f.prepare(n, "ab")
			for _, say := range says {
				f.enlist(n, say.what+" "+string(from))
			}
			_, err := f.store.Open(t.Context(), n)
			f.must(err)
			if late {
				f.past(n)
			}
			next := strings.Fields(table[from])
			for j, say := range says {
				reports := say.make(n, say.what)
				want := tasks.State(next[j])
				if want == "." || late {
					want = from
				}
				for round := range 2 {
					_, err := f.store.Report(t.Context(), reports)
					f.must(err)
					if got := f.states(n)[say.what]; got != want {
						t.Errorf("late %v: %s said %s (%d) and is %s, want %s", late, from, say.what, round, got, want)
					}
				}
				complete, _ := f.rdb.LRange(t.Context(), tasks.KeyCompleteOf(n, say.what), 0, -1).Result()
				oncall, _ := f.rdb.LRange(t.Context(), tasks.KeyOnCallOf(n, say.what), 0, -1).Result()
				got := fmt.Sprintf("%s|%s|%d", strings.Join(complete, ""), strings.Join(oncall, ""), len(f.results(n, say.what)))
				if got != stored[say.what] {
					t.Errorf("late %v: %s said %s, and stored is %s, want %s", late, from, say.what, got, stored[say.what])
				}
				// Only who is open works on something.
				working := ""
				if say.what == "phase2" && want.Open() && !late {
					working = "a"
				}
				f.hashIs(tasks.KeyWorking(n), say.what, working)
			}
		}
	}
}

// An old client reports both lists each time, and no results.
func TestOldClient(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "abc", "10.0.0.1 sent, 10.0.0.2 sent, 10.0.0.3 sent")
	h := "10.0.0.1"

	f.twice(lists(n, h, 1, "", "", "abc"))
	f.state(n, h, tasks.Received)
	f.listsAre(n, h, "", "abc")
	f.hashIs(tasks.KeyComplete(n), h, "{AC1}:complete:10.0.0.1")
	f.hashIs(tasks.KeyOnCall(n), h, "{AC1}:oncall:10.0.0.1")

	f.twice(lists(n, h, 2, "a", "", "abc"))
	f.state(n, h, tasks.Working)
	f.hashIs(tasks.KeyWorking(n), h, "a")

	f.twice(lists(n, h, 3, "", "a", "bc"))
	f.state(n, h, tasks.Working)
	f.listsAre(n, h, "a", "bc")
	f.hashIs(tasks.KeyWorking(n), h, "")

	f.twice(lists(n, h, 3, "b", "a", "bc")) // the end of one and the start of the next in one
	f.hashIs(tasks.KeyWorking(n), h, "b")
	before := f.dump(n)
	f.twice(lists(n, h, 1, "", "", "abc"), lists(n, h, 2, "a", "", "abc"), lists(n, h, 3, "", "a", "bc")) // late
	f.same(n, before)

	f.twice(lists(n, h, 2, "c", "ab", "c")) // a report was lost: both are done by this one
	f.listsAre(n, h, "ab", "c")
	f.hashIs(tasks.KeyWorking(n), h, "c")

	f.twice(lists(n, h, 3, "", "abc", ""))
	f.state(n, h, tasks.Done)
	f.listsAre(n, h, "abc", "")
	f.hashIs(tasks.KeyWorking(n), h, "")
	f.stage(n, tasks.Open)

	f.twice(lists(n, "10.0.0.2", 3, "", "a", "bc")) // the first report is of phase 3
	f.state(n, "10.0.0.2", tasks.Working)
	f.listsAre(n, "10.0.0.2", "a", "bc")
	f.hashIs(tasks.KeyComplete(n), "10.0.0.2", "{AC1}:complete:10.0.0.2")
	f.hashIs(tasks.KeyOnCall(n), "10.0.0.2", "{AC1}:oncall:10.0.0.2")

	f.twice(lists(n, "10.0.0.3", 3, "", "cba", "")) // the first is the last
	f.state(n, "10.0.0.3", tasks.Done)
	f.listsAre(n, "10.0.0.3", "cba", "")
	f.hashIs(tasks.KeyOnCall(n), "10.0.0.3", "{AC1}:oncall:10.0.0.3")
	f.twice(lists(n, "10.0.0.3", 1, "", "", "abc")) // it runs the set again
	f.state(n, "10.0.0.3", tasks.Done)
	f.listsAre(n, "10.0.0.3", "cba", "")

	f.twice(lists(n, "10.0.0.2", 3, "", "ab", "c"), lists(n, "10.0.0.2", 3, "", "abc", ""))
	l := f.stage(n, tasks.Closed)
	if e := f.closedOnce(n); l.Counts[tasks.Done] != 3 || e.Counts[tasks.Done] != 3 || l.Closed.IsZero() {
		t.Fatalf("ledger %+v, event %+v", l, e)
	}
}

// Lists that no sound client sends.
func TestStrangeLists(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "abc", "web-1 sent, web-2 sent, web-3 sent, web-4 sent, web-5 sent")

	f.report(tasks.Reported{PassedOver: 4}, lists(n, "web-1", 2, "y", "x", "axbx")) // not in the set
	f.listsAre(n, "web-1", "", "ab")
	f.hashIs(tasks.KeyWorking(n), "web-1", "")
	f.state(n, "web-1", tasks.Working)
	f.report(tasks.Reported{PassedOver: 1}, lists(n, "web-1", 3, "", "cz", "b")) // c was never on the list
	f.listsAre(n, "web-1", "c", "b")

	f.report(tasks.Reported{}, lists(n, "web-2", 3, "", "aaba", "bcbc")) // named twice, and in both
	f.listsAre(n, "web-2", "ab", "bc")
	f.report(tasks.Reported{}, lists(n, "web-2", 3, "", "ab", "c"))
	f.listsAre(n, "web-2", "ab", "c")
	f.report(tasks.Reported{}, lists(n, "web-2", 3, "", "", "abc")) // nothing comes back
	f.listsAre(n, "web-2", "ab", "c")

	f.report(tasks.Reported{}, lists(n, "web-3", 1, "", "", "")) // nothing to run; nothing can be added later
	f.listsAre(n, "web-3", "", "")
	f.hashIs(tasks.KeyOnCall(n), "web-3", "{AC1}:oncall:web-3")
	f.report(tasks.Reported{}, lists(n, "web-3", 1, "", "", "abc"))
	f.listsAre(n, "web-3", "", "")

	f.report(tasks.Reported{PassedOver: 1}, lists(n, "web-4", 3, "", "abx", "")) // as many, but not all
	f.state(n, "web-4", tasks.Working)

	// A working command that is in the set stays while one that is not is reported.
	f.report(tasks.Reported{}, lists(n, "web-5", 2, "a", "", "abc"))
	f.report(tasks.Reported{PassedOver: 1}, lists(n, "web-5", 2, "y", "", "abc"))
	f.hashIs(tasks.KeyWorking(n), "web-5", "a")
}

// An agent reports lists in phase 1 only, and a result for each command.
func TestAgent(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "ab", "web-1 sent, web-2 sent, web-3 sent, web-4 sent")
	running := func(host, command string) tasks.Report {
		return tasks.Report{Number: n, Host: host, Phase: 2, Working: command}
	}
	h := "web-1"
	f.twice(answer(n, h, 1))
	f.state(n, h, tasks.Acknowledged)
	f.twice(lists(n, h, 1, "", "", "ab"))
	f.twice(running(h, "a"))
	f.hashIs(tasks.KeyWorking(n), h, "a")
	f.twice(ended(n, h, "a", 0))
	f.hashIs(tasks.KeyWorking(n), h, "")
	f.listsAre(n, h, "a", "b")
	f.state(n, h, tasks.Working)
	f.twice(running(h, "b"))
	before := f.dump(n)
	f.twice(running(h, "a"), ended(n, h, "a", 0)) // late, while b runs
	f.same(n, before)
	f.hashIs(tasks.KeyWorking(n), h, "b")
	f.twice(ended(n, h, "b", 0))
	f.state(n, h, tasks.Done)
	f.listsAre(n, h, "ab", "")
	f.hashIs(tasks.KeyWorking(n), h, "")

	want := tasks.Result{
		Host: h, Command: "a", ExitCode: 0, DurationMS: 7, Stdout: "out of a", Stderr: "err", StdoutBytes: 8, StderrBytes: 3,
	}
	got := f.results(n, h)
	if len(got) == 2 {
		want.ID = got[0].ID
	}
	if len(got) != 2 || want.ID == "" || got[0] != want || got[1].Command != "b" {
		t.Fatalf("results %+v, want %+v first", got, want)
	}

	// Every report overtakes the one before it.
	h = "web-2"
	f.twice(ended(n, h, "b", 1))
	f.hashIs(tasks.KeyComplete(n), h, "{AC1}:complete:web-2")
	f.hashIs(tasks.KeyOnCall(n), h, "")
	f.twice(running(h, "b"))
	f.twice(ended(n, h, "a", 0))
	f.state(n, h, tasks.Failed)
	f.twice(running(h, "a"))
	f.twice(lists(n, h, 1, "", "", "ab"))
	f.hashIs(tasks.KeyOnCall(n), h, "{AC1}:oncall:web-2")
	f.twice(answer(n, h, 1))
	f.listsAre(n, h, "ba", "")
	f.hashIs(tasks.KeyWorking(n), h, "")
	f.state(n, h, tasks.Failed)

	// One that could not be run has failed, though its code is 0.
	h = "web-3"
	broken := ended(n, h, "a", 0)
	broken.Result.Error, broken.Result.Truncated = "interrupted", true
	f.twice(broken, ended(n, h, "b", 0))
	f.state(n, h, tasks.Failed)
	if got := f.results(n, h); got[0].Error != "interrupted" || !got[0].Truncated || got[1].Truncated {
		t.Fatalf("results %+v", got)
	}

	// A result of a command that is not in the set, and one without a status.
	h = "web-4"
	f.report(tasks.Reported{PassedOver: 1}, ended(n, h, "x", 0))
	f.listsAre(n, h, "", "")
	if got := f.results(n, h); len(got) != 0 {
		t.Fatalf("results %+v", got)
	}
	negative := ended(n, h, "a", -1)
	f.twice(negative)
	if got := f.results(n, h); len(got) != 1 || got[0].ExitCode != -1 {
		t.Fatalf("results %+v", got)
	}
	if got := f.results(n, ""); len(got) != 7 {
		t.Fatalf("%d results in all, want 7", len(got))
	}
}

// A result may come with lists: it counts with the command that the lists add.
func TestListsWithResult(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "ab", "web-1 sent")
	with := func(complete, oncall, command string, code int) tasks.Report {
		r := ended(n, "web-1", command, code)
		r.Lists, r.Complete, r.OnCall = true, letters(complete), letters(oncall)
		return r
	}
	f.twice(with("a", "b", "b", 1)) // b has not been run
	f.twice(with("a", "b", "a", 1)) // a has no result, and gets none later
	if got := f.results(n, "web-1"); len(got) != 0 {
		t.Fatalf("results %+v", got)
	}
	f.twice(with("ab", "", "b", 0))
	if got := f.results(n, "web-1"); len(got) != 1 || got[0].Command != "b" {
		t.Fatalf("results %+v", got)
	}
	f.state(n, "web-1", tasks.Done)
}

func TestReportsOfNobody(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "ab", "web-1 sent")
	all := func(n tasks.Number, host string) []tasks.Report {
		return []tasks.Report{
			answer(n, host, 1), answer(n, host, 2), answer(n, host, 3),
			lists(n, host, 1, "a", "", "ab"), ended(n, host, "a", 0), lists(n, host, 3, "", "ab", ""),
		}
	}
	before := f.dump(n)
	f.report(tasks.Reported{Strangers: 6}, all(n, "web-2")...)
	f.same(n, before)
	f.report(tasks.Reported{NoSet: 6}, all("AC2", "web-1")...)
	if keys := f.keysOf("AC2"); len(keys) != 0 {
		t.Fatalf("written: %v", keys)
	}
	if keys := f.rdb.DBSize(t.Context()).Val(); keys != int64(len(before)+2) { // and the list of sets, and what is due
		t.Fatalf("%d keys in all, want %d", keys, len(before)+1)
	}
	got, err := f.store.Report(t.Context(), nil)
	if !reflect.DeepEqual(got, tasks.Reported{}) || err != nil {
		t.Fatalf("no reports: %+v, %v", got, err)
	}
	// Good ones in the same call count all the same.
	mixed := append(append(all("AC2", "web-1"), all(n, "web-2")...), answer(n, "web-1", 1))
	got, err = f.store.Report(t.Context(), mixed)
	f.must(err)
	if got.NoSet != 6 || got.Strangers != 6 {
		t.Fatalf("mixed: %+v", got)
	}
	f.state(n, "web-1", tasks.Acknowledged)
}

// Hosts may report while others are still being written.
func TestReportsWhilePreparing(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.prepare(n, "a")
	f.enlist(n, "web-1 sent")
	f.report(tasks.Reported{}, ended(n, "web-1", "a", 0))
	f.state(n, "web-1", tasks.Done)
	if l := f.stage(n, tasks.Preparing); !l.Closed.IsZero() || len(f.events(n)) != 0 {
		t.Fatalf("closed while preparing: %+v", l)
	}
	f.enlist(n, "web-1 sent, web-2 sent") // the job runs again
	f.state(n, "web-1", tasks.Done)
	_, err := f.store.Open(t.Context(), n)
	f.must(err)
	f.stage(n, tasks.Open)
	f.report(tasks.Reported{}, answer(n, "web-2", 2))
	f.stage(n, tasks.Closed)
	f.closedOnce(n)
	f.report(tasks.Reported{}, answer(n, "web-2", 1)) // after missing, and after closing
	f.state(n, "web-2", tasks.Acknowledged)
	f.report(tasks.Reported{}, ended(n, "web-2", "a", 2))
	f.state(n, "web-2", tasks.Failed)
	f.stage(n, tasks.Closed)
	f.closedOnce(n)
}

// The key of what runs ends and begins again within one call: it needs its expiry anew.
func TestExpiryOfKeysThatComeAgain(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := tasks.Number("AC1")
	f.set(n, "abc", "web-1 sent")
	f.report(tasks.Reported{},
		lists(n, "web-1", 1, "", "", "abc"),
		tasks.Report{Number: n, Host: "web-1", Phase: 2, Working: "a"}, ended(n, "web-1", "a", 0),
		tasks.Report{Number: n, Host: "web-1", Phase: 2, Working: "b"})
	f.hashIs(tasks.KeyWorking(n), "web-1", "b")

	f.prepare("AC2", "a") // the set of those awaited, likewise
	f.enlist("AC2", "web-1 sent")
	f.report(tasks.Reported{}, answer("AC2", "web-1", 1))
	f.enlist("AC2", "web-2 sent")
	f.sound("AC2")
}

func TestOutputLimit(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.store = tasks.NewStore(f.rdb, tasks.StoreConfig{Keep: keep, OutputLimit: 20})
	n := tasks.Number("AC1")
	f.set(n, "abcdefg", "web-1 sent, web-2 sent")
	result := func(host, command, stdout, stderr string) tasks.Report {
		r := ended(n, host, command, 0)
		r.Result.Stdout, r.Result.Stderr, r.Result.StdoutBytes, r.Result.StderrBytes = stdout, stderr, 1000, 2000
		return r
	}
	f.twice(result("web-1", "a", "12345678", "12"))
	f.twice(result("web-2", "a", "123456789", "12"), result("web-1", "b", "", "")) // one too many; nothing to leave out
	f.twice(result("web-1", "c", "12345", "67890"), result("web-1", "d", "", "1"), result("web-1", "e", "1", ""), result("web-1", "f", "", ""))
	var got []string
	for _, host := range []string{"web-1", "web-2"} {
		for _, r := range f.results(n, host) {
			if r.StdoutBytes != 1000 || r.StderrBytes != 2000 || r.DurationMS != 7 {
				t.Fatalf("sizes are not kept: %+v", r)
			}
			got = append(got, fmt.Sprintf("%s %s|%s %v", r.Command, r.Stdout, r.Stderr, r.Truncated))
		}
	}
	want := []string{"a 12345678|12 false", "b | false", "c 12345|67890 false", "d | true", "e | true", "f | false", "a | true"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("results\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	f.hashIs(tasks.KeyMeta(n), "output_bytes", "20")
}
