package main

import (
	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/tasks"
)

func (a *app) statusVerb() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show a task set: its ledger and the state of each host", ArgsUsage: "KEY",
		Flags:  verbFlags(jsonFlag()),
		Action: a.onSet(a.status),
	}
}

func (a *app) status(c *cli.Context, rdb redis.UniversalClient, n tasks.Number) error {
	store := tasks.NewStore(rdb, tasks.StoreConfig{})
	// The head is read first: a host that moves on meanwhile is then shown further on
	// than the counts, never behind them.
	l, err := store.Ledger(c.Context, n)
	if err != nil {
		return err
	}
	hosts, err := hostsOf(c.Context, store, n, anyState)
	if err != nil {
		return err
	}
	working, err := workingOn(c.Context, rdb, n)
	if err != nil {
		return err
	}
	p := a.printer(c)
	p.head(l)
	if len(hosts) > 0 {
		p.say("")
	}
	p.hosts(n, hosts, working)
	return p.end(statusOfLedger(l))
}
