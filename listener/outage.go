package listener

import (
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
)

// outage says once that Redis can't be worked with, and once that it can be again. A
// part of the work may fail while another goes on: a full Redis, or one that is a
// replica, still answers what only reads. So it is over when every part that failed
// has worked.
type outage struct {
	log  logrus.FieldLogger
	seen func() // called with each failure

	mu      sync.Mutex
	failing map[string]bool // the parts that have failed and not yet worked
}

// asking is the part of the work that is not tried until it works. The sweep, which
// comes every some seconds, tells when it does again.
const asking = "asking"

// yes says that a part of the work is done, or given up.
func (o *outage) yes(part string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.failing[part] {
		return
	}
	if delete(o.failing, part); len(o.failing) == 0 {
		o.log.Info("redis works again")
	}
}

// no says that Redis has failed a part of the work.
func (o *outage) no(part string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.failing) == 0 {
		log := o.log.WithError(err)
		if answer := redis.Error(nil); errors.As(err, &answer) {
			log.Error("redis refuses to work; work is held until it does")
		} else {
			log.Error("redis does not answer; work is held until it does")
		}
		o.failing = map[string]bool{}
	}
	o.failing[part] = true
	o.seen()
}

func (o *outage) isAway() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.failing) > 0
}
