package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
	"github.com/musterhq/muster/worker"
)

func (a *app) workerVerb() *cli.Command {
	return &cli.Command{
		Name: "worker", Usage: "take dispatch requests, write task sets, send task numbers",
		Flags: verbFlags(
			intFlag("concurrency", worker.DefaultConcurrency, "`NUMBER` of dispatches at the same time"),
			spanFlag("keep", tasks.DefaultKeep, "how long a task set stays after its deadline"),
			spanFlag("poll-interval", worker.DefaultPollInterval,
				"how often an idle worker asks the job queue; 10ms cost an idle Redis about 93 scripts a second"),
			spanFlag("retry-after", tasks.DefaultRetryAfter, "wait before a host that does not answer is told again; doubled each time"),
			intFlag("attempts", tasks.DefaultAttempts, "`NUMBER` of times that a host is told in all before it counts as unanswered"),
			boolFlag("redeliver-old", "tell old clients again, too, which run a number as often as they are told it"),
			intFlag("client-udp-port", wire.DefaultUDPPort, "UDP `PORT` to which offline hosts are sent whose id is an IP address"),
		),
		Action: a.worker,
	}
}

func (a *app) worker(c *cli.Context) error {
	cfg, err := workerConfig(c)
	if err != nil {
		return err
	}
	s, err := a.service(c)
	if err != nil {
		return err
	}
	defer s.close()
	cfg.Redis, cfg.Reader, cfg.Log = s.client(), s.client(), s.log
	w, err := worker.New(cfg)
	if err != nil {
		return misuse("%w", err)
	}
	return w.Run(c.Context)
}

func workerConfig(c *cli.Context) (cfg worker.Config, err error) {
	if err := noWords(c); err != nil {
		return cfg, err
	}
	if cfg.Concurrency, err = integer(c, "concurrency", 1, 1000); err != nil {
		return cfg, err
	}
	if cfg.Keep, err = span(c, "keep"); err != nil {
		return cfg, err
	}
	if cfg.PollInterval, err = span(c, "poll-interval"); err != nil {
		return cfg, err
	}
	if cfg.PollInterval < time.Millisecond {
		return cfg, misuse("--poll-interval %v: want a millisecond or more", cfg.PollInterval)
	}
	// Workers look after what is due ten times a second.
	if cfg.RetryAfter, err = spanWithin(c, "retry-after", 100*time.Millisecond, time.Hour); err != nil {
		return cfg, err
	}
	if cfg.Attempts, err = integer(c, "attempts", 1, tasks.MaxAttempts); err != nil {
		return cfg, err
	}
	cfg.RedeliverOld = c.Bool("redeliver-old")
	cfg.UDPPort, err = integer(c, "client-udp-port", 1, 65535)
	return cfg, err
}
