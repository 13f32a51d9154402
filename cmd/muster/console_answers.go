package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

const (
	// Hosts that answer the same are printed as one: once no further host has done so
	// for answerBeat, and answerHold after the first one did at the latest.
	answerBeat = 200 * time.Millisecond
	answerHold = 5 * time.Second
)

// dispatch hands a request over, prints the answers as they come, and at the end what
// became of the set.
func (s *session) dispatch(ctx context.Context, r tasks.Request) error {
	f := &follower{rdb: s.rdb, store: s.store, log: s.log}
	if err := f.submit(ctx, r); err != nil {
		return err
	}
	watched, stop := ctx, func() {}
	if s.cfg.patience > 0 {
		watched, stop = context.WithTimeout(ctx, s.cfg.patience)
	}
	defer stop()
	l, err := s.untilSent(watched, f)
	if f.number != "" {
		s.last = f.number
	}
	a := newAnswers(s.store, f.number, s.out)
	if err == nil {
		l, err = f.untilClosed(watched, l, func(tasks.Ledger) { a.update(watched) })
	}
	for err == nil { // what came in since the last look
		err = a.read(watched)
		if s.out.err != nil {
			return s.out.err
		}
		if f.answered(watched, err) {
			return s.report(watched, l, a)
		}
		err = watched.Err()
	}
	switch {
	case s.out.err != nil:
		return s.out.err
	case errors.Is(err, errNotTaken) || watched.Err() != nil:
		why := fmt.Sprintf("not within %v", s.cfg.patience)
		if ctx.Err() != nil {
			why = "stopped waiting"
		} else if errors.Is(err, errNotTaken) {
			why = err.Error()
		}
		return s.stopped(ctx, f, a, why)
	}
	a.print(true)
	return err
}

// errNotTaken is why a request is not waited for that no worker has taken in time.
var errNotTaken = fmt.Errorf("not within %v", takenWithin)

// untilSent is the follower's, but for a request that no worker takes: a console must
// not hang on that without a word. The time that Redis is away does not count.
func (s *session) untilSent(ctx context.Context, f *follower) (tasks.Ledger, error) {
	for {
		part, cancel := context.WithTimeout(ctx, takenWithin)
		l, err := f.untilSent(part)
		over := part.Err() != nil
		cancel()
		if err == nil || !over || ctx.Err() != nil {
			return l, err
		}
		if !f.accepted && !f.away {
			return l, errNotTaken
		}
	}
}

// stopped prints how far a dispatch was when the waiting ended. The dispatch goes on.
func (s *session) stopped(ctx context.Context, f *follower, a *answers, why string) error {
	if f.sent {
		// How far it is may be of use, and is no reason to wait longer.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		a.read(last)
		a.print(true)
		if l, err := s.store.Ledger(last, f.number); err == nil {
			if err := s.report(last, l, a); s.out.err != nil {
				return err
			}
		}
	}
	return f.left(why, fmt.Sprintf(":results here, muster status %s or muster cancel %s elsewhere", f.number, f.number))
}

// report prints what is left to say at the end: the last answers, who has ended
// without one, and how many hosts are in each state.
func (s *session) report(ctx context.Context, l tasks.Ledger, a *answers) error {
	a.print(true)
	p := s.out
	if p.json {
		p.head(l)
	}
	if l.Total > int64(len(a.heard)) {
		silent := map[tasks.State][]string{}
		hosts, err := hostsOf(ctx, s.store, l.Number, anyState)
		if err != nil {
			return err
		}
		for _, h := range hosts {
			if a.heard[h.Host] {
				continue
			}
			silent[h.State] = append(silent[h.State], h.Host)
			if p.json {
				p.object(hostObject{Key: l.Number, Host: h.Host, State: h.State})
			}
		}
		for _, state := range tasks.States() {
			if names := silent[state]; len(names) > 0 {
				what := p.state(state)
				if state == tasks.Done {
					what += ", no output reported"
				}
				p.say("%s (%d): %s", what, len(names), visible.Line(someOf(names)))
			}
		}
	}
	p.summary(l)
	if err := p.flush(); err != nil {
		return err
	}
	return ends(statusOfLedger(l))
}

