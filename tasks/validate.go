package tasks

import (
	"fmt"
	"math"
	"sort"
	"time"
	"unicode/utf8"
)

// Limits of a request.
const (
	MaxCommands     = 1000
	MaxCommandBytes = 8192
	MaxSetBytes     = 128 << 10 // all commands together
	MaxHosts        = 100_000
	MaxSpan         = 604_800 * time.Second // of a limit and of a deadline: a week

	DefaultTimeout  = 600 * time.Second
	DefaultDeadline = 3600 * time.Second
)

// InvalidError says what is wrong with a request. No retry can mend it.
type InvalidError struct {
	Field  string // as it stands in the request; empty for the request itself
	Reason string
}

func (e *InvalidError) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return e.Field + ": " + e.Reason
}

func invalid(field, format string, args ...any) error {
	return &InvalidError{field, fmt.Sprintf(format, args...)}
}

// Validate returns r with its defaults filled in, its commands in the order in
// which they run and each host once, or an InvalidError.
func (r Request) Validate() (Request, error) {
	if r.Key != "" {
		if _, err := ParseNumber(string(r.Key)); err != nil {
			return Request{}, err
		}
	}
	commands, err := orderedCommands(r.Commands)
	if err != nil {
		return Request{}, err
	}
	r.Commands = commands
	if r.Hosts != nil {
		if r.Hosts, err = uniqueHosts(r.Hosts); err != nil {
			return Request{}, err
		}
	}
	if r.Timeout, err = span("timeout_s", r.Timeout, DefaultTimeout); err != nil {
		return Request{}, err
	}
	if r.Deadline, err = span("deadline_s", r.Deadline, DefaultDeadline); err != nil {
		return Request{}, err
	}
	switch r.Offline {
	case "":
		r.Offline = OfflineReport
	case OfflineReport, OfflineWait:
	default:
		return Request{}, invalid("offline", "%q, want %q or %q", clip(r.Offline), OfflineReport, OfflineWait)
	}
	return r, nil
}

// orderedCommands checks commands and puts the one that runs first in front.
func orderedCommands(commands []Command) ([]Command, error) {
	if len(commands) == 0 || len(commands) > MaxCommands {
		return nil, invalid("commands", "%d commands, want 1 to %d", len(commands), MaxCommands)
	}
	sorted := append([]Command(nil), commands...)
	sort.Slice(sorted, func(i, j int) bool {
		if sorted[i].Priority != sorted[j].Priority {
			return sorted[i].Priority > sorted[j].Priority
		}
		return sorted[i].Line > sorted[j].Line
	})
	total := 0
	lines := make(map[string]bool, len(sorted))
	for _, c := range sorted {
		if len(c.Line) == 0 || len(c.Line) > MaxCommandBytes {
			return nil, invalid("commands", "a command of %d bytes, want 1 to %d", len(c.Line), MaxCommandBytes)
		}
		if !utf8.ValidString(c.Line) {
			return nil, invalid("commands", "%q is not UTF-8", clip(c.Line))
		}
		if math.IsNaN(c.Priority) || math.IsInf(c.Priority, 0) {
			return nil, invalid("commands", "the priority of %q is not a finite number", clip(c.Line))
		}
		if lines[c.Line] {
			return nil, invalid("commands", "%q stands twice", clip(c.Line))
		}
		lines[c.Line] = true
		total += len(c.Line)
	}
	if total > MaxSetBytes {
		return nil, invalid("commands", "%d bytes together, want at most %d", total, MaxSetBytes)
	}
	return sorted, nil
}

func uniqueHosts(hosts []string) ([]string, error) {
	if len(hosts) == 0 {
		return nil, invalid("hosts", "an empty list; leave the field out for every host that is online")
	}
	seen := make(map[string]bool, min(len(hosts), MaxHosts))
	unique := make([]string, 0, min(len(hosts), MaxHosts))
	for _, h := range hosts {
		if seen[h] {
			continue // named twice counts once
		}
		if !ValidHost(h) {
			return nil, invalid("hosts", "%q is no host id", clip(h))
		}
		if len(unique) == MaxHosts {
			return nil, invalid("hosts", "more than %d hosts", MaxHosts)
		}
		seen[h] = true
		unique = append(unique, h)
	}
	return unique, nil
}

func span(field string, d, fallback time.Duration) (time.Duration, error) {
	if d == 0 {
		return fallback, nil
	}
	if d < time.Second || d > MaxSpan {
		return 0, invalid(field, "%v, want 1 to %d seconds", d, int64(MaxSpan/time.Second))
	}
	if d%time.Second != 0 {
		return 0, invalid(field, "%v, want whole seconds", d)
	}
	return d, nil
}
