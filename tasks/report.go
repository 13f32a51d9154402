package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"

	"github.com/musterhq/muster/internal/script"
)

// Report is what a host says of a task set: an answer to the datagram if RCC is not
// 0, else a status.
type Report struct {
	Number Number
	Host   string

	RCC int // 1 received, 2 the number is not in Redis, 3 the datagram was unreadable

	Phase    int    // 1 received, 2 working, 3 a command has ended
	Working  string // the command now running; empty if none
	Lists    bool   // Complete and OnCall were reported
	Complete []string
	OnCall   []string
	Result   *Result // of the command that has ended; nil if the client reports none
}

// Result is how one command ended on one host.
type Result struct {
	Host        string
	Command     string
	ExitCode    int   // 128+n for signal n; -1 if it did not start or its end was not seen
	DurationMS  int64 // milliseconds
	Stdout      string
	Stderr      string
	StdoutBytes int64 // before anything was left out
	StderrBytes int64
	Truncated   bool   // something was left out of Stdout or Stderr
	Error       string // empty unless it did not start, timed out, was cancelled or interrupted
}

// Reported is what became of a batch of reports.
type Reported struct {
	NoSet      int // reports for a set that does not exist
	Strangers  int // reports of hosts that are not in the set
	PassedOver int // commands that are not in the set
	Failed     error
}

//go:embed lua/report.lua
var reportLua string

var reportScript = script.New(ledgerLua, reportLua)

const (
	// A script call takes at most this many reports and about this many bytes, so
	// that it holds Redis for a few milliseconds at most.
	reportsPerCall = 100
	bytesPerCall   = 256 << 10
)

// Report brings reports into the ledgers, in their order, in one round trip. The
// error says that it is not known what was written, and that the same reports should
// be given again; reports that Redis refuses for another reason (a key of a set that
// someone made something else) are left out and named in Reported.Failed.
func (s *Store) Report(ctx context.Context, reports []Report) (Reported, error) {
	calls, numbers := s.reportCalls(reports)
	results, err := script.Run(ctx, s.rdb, calls...)
	if err != nil {
		return Reported{}, fmt.Errorf("store reports: %w", err)
	}
	var sum Reported
	for i, r := range results {
		if r.Err != nil {
			sum.Failed = fmt.Errorf("store reports on %s: %w", numbers[i].number, r.Err)
			continue
		}
		reply, _ := r.Value.([]any)
		over := integer(reply, 0)
		if over < 0 {
			sum.NoSet += numbers[i].reports
		}
		sum.Strangers += int(integer(reply, 1))
		sum.PassedOver += int(integer(reply, 2))
		if err := s.announceIf(ctx, numbers[i].number, over); err != nil {
			if script.Transient(err) {
				return sum, err
			}
			sum.Failed = err
		}
	}
	return sum, nil
}

type group struct {
	number  Number
	reports int
	bytes   int
	args    []any
}

// reportCalls parts reports by task number, keeping the order within each.
func (s *Store) reportCalls(reports []Report) ([]script.Call, []group) {
	var groups []*group
	current := map[Number]*group{}
	for _, r := range reports {
		g := current[r.Number]
		if g == nil || g.reports >= reportsPerCall || g.bytes >= bytesPerCall {
			g = &group{number: r.Number, args: []any{s.cfg.OutputLimit}}
			current[r.Number] = g
			groups = append(groups, g)
		}
		g.add(r)
	}
	calls, parted := make([]script.Call, len(groups)), make([]group, len(groups))
	for i, g := range groups {
		n := g.number
		calls[i] = script.Call{Script: reportScript, Args: g.args, Keys: []string{
			KeyMeta(n), KeyHosts(n), KeyAwaiting(n), KeySet(n), KeyWorking(n),
			KeyComplete(n), KeyOnCall(n), KeyFailing(n), KeyResults(n),
		}}
		parted[i] = *g
	}
	return calls, parted
}

func (g *group) add(r Report) {
	g.reports++
	text := func(s string) {
		g.args = append(g.args, s)
		g.bytes += len(s)
	}
	number := func(n int64) { g.args = append(g.args, strconv.FormatInt(n, 10)) }
	list := func(l []string) {
		number(int64(len(l)))
		for _, s := range l {
			text(s)
		}
	}
	flag := func(b bool) {
		if b {
			number(1)
		} else {
			number(0)
		}
	}
	text(r.Host)
	if r.RCC != 0 {
		text("answer")
		number(int64(r.RCC))
		return
	}
	text("status")
	number(int64(r.Phase))
	text(r.Working)
	flag(r.Lists)
	if r.Lists {
		list(r.Complete)
		list(r.OnCall)
	}
	flag(r.Result != nil)
	if c := r.Result; c != nil {
		text(c.Command)
		number(int64(c.ExitCode))
		number(c.DurationMS)
		text(c.Stdout)
		text(c.Stderr)
		number(c.StdoutBytes)
		number(c.StderrBytes)
		flag(c.Truncated)
		text(c.Error)
	}
}
