package listener

import "sync/atomic"

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
	Panics     atomic.Int64 // connections closed because serving them panicked
}

// Stats returns the counters, which go on counting.
func (s *Server) Stats() *Stats { return &s.stats }
