package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

func (a *app) resultsVerb() *cli.Command {
	return &cli.Command{
		Name: "results", Usage: "show exit codes and output", ArgsUsage: "KEY",
		Flags: verbFlags(
			textFlag("host", "", "only those of this `HOST`"),
			jsonFlag(),
		),
		Action: a.results,
	}
}

// resultObject is how a command ended, in JSON.
type resultObject struct {
	Key         tasks.Number `json:"key"`
	Host        string       `json:"host"`
	Command     string       `json:"command"`
	ExitCode    int          `json:"exit_code"`
	DurationMS  int64        `json:"duration_ms"`
	Stdout      string       `json:"stdout"`
	Stderr      string       `json:"stderr"`
	StdoutBytes int64        `json:"stdout_bytes"`
	StderrBytes int64        `json:"stderr_bytes"`
	Truncated   bool         `json:"truncated"`
	Error       string       `json:"error"`
}

func (a *app) results(c *cli.Context) error {
	n, err := oneNumber(c)
	if err != nil {
		return err
	}
	host := c.String("host")
	if (host != "" || a.given["host"]) && !tasks.ValidHost(host) {
		return misuse("--host %q is no host id", host)
	}
	rdb, done, err := a.redis(c)
	if err != nil {
		return err
	}
	defer done()
	return a.showResults(c.Context, rdb, n, host, a.printer(c))
}

// showResults prints how the commands of a set ended, with a host only its own. That there
// are none is said on standard error, as by the verb hosts.
func (a *app) showResults(ctx context.Context, rdb redis.UniversalClient, n tasks.Number, host string, p *printer) error {
	store := tasks.NewStore(rdb, tasks.StoreConfig{})
	l, err := store.Ledger(ctx, n)
	if err != nil {
		return err
	}
	var at tasks.State
	if host != "" {
		if at, err = stateIn(ctx, rdb, n, host); err != nil {
			return err
		}
	}
	s, none := statusOK, true
	err = store.Results(ctx, n, host, func(r tasks.Result) error {
		none = false
		if r.ExitCode != 0 || r.Error != "" {
			s = statusCommand
		}
		p.result(n, r)
		return p.err
	})
	if err != nil {
		return err
	}
	if none && !p.json {
		fmt.Fprintln(a.stderr, noResults(l, host, at))
	}
	return p.end(s)
}

// noResults says that nothing has come in, and how far it is: of a host, if it names one,
// else of the set.
func noResults(l tasks.Ledger, host string, at tasks.State) string {
	yet := " yet"
	switch {
	case host != "":
		if l.Stage == tasks.Closed || at.Final() {
			yet = ""
		}
		return fmt.Sprintf("%s has no results of %s%s: it is %s", host, l.Number, yet, visible.Line(string(at)))
	case l.Stage == tasks.Closed:
		yet = ""
	}
	return fmt.Sprintf("%s has no results%s: %s, %s", l.Number, yet, visible.Line(string(l.Stage)), (&printer{}).counts(l))
}

// stateIn is the state of a host of a set; it is an error if it is none.
func stateIn(ctx context.Context, rdb redis.UniversalClient, n tasks.Number, host string) (tasks.State, error) {
	state, err := rdb.HGet(ctx, tasks.KeyHosts(n), host).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return "", failf(statusFailure, "%s is not a host of %s", host, n)
	case err != nil:
		return "", fmt.Errorf("hosts of %s: %w", n, err)
	}
	return tasks.State(state), nil
}

// result prints how one command ended: a line, then its output, each line of it
// behind a mark: | for standard output, ! for standard error.
func (p *printer) result(n tasks.Number, r tasks.Result) {
	if p.json {
		p.object(resultObject{
			n, r.Host, r.Command, r.ExitCode, r.DurationMS, tasks.Printable(r.Stdout), tasks.Printable(r.Stderr),
			r.StdoutBytes, r.StderrBytes, r.Truncated, r.Error,
		})
		return
	}
	end := p.paint(green, "exit 0")
	if r.ExitCode != 0 || r.Error != "" {
		end = p.paint(red, fmt.Sprintf("exit %d", r.ExitCode))
	}
	took := time.Duration(r.DurationMS) * time.Millisecond
	p.say("%s  %s  %v  %s", p.paint(bold, visible.Line(r.Host)), end, took, visible.Line(r.Command))
	if r.Error != "" {
		p.say("  %s", p.paint(red, "error: "+visible.Line(r.Error)))
	}
	p.outputs(r)
}

// outputs prints what a command has written, and what is missing of it.
func (p *printer) outputs(r tasks.Result) {
	p.output("|", r.Stdout)
	p.output(p.paint(red, "!"), r.Stderr)
	if r.Truncated {
		var parts []string
		for _, o := range []struct {
			name  string
			kept  int
			bytes int64
		}{{"stdout", len(r.Stdout), r.StdoutBytes}, {"stderr", len(r.Stderr), r.StderrBytes}} {
			if o.bytes > 0 {
				parts = append(parts, fmt.Sprintf("%d of %d bytes of %s", o.kept, o.bytes, o.name))
			}
		}
		p.say("  %s", p.paint(yellow, "truncated: "+strings.Join(parts, ", ")))
	}
}

func (p *printer) output(mark, text string) {
	for _, l := range visible.Lines(text) {
		p.say("  %s %s", mark, l)
	}
}
