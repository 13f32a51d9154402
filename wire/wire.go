// Package wire is what muster puts on the network and reads from it: frames and
// messages over TCP, and the datagram that carries a task number over UDP.
//
// It owns the bytes and their limits, and nothing else: it opens no socket, keeps
// no state between two messages and imports the standard library only.
//
// # Frames
//
// TCP carries frames. A frame is a length and a body:
//
//	0        4                      4+n
//	+--------+----------------------+
//	| n      | body, n bytes        |
//	+--------+----------------------+
//	int32,     UTF-8
//	little-endian
//
// n is at least 1 and at most [MaxFrame], or the lower limit that a [Decoder] was
// given. TCP keeps no boundaries: a frame may arrive in pieces, and many may
// arrive together.
//
// # Messages
//
// A body is a JSON object whose member "flag" is the code of the message, or, from
// clients of version 0.7, a text that does not begin with '{' (see text.go). Members
// that the code does not know are ignored. A name that stands twice in one object,
// nesting deeper than [MaxDepth], and a required member that is absent or has a
// wrong type or value make the message abnormal: [Decode] returns an error that
// wraps [ErrAbnormal], and the connection is to be closed.
//
// # The datagram
//
// A datagram is the task number as plain text, "AC131", and at most [MaxDatagram]
// bytes. It never carries a command.
package wire

import (
	"errors"
	"fmt"
)

// Limits of the network formats. Default ports are part of the protocol, because
// clients that were configured with nothing use them.
const (
	MaxFrame    = 1 << 20 // bytes in a frame's body, by default and at most
	MaxDepth    = 16      // objects and lists inside one another in a message
	MaxDatagram = 200     // bytes in a datagram
	MaxNumber   = 64      // bytes in a task number, "AC" included
	MaxHost     = 128     // bytes in a host id

	DefaultTCPPort = 11451 // where hosts dial a listener
	DefaultUDPPort = 6655  // where hosts wait for a task number
)

// ErrAbnormal is what every error wraps that says a peer broke the protocol. The
// only answer to it is to close the connection.
var ErrAbnormal = errors.New("abnormal data")

// ErrUnknownCode says that a message has a code that this version does not know.
// It wraps ErrAbnormal. From an agent it is to be counted and passed over, so that
// newer agents can be rolled out before newer listeners.
var ErrUnknownCode = fmt.Errorf("%w: unknown message code", ErrAbnormal)

func abnormal(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrAbnormal, fmt.Sprintf(format, args...))
}

// ValidNumber reports whether s has the form of a task number: "AC" and then 1 to
// 62 of A-Z, a-z, 0-9, '.', '_' and '-'.
func ValidNumber(s string) bool {
	if len(s) < 3 || len(s) > MaxNumber || s[0] != 'A' || s[1] != 'C' {
		return false
	}
	for i := 2; i < len(s); i++ {
		if c := s[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// ValidHost reports whether s has the form of a host id: 1 to 128 of A-Z, a-z,
// 0-9, '.', '_', ':' and '-', the first one a letter, a digit or ':'.
func ValidHost(s string) bool {
	if s == "" || len(s) > MaxHost || (!alphanumeric(s[0]) && s[0] != ':') {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !alphanumeric(c) && c != '.' && c != '_' && c != ':' && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
