package agent

import (
	"slices"
	"sort"

	"github.com/musterhq/muster/wire"
)

// setKey names a set: a number may come again with another request.
type setKey struct{ number, request string }

// report is an answer or a status that is not confirmed yet.
type report struct {
	seq             int64
	kind            kind
	number, request string
	body            []byte
}

// memory is what a journal's records say, taken together. Applied to the same
// records in the same order it is always the same.
type memory struct {
	next     int64 // the next report's number
	offsetMS int64
	sets     map[string][]*taskSet // by number, each request once, oldest first
	order    []*taskSet            // in the order of their acceptance
	reports  []report              // by seq
	bytes    int                   // of the reports' bodies
	weight   int                   // of the sets, about what they take in a journal
	answers  int                   // of the reports, how many are answers

	maxBytes int                          // of the reports' bodies; beyond it the oldest lose their output
	stripped int64                        // reports up to this number have lost theirs
	dropped  func(number string, n int64) // told when one loses its output; may be nil
}

func newMemory() memory {
	return memory{next: 1, sets: map[string][]*taskSet{}, maxBytes: 64 << 20}
}

func (m *memory) apply(recs []record) {
	for i := range recs {
		m.applyOne(&recs[i])
	}
}

func (m *memory) applyOne(r *record) {
	s := m.find(r.Number, r.Request)
	switch r.Kind {
	case kindAccept:
		m.supersede(r.Set.Number, r.Set.Request)
		m.add(r.Set)
	case kindKnown:
		m.add(r.Set)
	case kindStart:
		if s == nil {
			// Its acceptance was lost to a damage. What it was is not known, but
			// that it was begun is: it is not run again.
			s = &taskSet{Number: r.Number, Request: r.Request, DeadlineMS: r.DeadlineMS, Over: true}
			m.add(s)
		}
		s.Ended, s.Started = r.Ended, true
	case kindStatus:
		m.next = max(m.next, r.Seq+1)
		if s != nil && r.Ended > 0 {
			s.Ended, s.Started = r.Ended, false
		}
		if s == nil || !s.Superseded {
			m.keep(report{r.Seq, r.Kind, r.Number, r.Request, r.body})
		}
	case kindAnswer:
		m.next = max(m.next, r.Seq+1)
		m.keep(report{r.Seq, r.Kind, r.Number, r.Request, r.body})
	case kindConfirm:
		n := sort.Search(len(m.reports), func(i int) bool { return m.reports[i].seq > r.Seq })
		for i := range n {
			m.gone(m.reports[i])
		}
		clear(m.reports[:n]) // their bodies are not to be held by the array
		m.reports = m.reports[n:]
	case kindCancel:
		if s != nil {
			s.Cancelled = true
		}
	case kindOver:
		if s != nil && !s.Over {
			m.weight -= weigh(s)
			s.Over, s.Commands = true, nil
			m.weight += weigh(s)
		}
	case kindClock:
		m.offsetMS = r.OffsetMS
	case kindNext:
		m.next = max(m.next, r.Seq)
	}
}

func (m *memory) find(number, request string) *taskSet {
	for _, s := range m.sets[number] {
		if s.Request == request {
			return s
		}
	}
	return nil
}

func (m *memory) add(s *taskSet) {
	if m.find(s.Number, s.Request) != nil {
		return
	}
	m.sets[s.Number] = append(m.sets[s.Number], s)
	m.order = append(m.order, s)
	m.weight += weigh(s)
}

// weigh returns about what s takes in a journal, in bytes.
func weigh(s *taskSet) int {
	n := 128 + len(s.Number) + len(s.Request)
	for _, c := range s.Commands {
		n += len(c) + 3
	}
	return n
}

// supersede ends what older requests of the number report: their reports would be
// taken for those of the set that has the number now.
func (m *memory) supersede(number, request string) {
	older := false
	for _, s := range m.sets[number] {
		if s.Request != request {
			s.Superseded, older = true, true
		}
	}
	if older {
		m.forget(func(r report) bool {
			return r.kind == kindStatus && r.number == number && r.request != request
		})
	}
}

// keep adds a report. If all of them then take more than maxBytes, the oldest
// lose their output.
func (m *memory) keep(r report) {
	if n := len(m.reports); n > 0 && r.seq <= m.reports[n-1].seq {
		return // an entry that was written twice
	}
	m.reports = append(m.reports, r)
	m.bytes += len(r.body)
	if r.kind == kindAnswer {
		m.answers++
	}
	if m.bytes <= m.maxBytes {
		return
	}
	first := sort.Search(len(m.reports), func(i int) bool { return m.reports[i].seq > m.stripped })
	for i := first; i < len(m.reports) && m.bytes > m.maxBytes; i++ {
		old := &m.reports[i]
		m.stripped = old.seq
		body, ok := withoutOutput(old.body)
		if !ok {
			continue
		}
		m.bytes += len(body) - len(old.body)
		old.body = body
		if m.dropped != nil {
			m.dropped(old.number, old.seq)
		}
	}
}

// withoutOutput returns the status without what the command had printed. ok is
// false if there is nothing to leave out.
func withoutOutput(body []byte) (without []byte, ok bool) {
	m, err := wire.Decode(body, wire.Agent)
	if err != nil {
		return nil, false
	}
	status, isStatus := m.(wire.Status)
	if !isStatus || status.Result == nil || status.Result.Stdout+status.Result.Stderr == "" {
		return nil, false
	}
	status.Result.Stdout, status.Result.Stderr, status.Result.Truncated = "", "", true
	return wire.Encode(status), true
}

// forget removes the reports for which gone is true.
func (m *memory) forget(gone func(report) bool) {
	m.reports = slices.DeleteFunc(m.reports, func(r report) bool {
		if gone(r) {
			m.gone(r)
			return true
		}
		return false
	})
}

// gone no longer counts a report.
func (m *memory) gone(r report) {
	m.bytes -= len(r.body)
	if r.kind == kindAnswer {
		m.answers--
	}
}

// forgetSets removes the sets that nobody will ask for: over, their deadline an
// hour past, and nothing of them unconfirmed.
func (m *memory) forgetSets(nowMS int64) {
	const hour = 3_600_000
	open := map[setKey]bool{}
	for _, r := range m.reports {
		open[setKey{r.number, r.request}] = true
	}
	old := func(s *taskSet) bool {
		return s.Over && s.DeadlineMS+hour < nowMS && !open[setKey{s.Number, s.Request}]
	}
	for number, list := range m.sets {
		if list = slices.DeleteFunc(list, old); len(list) == 0 {
			delete(m.sets, number)
		} else {
			m.sets[number] = list
		}
	}
	m.order = slices.DeleteFunc(m.order, func(s *taskSet) bool {
		if old(s) {
			m.weight -= weigh(s)
			return true
		}
		return false
	})
}

// snapshot returns the fewest records that say what m knows.
func (m *memory) snapshot() []record {
	recs := []record{{Kind: kindNext, Seq: m.next}, {Kind: kindClock, OffsetMS: m.offsetMS}}
	for _, s := range m.order {
		c := *s
		recs = append(recs, record{Kind: kindKnown, Set: &c})
	}
	for _, r := range m.reports {
		recs = append(recs, record{Kind: r.kind, Number: r.number, Request: r.request, Seq: r.seq, body: r.body})
	}
	return recs
}
