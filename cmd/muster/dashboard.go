package main

import (
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/dashboard"
	"github.com/musterhq/muster/internal/metrics"
)

func (a *app) dashboardVerb() *cli.Command {
	return &cli.Command{
		Name: "dashboard", Usage: "serve a web page: the fleet, the task sets, the job queue",
		Flags:  verbFlags(flagsOf("dashboard")...),
		Action: a.dashboard,
	}
}

func (a *app) dashboard(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	v, err := a.settings(c, "dashboard")
	if err != nil {
		return err
	}
	cfg, err := dashboardConfig(c, v)
	if err != nil {
		return err
	}
	s, err := a.service(c)
	if err != nil {
		return err
	}
	defer s.close()
	cfg.Redis, cfg.Reader, cfg.Log = s.client(), s.client(), s.log
	srv, err := dashboard.New(cfg)
	if err != nil {
		return misuse("%w", err)
	}
	s.metrics.serve(func(m *metrics.Server) {
		m.AddCheck(srv.Healthy, srv.Ready)
		m.AddFleet()
	})
	return srv.Run(c.Context)
}

func dashboardConfig(c *cli.Context, v values) (cfg dashboard.Config, err error) {
	cfg.Version = version
	cfg.Bind = get[string](v, "bind")
	cfg.Reach = get[bool](v, "insecure")
	return cfg, checkReach(c.Context, v["bind"], cfg.Reach)
}
