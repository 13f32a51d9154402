package main

import (
	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

func (a *app) verifyVerb() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "recount a ledger from its hosts and results", ArgsUsage: "KEY",
		Flags:  verbFlags(jsonFlag()),
		Action: a.onSet(a.verify),
	}
}

func (a *app) verify(c *cli.Context, rdb redis.UniversalClient, n tasks.Number) error {
	findings, err := tasks.NewStore(rdb, tasks.StoreConfig{}).Verify(c.Context, n)
	if err != nil {
		return err
	}
	p := a.printer(c)
	if p.json {
		p.object(struct {
			Key      tasks.Number `json:"key"`
			Sound    bool         `json:"sound"`
			Findings []string     `json:"findings"`
		}{n, len(findings) == 0, append([]string{}, findings...)})
	}
	for _, f := range findings {
		p.say("%s", visible.Line(f))
	}
	if len(findings) == 0 {
		p.say("%s adds up", n)
		return p.end(statusOK)
	}
	if err := p.flush(); err != nil {
		return err
	}
	return failf(statusFailure, "the ledger of %s does not add up: %s", n, plural(int64(len(findings)), "finding"))
}
