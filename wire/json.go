package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// maxInteger is the largest whole number that every JSON library keeps, whatever
// its own type for numbers.
const maxInteger = 1<<53 - 1

// object is a JSON object whose values are still JSON. Names and values are parts
// of the body that was parsed, so that reading a message costs little more memory
// than the message itself.
type object []member

type member struct{ name, value []byte }

// parseObject reads body as one JSON object and holds it to the rules that
// encoding/json does not: exact names, no name twice, bounded depth. The body is
// UTF-8.
func parseObject(body []byte) (object, error) {
	if len(body) == 0 || body[0] != '{' {
		return nil, abnormal("body does not begin with {")
	}
	if !json.Valid(body) {
		return nil, abnormal("malformed JSON")
	}
	return members(body)
}

// find returns the value of the member, or nil if there is none.
func (o object) find(name string) []byte {
	for _, m := range o {
		if string(m.name) == name {
			return m.value
		}
	}
	return nil
}

// has reports whether the member is there and not null.
func (o object) has(name string) bool {
	raw := o.find(name)
	return raw != nil && string(raw) != "null"
}

// required returns the value of the member, which may be null.
func (o object) required(name string) ([]byte, error) {
	if raw := o.find(name); raw != nil {
		return raw, nil
	}
	return nil, abnormal("member %q is missing", name)
}

func (o object) text(name string) (string, error) {
	raw, err := o.required(name)
	if err != nil {
		return "", err
	}
	return readText(name, raw)
}

// optionalText returns "" for a member that is absent or null.
func (o object) optionalText(name string) (string, error) {
	if !o.has(name) {
		return "", nil
	}
	return o.text(name)
}

func (o object) texts(name string) ([]string, error) {
	texts := []string{}
	err := o.list(name, func(raw []byte) error {
		s, err := readText(name, raw)
		texts = append(texts, s)
		return err
	})
	return texts, err
}

func (o object) list(name string, each func(raw []byte) error) error {
	raw, err := o.required(name)
	if err != nil {
		return err
	}
	if raw[0] != '[' {
		return abnormal("member %q is not a list", name)
	}
	return elements(raw, each)
}

func (o object) number(name string) (float64, error) {
	raw, err := o.required(name)
	if err != nil {
		return 0, err
	}
	return readNumber(name, raw)
}

// integerIn returns a whole number from low to high, both of which are at most
// maxInteger in size.
func (o object) integerIn(name string, low, high int64) (int64, error) {
	f, err := o.number(name)
	if err != nil {
		return 0, err
	}
	if f != math.Trunc(f) || f < float64(low) || f > float64(high) {
		if low == high {
			return 0, abnormal("member %q is %v, want %d", name, f, low)
		}
		return 0, abnormal("member %q is %v, want a whole number from %d to %d", name, f, low, high)
	}
	return int64(f), nil
}

// flag reads a truth value in either of the ways that clients write one.
func (o object) flag(name string) (bool, error) {
	raw, err := o.required(name)
	if err != nil {
		return false, err
	}
	switch string(raw) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, abnormal("member %q is not true, false, 1 or 0", name)
}

func (o object) object(name string) (object, error) {
	raw, err := o.required(name)
	if err != nil {
		return nil, err
	}
	if raw[0] != '{' {
		return nil, abnormal("member %q is not an object", name)
	}
	return members(raw)
}

// tags reads an optional object of strings. One without members is nil.
func (o object) tags(name string) (map[string]string, error) {
	if !o.has(name) {
		return nil, nil
	}
	inner, err := o.object(name)
	if err != nil || len(inner) == 0 {
		return nil, err
	}
	tags := make(map[string]string, len(inner))
	for _, m := range inner {
		if tags[string(m.name)], err = readText(name, m.value); err != nil {
			return nil, err
		}
	}
	return tags, nil
}

// readText reads the JSON value of the named member, or of a part of it.
func readText(name string, raw []byte) (string, error) {
	if raw[0] != '"' {
		return "", abnormal("member %q: want a string", name)
	}
	return string(unquote(raw)), nil
}

// readNumber reads the JSON value of the named member, or of a part of it. JSON
// has no infinite numbers, but 1e999 is one.
func readNumber(name string, raw []byte) (float64, error) {
	if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, abnormal("member %q: want a number", name)
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, abnormal("member %q: want a finite number", name)
	}
	return f, nil
}

// unquote returns the text of a JSON string: a part of it where nothing is escaped.
func unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		panic("wire: " + err.Error()) // json.Valid has seen it
	}
	return []byte(s)
}

// quote is %q for what a peer wrote, cut so that an error is fit for a log.
func quote(s string) string {
	const enough = 64
	if len(s) <= enough {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q... (%d bytes)", s[:enough], len(s))
}

// finite returns the finite number that stands nearest to f, and 0 for NaN.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return max(-math.MaxFloat64, min(f, math.MaxFloat64))
}

// encode gives the JSON of v without the escapes that are for web pages only, and
// without the newline that json.Encoder adds.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("wire: " + err.Error()) // finite has taken away the only values that fail
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
