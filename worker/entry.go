package worker

import (
	"encoding/json"
	"fmt"
)

// maxEntry is the most that the names and values of one entry may have together, in
// bytes. The largest good request, 100,000 hosts of 128 bytes, is well below it.
const maxEntry = 20 << 20

// entry is one entry of the stream of requests. go-redis gives the fields of an
// entry as a map, in which a repeated field is lost; a repeated field makes a
// request invalid, so entries are read here as Redis sends them.
type entry struct {
	id     string
	fields []string // name, value, name, value, ...; nil if the entry was deleted
}

// parseRead reads the reply to XREADGROUP for one stream: in RESP2 a list of
// streams, each a list of name and entries, in RESP3 a map of name to entries.
func parseRead(reply any) ([]entry, error) {
	switch streams := reply.(type) {
	case nil:
		return nil, nil
	case map[any]any:
		for _, entries := range streams {
			return parseEntries(entries)
		}
		return nil, nil
	case []any:
		if len(streams) == 0 {
			return nil, nil
		}
		if stream, ok := streams[0].([]any); ok && len(stream) == 2 {
			return parseEntries(stream[1])
		}
	}
	return nil, fmt.Errorf("unexpected reply to XREADGROUP: %T", reply)
}

// parseClaim reads the reply to XAUTOCLAIM. An entry that was deleted while it was
// pending is left out, or, before Redis 7, given as null; gone says that there was
// such a null.
func parseClaim(reply any) (next string, entries []entry, gone bool, err error) {
	parts, _ := reply.([]any)
	if len(parts) < 2 {
		return "", nil, false, fmt.Errorf("unexpected reply to XAUTOCLAIM: %T", reply)
	}
	next, _ = parts[0].(string)
	list, _ := parts[1].([]any)
	whole := list[:0:0]
	for _, e := range list {
		if e != nil {
			whole = append(whole, e)
		}
	}
	entries, err = parseEntries(whole)
	return next, entries, len(whole) < len(list), err
}

func parseEntries(reply any) ([]entry, error) {
	list, ok := reply.([]any)
	if !ok && reply != nil {
		return nil, fmt.Errorf("unexpected entries: %T", reply)
	}
	entries := make([]entry, 0, len(list))
	for _, item := range list {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			return nil, fmt.Errorf("unexpected entry: %T", item)
		}
		id, _ := pair[0].(string)
		e := entry{id: id}
		if fields, ok := pair[1].([]any); ok {
			e.fields = make([]string, len(fields))
			for i, f := range fields {
				e.fields[i], _ = f.(string)
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// size is how many bytes the fields have.
func (e entry) size() int {
	n := 0
	for _, f := range e.fields {
		n += len(f)
	}
	return n
}

// payload gives the entry as the JSON object that a job carries. It judges nothing:
// what is wrong with the request must still be wrong with the payload, so that the
// job is rejected with the reason. Repeated fields become repeated names, and bytes
// that are not UTF-8 stay what they are.
func (e entry) payload() []byte {
	b := make([]byte, 0, e.size()+64)
	b = append(b, '{')
	for i := 0; i+1 < len(e.fields); i += 2 {
		if i > 0 {
			b = append(b, ',')
		}
		name, value := e.fields[i], e.fields[i+1]
		b = appendQuoted(b, name)
		b = append(b, ':')
		if holdsJSON(name) && json.Valid([]byte(value)) {
			b = append(b, value...)
		} else {
			b = appendQuoted(b, value)
		}
	}
	return append(b, '}')
}

// holdsJSON reports whether a field's value is JSON. The others are plain text.
func holdsJSON(name string) bool {
	switch name {
	case "commands", "hosts", "timeout_s", "deadline_s":
		return true
	}
	return false
}

// keyPayload is what is left of an entry that is too large to be passed on: what
// tells people which request it was.
func (e entry) keyPayload() []byte {
	for i := 0; i+1 < len(e.fields); i += 2 {
		if e.fields[i] == "key" && len(e.fields[i+1]) <= 100 {
			return entry{fields: e.fields[i : i+2]}.payload()
		}
	}
	return []byte("{}")
}

// appendQuoted appends s as a JSON string. Unlike encoding/json it leaves bytes that
// are not UTF-8 alone.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
