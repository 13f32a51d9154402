package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/tasks"
)

// stored is a result as it is read from the stream, the nth of it.
func stored(n int, host, command string, code int, stdout string) tasks.Result {
	return tasks.Result{
		ID: fmt.Sprintf("%d-%d", 1_000_000+n, n), Host: host, Command: command, ExitCode: code, Stdout: stdout, StdoutBytes: int64(len(stdout)),
	}
}

func TestEqualOutputsAreGrouped(t *testing.T) {
	t.Parallel()
	o := newOutputs(time.UnixMilli(1_000_000))
	n := 0
	add := func(change func(*tasks.Result)) {
		n++
		r := stored(n, fmt.Sprint("web-", n), "uptime", 0, "same\n")
		change(&r)
		o.add(r)
	}
	for range 3 {
		add(func(*tasks.Result) {})
	}
	for range 2 {
		add(func(r *tasks.Result) { r.Stderr = "same\n" })
	}
	// Each of these is like no other.
	add(func(r *tasks.Result) { r.Stdout, r.Stderr = "", "same\n" })
	add(func(r *tasks.Result) { r.ExitCode = 1 })
	add(func(r *tasks.Result) { r.Error = "timed out" })
	add(func(r *tasks.Result) { r.Stdout = "sam"; r.Stderr = "e\n" })
	add(func(r *tasks.Result) { r.Truncated, r.StdoutBytes = true, 100 })
	add(func(r *tasks.Result) { r.Truncated, r.StdoutBytes = true, 200 })
	add(func(r *tasks.Result) { r.Command = "df" })
	// Of these nothing was kept, so their sizes part them no more.
	add(func(r *tasks.Result) { r.Stdout, r.Truncated, r.StdoutBytes = "", true, 100 })
	add(func(r *tasks.Result) { r.Stdout, r.Truncated, r.StdoutBytes = "", true, 200 })

	groups, count := o.of("uptime")
	var sizes []int
	for _, g := range groups {
		sizes = append(sizes, len(g.hosts))
	}
	if !slices.Equal(sizes, []int{3, 2, 2, 1, 1, 1, 1, 1, 1}) || count != n-1 {
		t.Errorf("groups of %v hosts, %d results", sizes, count)
	}
	if got := o.some(groups[0], 2); !slices.Equal(got, []string{"web-1", "web-2"}) {
		t.Errorf("its hosts are %v", got)
	}
	if g, ok := o.group(groups[0].Key.String()); !ok || g != groups[0] {
		t.Error("a group is not found by its key")
	}
	for _, bad := range []string{"", "zz", strings.Repeat("0", 31), strings.Repeat("0", 32), strings.Repeat("0", 33)} {
		if _, ok := o.group(bad); ok {
			t.Errorf("there is a group %q", bad)
		}
	}
}

// When there are too many different outputs, those that come later are counted by
// their exit code, and nothing else grows.
func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	o := newOutputs(time.UnixMilli(1_000_000))
	const n = groupsKept + 5_000
	for i := range n {
		o.add(stored(i, fmt.Sprint("web-", i), "uptime", i%2, fmt.Sprint(i)))
	}
	groups, count := o.of("uptime")
	if count != n || len(groups) != groupsKept+2 || !groups[0].Loose || len(groups[0].hosts) != 2_500 || groups[1].Code == groups[0].Code {
		t.Errorf("%d results in %d groups, the first %+v", count, len(groups), groups[0])
	}
	for i := range 5_000 {
		o.add(stored(n+i, "web-1", "uptime", 1_000+i, "x"+fmt.Sprint(i)))
	}
	if groups, _ := o.of("uptime"); len(groups) > groupsKept+looseKept+1 {
		t.Errorf("%d groups", len(groups))
	}
	unknown := 0
	o.ended("web-1", func(_ resultRef, g *group) {
		if g.CodeText() == "?" {
			unknown++
		}
	})
	if want := 5_000 - looseKept + 2; unknown != want {
		t.Errorf("%d exit codes are unknown, want %d", unknown, want)
	}
}

// A stream is read bit by bit, as far as the time allows, and no further than the bound.
func TestResultsAreReadBitByBit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	hosts := hostNames("web-%d", 200)
	b.set("AC1", "ab", hosts...)
	for _, h := range hosts {
		b.report(ended("AC1", h, "a", 0, "out of "+h), ended("AC1", h, "b", 0, ""))
	}
	o := newOutputs(time.Now())
	rounds := 0
	for ; !o.complete && rounds < 100; rounds++ {
		b.must(o.advance(b.Context(), b.srv.store, "AC1", 0))
	}
	if rounds < 5 || len(o.results) != 400 {
		t.Errorf("%d results after %d rounds", len(o.results), rounds)
	}
	b.must(o.advance(b.Context(), b.srv.store, "AC1", time.Hour))
	if len(o.results) != 400 {
		t.Errorf("%d results after one more round", len(o.results))
	}
	o = newOutputs(time.Now())
	o.results = make([]resultRef, resultsKept-10)
	b.must(o.advance(b.Context(), b.srv.store, "AC1", time.Hour))
	if len(o.results) != resultsKept || !o.full || !o.complete {
		t.Errorf("%d results are kept, full: %v", len(o.results), o.full)
	}
}

func TestCurve(t *testing.T) {
	t.Parallel()
	c := curve{begin: 1_000, width: 100}
	for ms := int64(900); ms < 1_000_000; ms += 100 {
		c.add(ms)
	}
	c.add(1 << 60) // from a stream that somebody else has written
	sum := 0
	for _, n := range c.counts {
		sum += n
	}
	if len(c.counts) > curveSpans || sum != 9_992 {
		t.Errorf("%d spans with %d commands", len(c.counts), sum)
	}
}

// What nobody has looked at for the longest time is let go.
func TestLooksAreBounded(t *testing.T) {
	t.Parallel()
	x := newLooks(nil, newHub(nil, nil))
	at := func(n int, results int) {
		l := tasks.Ledger{Number: tasks.Number(fmt.Sprint("AC", n)), Created: time.UnixMilli(1)}
		err := x.at(l, func(k *look) error {
			k.outputs.results = make([]resultRef, results)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range looksKept + 3 {
		at(i, 1)
	}
	if len(x.all) != looksKept || x.all["AC0"] != nil || x.all["AC10"] == nil {
		t.Errorf("%d are kept", len(x.all))
	}
	at(20, resultsKept)
	at(21, resultsKept)
	if len(x.all) != 1 || x.all["AC21"] == nil {
		t.Errorf("%d are kept beside a big one", len(x.all))
	}

	// A number that was given again is another set.
	l := tasks.Ledger{Number: "AC21", Request: "another", Created: time.UnixMilli(1)}
	err := x.at(l, func(k *look) error {
		if len(k.outputs.results) != 0 {
			t.Error("results of the set before are kept")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
