package listener

import (
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// Stats counts what a listener has done since it was made.
type Stats struct {
	Connections atomic.Int64 // accepted

	Hellos, Heartbeats, Infos, Statuses, Answers, Lookups atomic.Int64 // messages by kind

	Abnormal   atomic.Int64                 // connections closed for abnormal data
	AbnormalBy [wire.KindCount]atomic.Int64 // the same, by kind
	Unknown    atomic.Int64                 // messages with a code that is not known
	Unreadable atomic.Int64                 // answers that a datagram could not be read
	Stray      atomic.Int64                 // reports for no set, or of a host that is not in it
	PassedOver atomic.Int64                 // commands in reports that are not in the set
	Failed     atomic.Int64                 // writes that Redis refused for good
	Panics     atomic.Int64                 // connections closed because serving them panicked
}

// Stats returns the counters, which go on counting.
func (s *Server) Stats() *Stats { return &s.stats }

// Observer is told what a listener measures. Its methods are called by many goroutines,
// and must not wait.
type Observer interface {
	// Answered tells of a host that is heard of for the first time in a task set: after
	// that time, by Redis's clock, since the number was first sent to it.
	Answered(after time.Duration)
	// Closed tells of a task set that is closed, once for each, and to one process of all.
	Closed(l tasks.Ledger)
}
