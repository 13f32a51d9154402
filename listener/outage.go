package listener

import (
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/outage"
)

// asking is the part of the work that is not tried until it works. The sweep, which
// comes every some seconds, tells when it does again.
const asking = "asking"

// watchRedis has it said once that Redis can't be worked with, and once that it can be
// again: when every part of the work that failed has worked.
func (s *Server) watchRedis() *outage.Watch {
	return outage.New(outage.Config{
		Begin: func(_ string, err error) {
			log := s.log.WithError(err)
			if answer := redis.Error(nil); errors.As(err, &answer) {
				log.Error("redis refuses to work; work is held until it does")
			} else {
				log.Error("redis does not answer; work is held until it does")
			}
		},
		End: func() { s.log.Info("redis works again") },
	})
}

// redisFailed says that Redis has failed a part of the work.
func (s *Server) redisFailed(part string, err error) {
	s.redisUp.Failed(part, err)
	s.sweeper.Broken()
}
