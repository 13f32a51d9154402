package agent

import (
	"math/rand/v2"
	"sync"
	"time"
)

// clock tells Redis's time, by which deadlines are meant. It follows the last
// welcome on the monotonic clock, so that setting the host's clock in between
// moves no deadline. Before the first welcome it is the host's clock, corrected by
// what an earlier run had learned.
type clock struct {
	mu     sync.Mutex
	anchor time.Time // when the last welcome came; zero before the first
	atMS   int64     // Redis's clock then, Unix milliseconds
	offset int64     // Redis's clock less the host's, milliseconds
}

// set learns Redis's time and returns by how many milliseconds the host differs.
func (c *clock) set(redisMS int64) (offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.anchor, c.atMS = time.Now(), redisMS
	c.offset = redisMS - c.anchor.UnixMilli()
	return c.offset
}

// assume takes the offset that an earlier run had learned.
func (c *clock) assume(offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.anchor.IsZero() {
		c.offset = offset
	}
}

// now returns Redis's time in Unix milliseconds.
func (c *clock) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.anchor.IsZero() {
		return time.Now().UnixMilli() + c.offset
	}
	return c.atMS + time.Since(c.anchor).Milliseconds()
}

// between returns a random duration from low to high.
func between(low, high time.Duration) time.Duration {
	return low + rand.N(high-low+1)
}

// limiter lets something happen so many times a second. Its zero value is ready.
type limiter struct {
	second int64
	used   int
}

func (l *limiter) allow(perSecond int, now time.Time) bool {
	if s := now.Unix(); s != l.second {
		l.second, l.used = s, 0
	}
	l.used++
	return l.used <= perSecond
}
