package wire

import (
	"bytes"
	"slices"
)

// fewNames is more than any object of a client has, and few enough to compare
// each with each.
const fewNames = 16

// members returns the members of a JSON object that json.Valid has accepted.
func members(raw []byte) (object, error) {
	var o object
	w := walker{b: raw}
	err := w.object(func(m member) { o = append(o, m) })
	return o, err
}

// elements calls each for the elements of a JSON list that json.Valid has
// accepted, until it returns an error.
func elements(raw []byte, each func(raw []byte) error) error {
	w := walker{b: raw}
	return w.list(each)
}

// walker goes once over one JSON value. Since json.Valid has accepted it before,
// only its shape is left to find out: a colon and a comma say nothing that their
// place does not, and no index can leave b. It recurses at most MaxDepth deep.
type walker struct {
	b     []byte
	i     int // the next byte
	depth int // objects and lists that are open
}

// object steps over an object and gives each, unless it is nil, the members.
func (w *walker) object(each func(member)) error {
	if err := w.enter(); err != nil {
		return err
	}
	var few [fewNames][]byte
	names := few[:0]
	for w.more('}') {
		name := unquote(w.text())
		names = append(names, name)
		w.gap()
		value, err := w.value()
		if err != nil {
			return err
		}
		if each != nil {
			each(member{name, value})
		}
	}
	if name := twice(names); name != nil {
		return abnormal("member %s stands twice", quote(string(name)))
	}
	return nil
}

// list steps over a list and gives each, unless it is nil, the elements.
func (w *walker) list(each func(raw []byte) error) error {
	if err := w.enter(); err != nil {
		return err
	}
	for w.more(']') {
		value, err := w.value()
		if err == nil && each != nil {
			err = each(value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) value() (raw []byte, err error) {
	start := w.i
	switch w.b[w.i] {
	case '{':
		err = w.object(nil)
	case '[':
		err = w.list(nil)
	case '"':
		w.text()
	default: // a number, true, false or null
		for w.i < len(w.b) && !isGap(w.b[w.i]) && w.b[w.i] != ']' && w.b[w.i] != '}' {
			w.i++
		}
	}
	return w.b[start:w.i], err
}

func (w *walker) text() (raw []byte) {
	start := w.i
	for w.i++; w.b[w.i] != '"'; w.i++ {
		if w.b[w.i] == '\\' {
			w.i++
		}
	}
	w.i++
	return w.b[start:w.i]
}

func (w *walker) enter() error {
	if w.depth++; w.depth > MaxDepth {
		return abnormal("nested deeper than %d", MaxDepth)
	}
	w.i++
	return nil
}

// more goes to the next value of the object or list, or past its end.
func (w *walker) more(end byte) bool {
	w.gap()
	if w.b[w.i] != end {
		return true
	}
	w.i++
	w.depth--
	return false
}

func (w *walker) gap() {
	for isGap(w.b[w.i]) {
		w.i++
	}
}

func isGap(c byte) bool { return c <= ' ' || c == ',' || c == ':' }

// twice returns a name that stands twice in names, or nil. It may reorder them:
// sorting bounds the time and takes no memory where a peer sends 100,000 names.
func twice(names [][]byte) []byte {
	if len(names) > fewNames {
		slices.SortFunc(names, bytes.Compare)
		for i := 1; i < len(names); i++ {
			if bytes.Equal(names[i-1], names[i]) {
				return names[i]
			}
		}
		return nil
	}
	for i, name := range names {
		for _, other := range names[:i] {
			if bytes.Equal(name, other) {
				return name
			}
		}
	}
	return nil
}
