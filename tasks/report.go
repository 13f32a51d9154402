package tasks

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

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
	ID          string // of its entry in {AC131}:results; empty before it is stored
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

	Again  []Number // sets that a host asked to be sent the number of again, see Store.Remind
	Failed error    // which reports were left out, and why
}

//go:embed lua/report.lua
var reportLua string

var reportScript = script.New(ledgerLua, reportLua)

const (
	// A script call takes at most this many reports and about this many bytes, so
	// that it holds Redis for a few milliseconds at most.
	reportsPerCall = 50
	bytesPerCall   = 256 << 10
	// What each argument costs besides its bytes: a list of a million empty texts is
	// not free.
	bytesPerArg = 32
)

// Report brings reports into the ledgers, in their order, in one round trip. The
// error says that it is not known what was written, and that the same reports should
// be given again; reports that Redis refuses for another reason (a key of a set that
// someone made something else) are left out and named in Reported.Failed.
func (s *Store) Report(ctx context.Context, reports []Report) (Reported, error) {
	var sum Reported
	closed := map[Number]bool{}
	refused, err := s.reportIn(ctx, reportGroups(reports, reportsPerCall), &sum, closed)
	if err != nil {
		return Reported{}, err
	}
	// One damaged list refuses all reports that share a script call with it: they are
	// brought in one by one, each as if it came twice.
	var again []*group
	for _, g := range refused {
		again = append(again, reportGroups(g.reports, 1)...)
	}
	refused, err = s.reportIn(ctx, again, &sum, closed)
	if err != nil {
		return Reported{}, err
	}
	for _, g := range refused {
		sum.Failed = errors.Join(sum.Failed, fmt.Errorf("report of %s on %s: %w", g.reports[0].Host, g.number, g.err))
	}
	for n := range closed {
		if err := s.announceIf(ctx, n, 1); script.Transient(err) {
			return Reported{}, err
		} else if err != nil {
			sum.Failed = errors.Join(sum.Failed, err)
		}
	}
	return sum, nil
}

// reportIn runs the calls, adds what became of them to sum, notes the sets that are
// closed, and returns the groups that Redis has refused.
func (s *Store) reportIn(ctx context.Context, groups []*group, sum *Reported, closed map[Number]bool) ([]*group, error) {
	calls := make([]script.Call, len(groups))
	for i, g := range groups {
		calls[i] = script.Call{Script: reportScript, Keys: setKeys(g.number), Args: g.arguments(s.cfg.OutputLimit)}
	}
	results, err := script.Run(ctx, s.rdb, calls...)
	if err != nil {
		return nil, fmt.Errorf("store reports: %w", err)
	}
	var refused []*group
	for i, r := range results {
		if r.Err != nil {
			groups[i].err = r.Err
			refused = append(refused, groups[i])
			continue
		}
		reply, _ := r.Value.([]any)
		switch integer(reply, 0) {
		case -1:
			sum.NoSet += len(groups[i].reports)
		case 1:
			closed[groups[i].number] = true
		}
		if integer(reply, 3) == 1 {
			sum.Again = append(sum.Again, groups[i].number)
		}
		sum.Strangers += int(integer(reply, 1))
		sum.PassedOver += int(integer(reply, 2))
		s.answered(reply)
	}
	return refused, nil
}

// answered tells of the hosts that were heard of for the first time. It is told at once:
// given again, the same reports say nothing of it.
func (s *Store) answered(reply []any) {
	if s.cfg.OnAnswer == nil {
		return
	}
	for i := 4; i < len(reply); i++ {
		s.cfg.OnAnswer(time.Duration(integer(reply, i)) * time.Millisecond)
	}
}

// group is the reports of one script call.
type group struct {
	number  Number
	reports []Report
	size    int
	err     error // why Redis has refused it
}

// reportGroups parts reports by task number, keeping the order within each.
func reportGroups(reports []Report, most int) []*group {
	var groups []*group
	current := map[Number]*group{}
	for _, r := range reports {
		g := current[r.Number]
		if g == nil || len(g.reports) >= most || g.size >= bytesPerCall {
			g = &group{number: r.Number}
			current[r.Number] = g
			groups = append(groups, g)
		}
		g.reports = append(g.reports, r)
		g.size += r.size()
	}
	return groups
}

// size is about how many bytes r is to Redis.
func (r Report) size() int {
	n := 10*bytesPerArg + len(r.Working)
	for _, list := range [][]string{r.Complete, r.OnCall} {
		for _, command := range list {
			n += len(command) + bytesPerArg
		}
	}
	if r.Result != nil {
		n += 10*bytesPerArg + len(r.Result.Stdout) + len(r.Result.Stderr)
	}
	return n
}

// arguments are those of report.lua.
func (g *group) arguments(outputLimit int64) []any {
	args := []any{outputLimit}
	for _, r := range g.reports {
		args = r.arguments(args)
	}
	return args
}

func (r Report) arguments(args []any) []any {
	if r.RCC != 0 {
		return append(args, r.Host, "answer", r.RCC)
	}
	args = append(args, r.Host, "status", r.Phase, r.Working, r.Lists)
	if r.Lists {
		for _, list := range [][]string{r.Complete, r.OnCall} {
			args = append(args, len(list))
			for _, command := range list {
				args = append(args, command)
			}
		}
	}
	args = append(args, r.Result != nil)
	if c := r.Result; c != nil {
		args = append(args, c.Command, c.ExitCode, c.DurationMS, c.Stdout, c.Stderr,
			c.StdoutBytes, c.StderrBytes, c.Truncated, c.Error)
	}
	return args
}
