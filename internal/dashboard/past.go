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

// tell takes what the events say of steps, of which the newest may have been seen in part.
func (p *past) tell(told []sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range told {
		if s := &p.samples[t.number%pastSize]; s.number != t.number {
			*s = t
		} else {
			s.low, s.high = min(s.low, t.low), max(s.high, t.high)
		}
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

// rewind goes back through the events from the newest one on. It finds how many hosts
// were online at each step before now, and when each that is online has come.
type rewind struct {
	online map[string]bool      // at the moment where it is
	came   map[string]time.Time // zero: it did not stay since its last coming
	told   []sample
	at     int64 // the step that is looked at
	oldest int64 // no step before this one
	seen   int   // events
	low    int
	high   int
	end    int
}

func newRewind(online []string, now time.Time) *rewind {
	n := len(online)
	r := &rewind{online: make(map[string]bool, n), came: map[string]time.Time{}, at: stepOf(now), low: n, high: n, end: n}
	for _, id := range online {
		r.online[id] = true
	}
	r.oldest = r.at - pastSize + 1
	return r
}

// before takes an event; the next one is older.
func (r *rewind) before(e tasks.Event) {
	if r.seen++; e.Type != "host.online" && e.Type != "host.offline" {
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
		r.tell()
		n := len(r.online)
		r.low, r.high, r.end = n, n, n
	}
}

func (r *rewind) tell() {
	r.told = append(r.told, sample{number: r.at, low: int32(r.low), high: int32(r.high), end: int32(r.end)})
}

// result returns what was found. With whole there are no older events; if Redis has not let
// any go either, a host of whose coming there is none was put on the roll by other means,
// nobody knows when, and then the numbers of before are not known.
func (r *rewind) result(online []string, whole bool) (told []sample, came map[string]time.Time) {
	came = map[string]time.Time{}
	unexplained := false
	for _, id := range online {
		at, known := r.came[id]
		if known && !at.IsZero() {
			came[id] = at
		}
		unexplained = unexplained || !known
	}
	if whole && r.seen < tasks.EventsCap && unexplained {
		return nil, came
	}
	if r.at >= r.oldest && len(r.came) > 0 {
		r.tell() // the step of the oldest event
	}
	return r.told, came
}

const pastPage = 1000

// recall reads the events up to the one with the id last, once the roll is known: they
// are the past of this page. Of a roll that can't be read they only tell the news.
func (s *Server) recall(ctx context.Context, last string) error {
	online := s.fleet.ids()
	r := newRewind(online, time.Now())
	var news []happening
	whole := false
	for id, first := "", true; r.at >= r.oldest && !whole; first = false {
		page, err := tasks.EventsBefore(ctx, s.cfg.Reader, id, pastPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			id = e.ID
			r.before(e)
			s.rejected.add(e) // one that came since those of before were read
			if _, earlier := r.came[e.Host]; e.Type == "host.duplicate" && !earlier {
				s.fleet.heard(e) // of its present stay
			}
			if first && strings.HasPrefix(e.Type, "host.") { // the roll may have been read before it
				s.fleet.lookSoon(e.Host)
			}
			// What is behind last comes by itself.
			if strings.HasPrefix(e.Type, "host.") && !later(id, last) {
				news = withOlder(news, e, newsShown)
			}
		}
		whole = len(page) < pastPage
	}
	if s.fleet.known() {
		told, came := r.result(online, whole)
		s.fleet.past.tell(told)
		s.fleet.arrived(came)
	}
	s.news.set(news)
	s.hub.touch("roll", "news")
	s.hub.touch(chartTopics()...)
	return nil
}
