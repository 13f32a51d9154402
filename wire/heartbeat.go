package wire

import "sync/atomic"

// heartbeatBody is the heartbeat as this package writes it.
const heartbeatBody = `{"flag":"ADH18","ACK":"keepAlive","phase":1}`

// Bounds of a Heartbeats, so that no peer can fill memory with ways to write one
// message, or make each look-up long.
const (
	maxKnownHeartbeats = 16
	maxKnownBytes      = 128
)

// Heartbeats remembers bodies that are heartbeats byte for byte, so that one that
// comes every few seconds from every host is not decoded each time. Clients differ
// in how they write it, but each writes it the same way always.
//
// The zero value is ready, and knows the bodies that Encode and EncodeText give. The
// text one is a heartbeat only from an old client: Decode refuses it from an agent. A Heartbeats may
// be used by many goroutines; it must not be copied after first use.
type Heartbeats struct {
	learnt atomic.Pointer[[]string] // what it points to never changes
}

// Known reports whether body is a heartbeat that Encode or EncodeText gives or that
// was learnt.
// It takes no lock and allocates nothing. False says nothing: decode the body.
func (h *Heartbeats) Known(body []byte) bool {
	return known(h.learnt.Load(), body)
}

func known(learnt *[]string, body []byte) bool {
	if string(body) == heartbeatBody || string(body) == heartbeatText {
		return true
	}
	if learnt != nil {
		for _, s := range *learnt {
			if string(body) == s {
				return true
			}
		}
	}
	return false
}

// Learn remembers a copy of body, which Decode has just read as a Heartbeat. It
// does nothing if body has more than 128 bytes or if 16 bodies are known, the one
// that Encode gives among them and the text one not.
func (h *Heartbeats) Learn(body []byte) {
	if len(body) > maxKnownBytes {
		return
	}
	for {
		// What is looked at is what is replaced: else a body that another goroutine
		// learns in between would be in it twice, and take the place of one more.
		old := h.learnt.Load()
		if known(old, body) {
			return
		}
		var learnt []string
		if old != nil {
			learnt = *old
		}
		if 1+len(learnt) >= maxKnownHeartbeats {
			return
		}
		next := make([]string, 0, len(learnt)+1)
		next = append(append(next, learnt...), string(body))
		if h.learnt.CompareAndSwap(old, &next) {
			return
		}
	}
}
