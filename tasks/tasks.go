// Package tasks is the model of muster: the task set, its number, the ledger of
// what became of it on each host, and the roll of the hosts that are online.
//
// It owns the keys in Redis and the scripts that change them (keys.go, lua/), the
// rules for a request (validate.go) and the way to ask for a dispatch from Go
// (client.go, dispatchable.go) and to wait for its end (outcome.go). It never opens a network connection of its own besides the Redis
// client that it is given, starts no goroutine, and logs nothing.
//
// # The ledger
//
// Every host of a task set is in exactly one state, and the counters of the set add
// up to its total at every moment, because a state and its counters change in one
// script.
//
//	open:    waiting ──> sent ──> acknowledged ──> received ──> working
//	                      │            │              │            │
//	                      └────────────┴──────┬───────┴────────────┘
//	                                          v
//	final:                      done  failed  cancelled  expired
//
//	ended, until the host says otherwise:  offline  missing  unanswered
//
// A host never goes back: it is moved only to a state further on. An answer or a
// report after offline, missing or unanswered counts, until the deadline. At the
// deadline all that is open becomes expired.
//
// A set is preparing until each of its hosts is written, then open, and closed when
// for the first time no host of it is open. It stays closed when one of its offline,
// missing or unanswered hosts is heard of after all.
package tasks

import (
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"
)

// Errors that callers branch on.
var (
	// ErrNotFound says that Redis holds no such task set.
	ErrNotFound = errors.New("no such task set")
	// ErrInUse says that a task number belongs to another request already.
	ErrInUse = errors.New("task number is in use")
)

// Number is a task number: "AC" and then 1 to 62 of A-Z, a-z, 0-9, '.', '_' and
// '-'. It is also the name of the Redis key that holds the set.
type Number string

var (
	numberForm = regexp.MustCompile(`^AC[A-Za-z0-9._-]{1,62}$`)
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9:][A-Za-z0-9._:-]{0,127}$`)
)

// ParseNumber returns s as a Number, or an InvalidError.
func ParseNumber(s string) (Number, error) {
	if !numberForm.MatchString(s) {
		return "", &InvalidError{"key", fmt.Sprintf("%q is no task number: want AC and 1 to 62 of A-Z a-z 0-9 . _ -", clip(s))}
	}
	return Number(s), nil
}

// ValidHost reports whether s has the form of a host id: 1 to 128 of A-Z, a-z,
// 0-9, '.', '_', ':' and '-', the first one a letter, a digit or ':'.
func ValidHost(s string) bool { return hostForm.MatchString(s) }

// Command is a command of a task set. Of two commands the one with the higher
// Priority runs first; of two with the same, the one that is greater byte by byte.
// That is the order of ZREVRANGE, which old clients use.
type Command struct {
	Line     string
	Priority float64
}

// State is what became of a task set on one host.
type State string

// The states, in the order in which a host can go through them.
const (
	Waiting      State = "waiting"      // is offline, will be sent to when it comes online
	Sent         State = "sent"         // the number was, or is about to be, sent
	Acknowledged State = "acknowledged" // the datagram was answered
	Received     State = "received"     // the host has the commands
	Working      State = "working"      // a command runs or has run
	Done         State = "done"         // every command ended, none failed
	Failed       State = "failed"       // every command ended, some failed
	Cancelled    State = "cancelled"    // was open when the set was cancelled
	Expired      State = "expired"      // was open at the deadline
	Offline      State = "offline"      // was not online when the number was to be sent
	Missing      State = "missing"      // did not find the number in Redis
	Unanswered   State = "unanswered"   // never answered, all sends used up
)

// States lists every state in the order in which they are shown.
func States() []State {
	return []State{Waiting, Sent, Acknowledged, Received, Working,
		Done, Failed, Cancelled, Expired, Offline, Missing, Unanswered}
}

// Open reports whether a host in state s is still to be heard of.
func (s State) Open() bool {
	switch s {
	case Waiting, Sent, Acknowledged, Received, Working:
		return true
	}
	return false
}

// Final reports whether nothing can change s any more.
func (s State) Final() bool {
	switch s {
	case Done, Failed, Cancelled, Expired:
		return true
	}
	return false
}

// Stage is where a whole task set is.
type Stage string

// The stages, in order.
const (
	Preparing Stage = "preparing" // its hosts are being written; nothing has been sent
	Open      Stage = "open"      // some host is open
	Closed    Stage = "closed"    // no host was open for the first time, or the deadline passed
)

// clip shortens what a peer wrote for a message to a person.
func clip(s string) string {
	most := 100
	if len(s) <= most {
		return s
	}
	for most > 96 && !utf8.RuneStart(s[most]) {
		most-- // not through the middle of a character
	}
	return s[:most] + "..."
}
