package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// object is a JSON object, its members still undecoded.
type object map[string]json.RawMessage

// parseObject reads body as one JSON object and holds it to the rules that
// encoding/json does not: exact names, no name twice, bounded depth.
func parseObject(body []byte) (object, error) {
	if len(body) == 0 || body[0] != '{' {
		return nil, abnormal("body is not a JSON object")
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, abnormal("%v", err)
	}
	return o, nil
}

// checkJSON fails on what is not JSON, on a name that an object has twice, and on
// nesting deeper than MaxDepth. It looks at depth first, so that hostile nesting
// is refused before anything is built for it.
func checkJSON(b []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return abnormal("nested deeper than %d", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !json.Valid(b) {
		return abnormal("malformed JSON")
	}
	return checkNames(b)
}

// checkNames fails if an object in b, which is valid JSON of bounded depth, has
// the same name twice.
func checkNames(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	type level struct {
		names   map[string]bool // nil for a list
		isValue bool            // the next token is a member's value
	}
	var open []level
	for {
		tok, err := dec.Token()
		if err != nil {
			return nil // io.EOF: nothing else can come of valid JSON
		}
		if delim, ok := tok.(json.Delim); ok {
			switch delim {
			case '{':
				open = append(open, level{names: map[string]bool{}})
				continue
			case '[':
				open = append(open, level{})
				continue
			}
			open = open[:len(open)-1]
		} else if n := len(open); n > 0 && open[n-1].names != nil && !open[n-1].isValue {
			name := tok.(string)
			if open[n-1].names[name] {
				return abnormal("member %q stands twice", name)
			}
			open[n-1].names[name], open[n-1].isValue = true, true
			continue
		}
		if n := len(open); n > 0 {
			open[n-1].isValue = false // a value has ended
		}
	}
}

func (o object) has(name string) bool {
	raw, ok := o[name]
	return ok && string(raw) != "null"
}

func (o object) text(name string) (string, error) {
	var s *string
	if raw, ok := o[name]; !ok {
		return "", abnormal("member %q is missing", name)
	} else if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", abnormal("member %q is not a string", name)
	}
	return *s, nil
}

func (o object) texts(name string) ([]string, error) {
	var ps []*string
	if raw, ok := o[name]; !ok {
		return nil, abnormal("member %q is missing", name)
	} else if json.Unmarshal(raw, &ps) != nil || ps == nil {
		return nil, abnormal("member %q is not a list of strings", name)
	}
	list := make([]string, len(ps))
	for i, p := range ps {
		if p == nil {
			return nil, abnormal("member %q is not a list of strings", name)
		}
		list[i] = *p
	}
	return list, nil
}

// integer returns a whole number of at most 2^53, which every JSON library keeps.
func (o object) integer(name string) (int64, error) {
	f, err := o.number(name)
	if err != nil {
		return 0, err
	}
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, abnormal("member %q is not a whole number", name)
	}
	return int64(f), nil
}

func (o object) number(name string) (float64, error) {
	raw, ok := o[name]
	if !ok {
		return 0, abnormal("member %q is missing", name)
	}
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, abnormal("member %q is not a number", name)
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, abnormal("member %q is not a finite number", name)
	}
	return f, nil
}

// flag reads a truth value in either of the ways that clients write one.
func (o object) flag(name string) (bool, error) {
	switch raw, ok := o[name]; {
	case !ok:
		return false, abnormal("member %q is missing", name)
	case string(raw) == "true" || string(raw) == "1":
		return true, nil
	case string(raw) == "false" || string(raw) == "0":
		return false, nil
	}
	return false, abnormal("member %q is not true, false, 1 or 0", name)
}

func (o object) object(name string) (object, error) {
	raw, ok := o[name]
	if !ok {
		return nil, abnormal("member %q is missing", name)
	}
	var inner object
	if raw[0] != '{' || json.Unmarshal(raw, &inner) != nil {
		return nil, abnormal("member %q is not an object", name)
	}
	return inner, nil
}

// tags reads an optional object of strings.
func (o object) tags(name string) (map[string]string, error) {
	if !o.has(name) {
		return nil, nil
	}
	inner, err := o.object(name)
	if err != nil {
		return nil, err
	}
	tags := make(map[string]string, len(inner))
	for k := range inner {
		if tags[k], err = inner.text(k); err != nil {
			return nil, abnormal("member %q: %q is not a string", name, k)
		}
	}
	return tags, nil
}

// encode gives the JSON of v without the escapes that are for web pages only, and
// without the newline that json.Encoder adds.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("wire: " + err.Error()) // the types here have no value that fails
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
