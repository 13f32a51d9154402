package listener

import (
	"sync"

	"github.com/sirupsen/logrus"
)

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
