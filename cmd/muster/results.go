package main

import (
	"context"
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
	return a.printer(c).results(c.Context, rdb, n, host)
}

// results prints how the commands of a set ended, with a host only its own.
func (p *printer) results(ctx context.Context, rdb redis.UniversalClient, n tasks.Number, host string) error {
	store := tasks.NewStore(rdb, tasks.StoreConfig{})
	if _, err := store.Ledger(ctx, n); err != nil {
		return err
	}
	if host != "" {
		if err := inSet(ctx, rdb, n, host); err != nil {
			return err
		}
	}
	s := statusOK
	err := store.Results(ctx, n, host, func(r tasks.Result) error {
		if r.ExitCode != 0 || r.Error != "" {
			s = statusCommand
		}
		p.result(n, r)
		return p.err
	})
	if err != nil {
		return err
	}
	return p.end(s)
}

// inSet is an error if host is not a host of the set.
func inSet(ctx context.Context, rdb redis.UniversalClient, n tasks.Number, host string) error {
	in, err := rdb.HExists(ctx, tasks.KeyHosts(n), host).Result()
	if err != nil {
		return fmt.Errorf("hosts of %s: %w", n, err)
	}
	if !in {
		return failf(statusFailure, "%s is not a host of %s", host, n)
	}
	return nil
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
