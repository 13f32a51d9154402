package listener

import (
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
)

// Stats counts what a listener has done since it was made.
type Stats struct {
	Connections atomic.Int64 // accepted

	Heartbeats, Infos, Statuses, Answers, Lookups atomic.Int64 // messages by kind

	Abnormal   atomic.Int64 // connections closed for abnormal data
	Unknown    atomic.Int64 // messages of agents with a code that is not known
	Unreadable atomic.Int64 // answers that a datagram could not be read
	Stray      atomic.Int64 // reports for no set, or of a host that is not in it
	PassedOver atomic.Int64 // commands in reports that are not in the set
	Failed     atomic.Int64 // writes that Redis refused for good
}

// Stats returns the counters, which go on counting.
func (s *Server) Stats() *Stats { return &s.stats }

// outage says once that Redis is away and once that it is back.
type outage struct {
	log  logrus.FieldLogger
	seen func() // called with each failure

	mu   sync.Mutex
	away bool
}

func (o *outage) yes() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		o.log.Info("redis answers again")
	}
	o.away = false
}

func (o *outage) no(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.away {
		o.log.WithError(err).Error("redis does not answer; work is held until it does")
	}
	o.away = true
	o.seen()
}

func (o *outage) isAway() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.away
}
