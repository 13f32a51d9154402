package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// What becomes of a host that is offline when the number is to be sent.
const (
	OfflineReport = "report" // it is reported and not waited for
	OfflineWait   = "wait"   // the number is delivered when it comes online
)

// Request asks for a dispatch. Only Commands is required.
type Request struct {
	Key      Number        // empty: one is made from the request's id
	Commands []Command     // in any order; see Command for the order in which they run
	Hosts    []string      // nil: every host that is online; empty and not nil is an error
	Timeout  time.Duration // limit for each command, whole seconds; 0 means 10 minutes
	Deadline time.Duration // when the ledger closes, whole seconds; 0 means an hour
	Offline  string        // empty means OfflineReport
}

// ParseRequest reads a request from one JSON object, {"key": "AC131", "commands":
// {"uptime": 10}, "hosts": ["web-1"], "timeout_s": 600, "deadline_s": 3600,
// "offline": "report"}, and validates it. Names that are not these, names that
// stand twice and text that is not UTF-8 are an InvalidError, as all that it
// returns are.
func ParseRequest(payload []byte) (Request, error) {
	if !utf8.Valid(payload) {
		return Request{}, invalid("", "the request is not UTF-8")
	}
	members, err := parseObject(payload)
	if err != nil {
		return Request{}, invalid("", "the request is not a JSON object: %v", err)
	}
	var r Request
	seen := map[string]bool{}
	for _, m := range members {
		if seen[m.name] {
			return Request{}, invalid(clip(m.name), "stands twice")
		}
		seen[m.name] = true
		if err := r.set(m.name, m.raw); err != nil {
			return Request{}, err
		}
	}
	if !seen["commands"] {
		return Request{}, invalid("commands", "missing")
	}
	return r.Validate()
}

func (r *Request) set(name string, raw json.RawMessage) (err error) {
	if loneSurrogate(raw) {
		return invalid(clip(name), "holds half of a surrogate pair, which is no text")
	}
	switch name {
	case "key":
		var key string
		if key, err = parseText(name, raw); err == nil {
			r.Key, err = ParseNumber(key)
		}
	case "commands":
		r.Commands, err = parseCommands(raw)
	case "hosts":
		r.Hosts, err = parseHosts(raw)
	case "timeout_s":
		r.Timeout, err = parseSpan(name, raw)
	case "deadline_s":
		r.Deadline, err = parseSpan(name, raw)
	case "offline":
		if r.Offline, err = parseText(name, raw); err == nil && r.Offline == "" {
			err = invalid(name, "is empty, want %q or %q", OfflineReport, OfflineWait)
		}
	case "signature":
		err = invalid(name, "is reserved and can't be used yet")
	default:
		err = invalid(clip(name), "unknown field")
	}
	return err
}

// MarshalJSON writes the request as ParseRequest reads it.
func (r Request) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"commands":{`)
	for i, c := range r.Commands {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(jsonText(c.Line))
		b.WriteByte(':')
		b.WriteString(strconv.FormatFloat(c.Priority, 'g', -1, 64))
	}
	b.WriteByte('}')
	if r.Key != "" {
		fmt.Fprintf(&b, `,"key":%s`, jsonText(string(r.Key)))
	}
	if r.Hosts != nil {
		b.WriteString(`,"hosts":[`)
		for i, h := range r.Hosts {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(jsonText(h))
		}
		b.WriteByte(']')
	}
	if r.Timeout != 0 {
		fmt.Fprintf(&b, `,"timeout_s":%d`, seconds(r.Timeout))
	}
	if r.Deadline != 0 {
		fmt.Fprintf(&b, `,"deadline_s":%d`, seconds(r.Deadline))
	}
	if r.Offline != "" {
		fmt.Fprintf(&b, `,"offline":%s`, jsonText(r.Offline))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func jsonText(s string) []byte {
	b, _ := json.Marshal(s) // a string always has a JSON form
	return b
}

type member struct {
	name string
	raw  json.RawMessage
}

// loneSurrogate reports whether valid JSON holds an escape such as \ud800 that has no
// other half. encoding/json would put another character there without a word, and
// that would be another command.
func loneSurrogate(raw []byte) bool {
	unit := func(i int) rune { // the \uXXXX at i, or -1
		if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return -1
		}
		n, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		if err != nil {
			return -1
		}
		return rune(n)
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if r := unit(i); utf16.IsSurrogate(r) {
			if utf16.DecodeRune(r, unit(i+6)) == utf8.RuneError {
				return true
			}
			i += 6
		}
		i++ // what is escaped, if only another backslash
	}
	return false
}

// parseObject reads one JSON object and keeps what encoding/json drops: names that
// stand twice.
func parseObject(b []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		var text string
		if json.Unmarshal(b, &text) != nil {
			return nil, fmt.Errorf("it begins with %q", clip(string(b)))
		}
		// What is no JSON comes as text from the stream: the sender knows it without quotes.
		if strings.HasPrefix(strings.TrimSpace(text), "{") {
			return nil, fmt.Errorf("malformed JSON, or a string: %q", clip(text))
		}
		return nil, fmt.Errorf("it is the text %q", clip(text))
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("malformed JSON")
	}
	var members []member
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := tok.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		members = append(members, member{name, raw})
	}
	return members, nil
}

func parseText(field string, raw json.RawMessage) (string, error) {
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", invalid(field, "%s is not a string", clip(string(raw)))
	}
	return *s, nil
}

func parseCommands(raw json.RawMessage) ([]Command, error) {
	members, err := parseObject(raw)
	if err != nil {
		return nil, invalid("commands", "not a JSON object of command and priority: %v", err)
	}
	if len(members) > MaxCommands {
		return nil, invalid("commands", "%d commands, want 1 to %d", len(members), MaxCommands)
	}
	commands := make([]Command, len(members))
	for i, m := range members {
		if m.raw[0] != '-' && (m.raw[0] < '0' || m.raw[0] > '9') {
			return nil, invalid("commands", "the priority of %q is not a number: %s", clip(m.name), clip(string(m.raw)))
		}
		priority, err := strconv.ParseFloat(string(m.raw), 64)
		if err != nil {
			return nil, invalid("commands", "the priority of %q is not a finite number: %s", clip(m.name), clip(string(m.raw)))
		}
		commands[i] = Command{m.name, priority}
	}
	return commands, nil
}

func parseHosts(raw json.RawMessage) ([]string, error) {
	var list []*string
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, invalid("hosts", "%s is not a JSON list of host ids", clip(string(raw)))
	}
	hosts := make([]string, len(list))
	for i, h := range list {
		if h == nil {
			return nil, invalid("hosts", "null is no host id")
		}
		hosts[i] = *h
	}
	return hosts, nil
}

func parseSpan(field string, raw json.RawMessage) (time.Duration, error) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 1 || n > seconds(MaxSpan) {
		return 0, invalid(field, "%s, want a whole number from 1 to %d", clip(string(raw)), seconds(MaxSpan))
	}
	return time.Duration(n) * time.Second, nil
}
