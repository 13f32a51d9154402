package worker

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

// sweep takes the hosts of dead listeners off the roll until ctx ends, so that a
// fleet whose only listener has died is not believed to be online. It ends too if round,
// which is called each time, fails.
func sweep(ctx context.Context, log logrus.FieldLogger, sweeper *tasks.Sweeper, away *outage.Part, round func() error) error {
	for ctx.Err() == nil {
		if err := round(); err != nil {
			return err
		}
		swept, err := sweeper.Sweep(ctx)
		if err != nil {
			away.Failed(ctx, err)
			continue
		}
		away.Works()
		for _, listener := range swept {
			log.WithField("gone", listener).Warn("hosts of a dead listener taken off the roll")
		}
		pause.For(ctx, tasks.SweepEvery)
	}
	return nil
}
