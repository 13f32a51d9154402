package main

import (
	"errors"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/tasks"
)

func (a *app) cancelVerb() *cli.Command {
	return &cli.Command{
		Name: "cancel", Usage: "cancel a task set: it goes to nobody any more, and agents end what they run of it", ArgsUsage: "KEY",
		Flags:  verbFlags(jsonFlag()),
		Action: a.onSet(a.cancel),
	}
}

// cancel needs no worker: it ends the ledger itself. A worker has the agents told, the
// next one to start if there is none.
func (a *app) cancel(c *cli.Context, rdb redis.UniversalClient, n tasks.Number) error {
	store := tasks.NewStore(rdb, tasks.StoreConfig{})
	switch err := store.Cancel(c.Context, n); {
	case errors.Is(err, tasks.ErrClosed):
		return failf(statusFailure, "%s has ended already, nothing of it was cancelled", n)
	case errors.Is(err, tasks.ErrNotFound):
		return failf(statusFailure, "%s: %w", n, tasks.ErrNotFound)
	case err != nil:
		return err
	}
	l, err := store.Ledger(c.Context, n)
	if err != nil {
		return err
	}
	p := a.printer(c)
	if p.json {
		p.head(l)
	} else {
		p.say("%s  cancelled  %s", p.paint(bold, string(n)), p.counts(l))
	}
	return p.end(statusOK)
}
