package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/metrics"
	"github.com/musterhq/muster/worker"
)

func (a *app) workerVerb() *cli.Command {
	return &cli.Command{
		Name: "worker", Usage: "take dispatch requests, write task sets, send task numbers",
		Flags:  verbFlags(flagsOf("worker")...),
		Action: a.worker,
	}
}

func (a *app) worker(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	cfg, err := a.workerConfig(c)
	if err != nil {
		return err
	}
	s, err := a.service(c)
	if err != nil {
		return err
	}
	defer s.close()
	cfg.Redis, cfg.Reader, cfg.Log, cfg.Observer = s.client(), s.client(), s.log, s.metrics.workerObserver()
	cfg.Place = place(s.at.url)
	w, err := worker.New(cfg)
	if err != nil {
		return misuse("%w", err)
	}
	s.metrics.serve(func(m *metrics.Server) {
		m.AddWorker(func() *worker.Worker { return w })
		m.AddFleet()
	})
	return w.Run(c.Context)
}

func (a *app) workerConfig(c *cli.Context) (cfg worker.Config, err error) {
	v, err := a.settings(c, "worker")
	if err != nil {
		return cfg, err
	}
	cfg.Concurrency = get[int](v, "concurrency")
	cfg.Keep = get[time.Duration](v, "keep")
	cfg.PollInterval = get[time.Duration](v, "poll_interval")
	cfg.RetryAfter = get[time.Duration](v, "retry_after")
	cfg.Attempts = get[int](v, "attempts")
	cfg.RedeliverOld = get[bool](v, "redeliver_old")
	cfg.UDPPort = get[int](v, "client_udp_port")
	cfg.OfflineDelete, err = a.offlineDelete(c)
	return cfg, err
}
