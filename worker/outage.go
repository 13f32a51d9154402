package worker

import (
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
)

// settled is how long no part of a worker may have failed before the end of an outage is
// told.
const settled = time.Second

// watchRedis tells operators that Redis can't be worked with, and that it can be again.
func watchRedis(log logrus.FieldLogger) *outage.Watch {
	return outage.New(outage.Config{
		Begin: func(what string, err error) {
			log.WithError(err).WithField("what", what).Warn("can't reach Redis or can't work with it, trying on")
		},
		End:    func() { log.Info("Redis works again") },
		Settle: settled,
	})
}
