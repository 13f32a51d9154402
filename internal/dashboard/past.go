package dashboard

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/tasks"
)

const (
	pastStep = 15 * time.Second // one sample
	pastKept = 24 * time.Hour
	pastSize = int64(pastKept / pastStep)
)

// past is how many hosts were online over the last day: what was seen since this process
// runs, and before that what the events tell. Where neither says anything it is unknown.
type past struct {
	mu      sync.Mutex
	samples [pastSize]sample // a ring, by the number of the sample
	newest  int64
}

// sample is the time of one step.
type sample struct {
	number         int64 // Unix time in steps; another one than expected: unknown
	low, high, end int32
	seen           bool // by this process
}

func stepOf(t time.Time) int64 { return t.Unix() / int64(pastStep/time.Second) }

// note takes that n hosts are online now, and reports whether a new step has begun.
func (p *past) note(now time.Time, n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, v := stepOf(now), int32(min(n, 1<<31-1))
	s := &p.samples[k%pastSize]
	if s.number != k || !s.seen {
		*s = sample{k, v, v, v, true}
		fresh := k != p.newest
		p.newest = max(p.newest, k)
		return fresh
	}
	s.low, s.high, s.end = min(s.low, v), max(s.high, v), v
	return false
}

// tell takes what the events say of one step that was not seen.
func (p *past) tell(k int64, low, high, end int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := &p.samples[k%pastSize]; s.number != k {
		*s = sample{number: k, low: int32(low), high: int32(high), end: int32(end)}
	}
}

// span returns the samples of the time from from to to, both included. Those that are
// unknown have the number 0.
func (p *past) span(from, to int64) []sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]sample, 0, to-from+1)
	for k := from; k <= to; k++ {
		s := p.samples[k%pastSize]
		if s.number != k {
			s = sample{}
		}
		list = append(list, s)
	}
	return list
}

// rewind goes back through the events from the one with the id last, and tells of each
// step before now how many hosts were online, and of each host that is online when it
// came. The newest events of hosts go to the news.
type rewind struct {
	online map[string]bool
	came   map[string]time.Time
	past   *past
	at     int64 // the step that is being told of
	oldest int64 // no step before this one
	low    int
	high   int
	end    int
}

func newRewind(p *past, online []string, now time.Time) *rewind {
	r := &rewind{online: make(map[string]bool, len(online)), came: map[string]time.Time{}, past: p, at: stepOf(now)}
	for _, id := range online {
		r.online[id] = true
	}
	r.oldest = r.at - pastSize + 1
	r.low, r.high, r.end = len(online), len(online), len(online)
	return r
}

// before takes an event; the next one is older.
func (r *rewind) before(e tasks.Event) {
	if e.Type != "host.online" && e.Type != "host.offline" {
		return
	}
	r.to(stepOf(e.Time))
	_, told := r.came[e.Host]
	switch {
	case e.Type == "host.offline":
		if !told {
			r.came[e.Host] = time.Time{} // what comes before it is another stay
		}
		r.online[e.Host] = true
	default:
		if !told && r.online[e.Host] {
			r.came[e.Host] = e.Time
		}
		delete(r.online, e.Host)
	}
	r.low, r.high = min(r.low, len(r.online)), max(r.high, len(r.online))
}

// to goes back to a step.
func (r *rewind) to(k int64) {
	for k = max(k, r.oldest-1); r.at > k; r.at-- {
		r.past.tell(r.at, r.low, r.high, r.end)
		n := len(r.online)
		r.low, r.high, r.end = n, n, n
	}
}

const pastPage = 1000

// recall reads the events up to the one with the id last, once the roll is known: they
// are the past of this page.
func (s *Server) recall(ctx context.Context, last string) error {
	now := time.Now()
	r := newRewind(s.fleet.past, s.fleet.ids(), now)
	var news []tasks.Event
	for id := ""; ; {
		page, err := tasks.EventsBefore(ctx, s.cfg.Reader, id, pastPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			if id = e.ID; later(id, last) {
				continue // it comes by itself
			}
			if strings.HasPrefix(e.Type, "host.") && len(news) < newsKept {
				news = append(news, e)
			}
			r.before(e)
		}
		if len(page) < pastPage || r.at < r.oldest {
			break
		}
	}
	if r.at >= r.oldest && len(r.came) > 0 {
		r.past.tell(r.at, r.low, r.high, r.end) // the step of the oldest event
	}
	came := map[string]time.Time{}
	for id, at := range r.came {
		if !at.IsZero() {
			came[id] = at
		}
	}
	s.fleet.arrived(came)
	s.news.set(news)
	s.hub.touch("roll", "news")
	s.hub.touch(chartTopics()...)
	return nil
}
