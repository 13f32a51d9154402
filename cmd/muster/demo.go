package main

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/tasks"
)

// demoPatience is how long the demo waits for its three agents.
const demoPatience = time.Minute

func (a *app) demoVerb() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "run everything, dispatch once to three local agents, show what came back, end",
		Flags:  append([]cli.Flag{jsonFlag()}, sharedFlags("", "warn")...),
		Action: a.demo,
	}
}

func (a *app) demo(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	log, logged, err := a.log(c)
	if err != nil {
		return err
	}
	defer logged()
	ctx, cancel := context.WithTimeout(c.Context, demoPatience)
	defer cancel()
	s, err := startSystem(ctx, systemConfig{
		redis: redisAt{c.String("redis"), a.redisBy}, redisAddr: freePort, listener: listener.Config{Bind: freePort}, agents: 3, log: log,
	})
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.gathered(ctx); err != nil {
		return err
	}
	p := a.printer(c)
	p.say("Redis at %s, a listener at %s, a worker, and three agents: %s.", place(s.url), s.addr, strings.Join(s.hosts, ", "))
	r := tasks.Request{Hosts: s.hosts, Commands: demoCommands()}
	for _, command := range r.Commands {
		p.say("  $ %s", command.Line)
	}
	p.say("")
	if err := p.flush(); err != nil {
		return err
	}
	d := newDelivery(s.rdb, log, p)
	d.wait, d.all = true, true
	verdict := d.run(ctx, r)
	if failed := s.err(); failed != nil {
		return failed
	}
	if d.follow.sent {
		if err := p.demoResults(ctx, d.store, d.follow.number); err != nil {
			return err
		}
	}
	return verdict
}

// demoResults prints what came back, host by host.
func (p *printer) demoResults(ctx context.Context, store *tasks.Store, n tasks.Number) error {
	var results []tasks.Result
	err := store.Results(ctx, n, "", func(r tasks.Result) error {
		results = append(results, r)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(results, func(a, b tasks.Result) int { return cmp.Compare(a.Host, b.Host) })
	for i, r := range results {
		if i == 0 || results[i-1].Host != r.Host {
			p.say("")
		}
		p.result(n, r)
	}
	return p.flush()
}

// demoCommands are harmless ones that every machine of the kind has, the first to run
// with the highest priority.
func demoCommands() []tasks.Command {
	lines := []string{"uname -a", "date -u", "echo hello from muster"}
	if runtime.GOOS == "windows" {
		lines = []string{"ver", "hostname", "echo hello from muster"}
	}
	commands := make([]tasks.Command, len(lines))
	for i, l := range lines {
		commands[i] = tasks.Command{Line: l, Priority: float64(len(lines) - i)}
	}
	return commands
}