// summary prints how many hosts of a set are in each state.
func (p *printer) summary(l tasks.Ledger) {
	if l.Total == 0 {
		p.sayNobody(l)
		return
	}
	_, counts, _ := strings.Cut(p.counts(l), ": ")
	p.say("%s: %s", p.paint(bold, visible.Line(string(l.Number))), counts)
}

// answers are the results of one dispatch on their way to the terminal: equal ones are
// held back for a moment, to be printed as one.
type answers struct {
	store  *tasks.Store
	number tasks.Number
	out    *printer

	after  string          // the last result that was read
	heard  map[string]bool // the hosts that results have come from
	groups []*group        // not printed yet, in the order in which they began
	group  map[answer]*group
}

func newAnswers(store *tasks.Store, n tasks.Number, out *printer) *answers {
	return &answers{store: store, number: n, out: out, heard: map[string]bool{}, group: map[answer]*group{}}
}

// answer is all that two hosts must have in common to be printed as one.
type answer struct {
	command, stdout, stderr, err string
	exit                         int
	truncated                    bool
	stdoutBytes, stderrBytes     int64
}

// group is the hosts that have answered the same.
type group struct {
	answer
	result      tasks.Result // the first one
	hosts       []string
	first, last time.Time // when it began, and when the last host came
}

// update reads what has come in and prints what is ripe. An error of Redis is nobody's
// business here: it shows with the ledger, too.
func (a *answers) update(ctx context.Context) {
	a.read(ctx)
	a.print(false)
}

// read reads the results that have come in.
func (a *answers) read(ctx context.Context) (err error) {
	a.after, err = a.store.ResultsAfter(ctx, a.number, a.after, func(r tasks.Result) error {
		a.add(r, time.Now())
		return a.out.err
	})
	return err
}

// add takes a result in, or with --json prints it.
func (a *answers) add(r tasks.Result, now time.Time) {
	a.heard[r.Host] = true
	if a.out.json {
		a.out.result(a.number, r)
		return
	}
	key := answer{r.Command, r.Stdout, r.Stderr, r.Error, r.ExitCode, r.Truncated, r.StdoutBytes, r.StderrBytes}
	g := a.group[key]
	if g == nil {
		g = &group{answer: key, result: r, first: now}
		a.group[key], a.groups = g, append(a.groups, g)
	}
	g.hosts, g.last = append(g.hosts, r.Host), now
}

// print prints the groups that no further host is expected in, or all of them.
func (a *answers) print(all bool) {
	a.printAt(time.Now(), all)
	a.out.flush() // the error stays with the printer
}

func (a *answers) printAt(now time.Time, all bool) {
	a.groups = slices.DeleteFunc(a.groups, func(g *group) bool {
		ripe := all || now.Sub(g.last) >= answerBeat || now.Sub(g.first) >= answerHold
		if ripe {
			a.out.group(g)
			delete(a.group, g.answer)
		}
		return ripe
	})
}

// group prints one answer and whose it is. What is one line stands behind the names;
// else the lines follow, each behind a mark as with the results.
func (p *printer) group(g *group) {
	slices.Sort(g.hosts)
	who := p.paint(bold, visible.Line(someOf(g.hosts)))
	if len(g.hosts) > 1 {
		who += fmt.Sprintf(" (%d)", len(g.hosts))
	}
	failed := g.exit != 0 || g.err != ""
	lines := visible.Lines(g.stdout)
	switch {
	case !failed && g.stderr == "" && !g.truncated && len(lines) == 0:
		p.say("%s: %s", who, p.paint(dim, "no output"))
		return
	case !failed && g.stderr == "" && !g.truncated && len(lines) == 1:
		p.say("%s: %s", who, lines[0])
		return
	case failed:
		p.say("%s: %s", who, p.paint(red, fmt.Sprintf("exit %d", g.exit)))
	default:
		p.say("%s:", who)
	}
	if g.err != "" {
		p.say("  %s", p.paint(red, "error: "+visible.Line(g.err)))
	}
	p.outputs(g.result)
}
