package dashboard

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	checkEvery = time.Second
	// silence is how long Redis may say nothing before it counts as away: two checks in a
	// row have then had no answer.
	silence = 3 * time.Second
)

// contact is when Redis has last answered.
type contact struct {
	mu    sync.Mutex
	most  time.Duration // silence that is borne; the constant, but for tests on a busy machine
	last  time.Time     // zero: not yet
	began time.Time
	err   error // why it has not answered since, as far as is known

	broken []broken // keys that nothing can be read of
}

func newContact() *contact { return &contact{began: time.Now(), most: silence} }

// answered notes that Redis has answered just now.
func (c *contact) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.err = time.Now(), nil
}

// failed notes why Redis has not answered.
func (c *contact) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// cause is why Redis does not answer, as far as is known.
func (c *contact) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return fmt.Errorf("no word for %s", c.most)
	}
	return c.err
}

// outage is a time without an answer of Redis.
type outage struct {
	Since   time.Time // when it has last answered, zero if it never has
	Refusal error     // what it says instead, as that it is still loading; nil if it is silent
}

// away returns the silence of Redis, nil while it answers.
func (c *contact) away() *outage {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.last
	if from.IsZero() {
		from = c.began
	}
	if time.Since(from) <= c.most {
		return nil
	}
	out := &outage{Since: c.last}
	if c.err != nil && isReply(c.err) {
		out.Refusal = c.err
	}
	return out
}

// watch says when Redis goes away or refuses, and when it is back: to those who look at a
// page, and once in the log.
func (s *Server) watch(ctx context.Context) error {
	tick := time.NewTicker(checkEvery / 2)
	defer tick.Stop()
	was := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		away := s.contact.away()
		is := away.String()
		if is == was {
			continue
		}
		switch was = is; {
		case away == nil:
			s.cfg.Log.Info("redis works again")
			s.hub.touchAll() // regions that could not be read
			continue
		case away.Refusal != nil:
			s.cfg.Log.WithError(away.Refusal).Error("redis refuses; the page shows what was last known")
		default:
			s.cfg.Log.WithError(s.contact.cause()).Error("redis does not answer; the page shows what was last known")
		}
		s.hub.touch("redis")
	}
}

// String tells one outage from another, "" for none.
func (o *outage) String() string {
	switch {
	case o == nil:
		return ""
	case o.Refusal != nil:
		return o.Refusal.Error()
	}
	return "silent"
}

// failures logs the first of a series of refusals by Redis, and nothing that follows it
// until something has succeeded. That Redis is away is said by watch.
type failures struct {
	log    logrus.FieldLogger
	failed bool
}

func (f *failures) seen(err error, message string) {
	if err == nil || !isReply(err) {
		f.failed = f.failed && err != nil
		return
	}
	if !f.failed {
		f.log.WithError(err).Warn(message)
	}
	f.failed = true
}
