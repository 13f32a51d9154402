package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Python literals, as the text form has them: what repr() gives for None, True,
// False, numbers, strings, lists, tuples and dicts, in Python 3 and in Python 2. They
// are read, and never evaluated.

// lastList reads the list of strings that ends b, and returns what stands before it.
//
// It reads from the end to the beginning. That way no choice is left to make: the
// quote that ends a string begins at the nearest one of its kind that is not escaped,
// and before it stands a comma or the list's own bracket. So there is one list at
// most, whatever stands before it and in it, and each byte is looked at once or twice.
func lastList(b []byte) (before []byte, texts []string, err error) {
	i := len(b) - 1
	if i < 0 || b[i] != ']' {
		return nil, nil, abnormal("want a list at the end")
	}
	texts = []string{}
	i = beforeBlanks(b, i)
	if i >= 0 && b[i] == '[' {
		return b[:i], texts, nil
	}
	for {
		open, err := openingQuote(b, i)
		if err != nil {
			return nil, nil, err
		}
		s, err := pythonText(nil, b[open+1:i])
		if err != nil {
			return nil, nil, err
		}
		texts = append(texts, string(s))
		if open > 0 && (b[open-1] == 'u' || b[open-1] == 'U') {
			open--
		}
		i = beforeBlanks(b, open)
		switch {
		case i >= 0 && b[i] == '[':
			slices.Reverse(texts)
			return b[:i], texts, nil
		case i < 0 || b[i] != ',':
			return nil, nil, abnormal("want [ or a comma before a string of a list")
		}
		i = beforeBlanks(b, i)
	}
}

// beforeBlanks returns the index of the byte that stands before b[i], blanks left out;
// -1 if there is none.
func beforeBlanks(b []byte, i int) int {
	for i--; i >= 0 && isBlank(b[i]); i-- {
	}
	return i
}

// openingQuote returns where the string begins whose closing quote is b[i].
func openingQuote(b []byte, i int) (int, error) {
	if i < 0 || b[i] != '\'' && b[i] != '"' || escaped(b, i) {
		return 0, abnormal("want a list of strings")
	}
	for open := bytes.LastIndexByte(b[:i], b[i]); open >= 0; open = bytes.LastIndexByte(b[:open], b[i]) {
		if !escaped(b, open) {
			return open, nil
		}
	}
	return 0, abnormal("a string does not begin")
}

// escaped reports whether an odd number of backslashes stands before b[i].
func escaped(b []byte, i int) bool {
	n := 0
	for i-n > 0 && b[i-n-1] == '\\' {
		n++
	}
	return n%2 == 1
}

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' && c != '\v' }

// pythonText appends the text that stands between the quotes of a string.
func pythonText(dst, b []byte) ([]byte, error) {
	for len(b) > 0 {
		if b[0] != '\\' {
			n := bytes.IndexByte(b, '\\')
			if n < 0 {
				n = len(b)
			}
			if bytes.ContainsAny(b[:n], "\n\r\x00") {
				return nil, abnormal("a string has a line end or a NUL in it")
			}
			dst, b = append(dst, b[:n]...), b[n:]
			continue
		}
		if len(b) == 1 {
			return nil, abnormal("a string ends within an escape")
		}
		c := b[1]
		b = b[2:]
		digits := 0 // of hexadecimal
		switch c {
		case '\\', '\'', '"':
			dst = append(dst, c)
		case 'a', 'b', 't', 'n', 'v', 'f', 'r':
			dst = append(dst, "\a\b\t\n\v\f\r"[bytes.IndexByte([]byte("abtnvfr"), c)])
		case '\n': // the line goes on
		case '\r':
			b = bytes.TrimPrefix(b, []byte("\n"))
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		case 'N':
			return nil, abnormal("names of characters are not known")
		case '0', '1', '2', '3', '4', '5', '6', '7':
			r := rune(c - '0')
			for n := 0; n < 2 && len(b) > 0 && '0' <= b[0] && b[0] <= '7'; n++ {
				r = r*8 + rune(b[0]-'0')
				b = b[1:]
			}
			dst = utf8.AppendRune(dst, r)
		case 0:
			return nil, abnormal("a string has a line end or a NUL in it")
		default: // Python leaves it as it is
			dst = append(dst, '\\', c)
		}
		if digits > 0 {
			if len(b) < digits {
				return nil, abnormal("a string ends within an escape")
			}
			r, err := strconv.ParseUint(string(b[:digits]), 16, 32)
			if err != nil || r > unicode.MaxRune || 0xd800 <= r && r < 0xe000 {
				return nil, abnormal("an escape in a string is no character: %s", quote(string(b[:digits])))
			}
			dst, b = utf8.AppendRune(dst, rune(r)), b[digits:]
		}
	}
	return dst, nil
}

// literal goes once over one Python literal and writes it as JSON. It recurses at most
// MaxDepth deep, and what it writes has at most three times as many bytes.
type literal struct {
	b     []byte
	i     int // the next byte
	depth int // lists, tuples and dicts that are open
	out   []byte
	text  []byte // the last string; kept for its room
}

// literalJSON returns the JSON of b, which is one Python literal with nothing before
// or after it. Tuples become lists. A name may stand twice in an object.
func literalJSON(b []byte) ([]byte, error) {
	l := literal{b: b, out: make([]byte, 0, len(b)+64)}
	if err := l.value(); err != nil {
		return nil, err
	}
	if l.i < len(l.b) {
		return nil, abnormal("something follows a literal")
	}
	return l.out, nil
}

// next is the next byte, 0 at the end.
func (l *literal) next() byte {
	if l.i < len(l.b) {
		return l.b[l.i]
	}
	return 0
}

func (l *literal) skipBlanks() {
	for isBlank(l.next()) {
		l.i++
	}
}

func (l *literal) value() error {
	switch c := l.next(); {
	case c == '[':
		return l.items(']', false)
	case c == '(':
		return l.items(')', true)
	case c == '{':
		return l.items('}', false)
	case c == '\'' || c == '"':
		return l.string()
	case c == '-' || '0' <= c && c <= '9':
		return l.number()
	}
	start := l.i
	for c := l.next(); alphanumeric(c); c = l.next() {
		l.i++
	}
	switch word := string(l.b[start:l.i]); {
	case (word == "u" || word == "U") && (l.next() == '\'' || l.next() == '"'):
		return l.string()
	case word == "None":
		l.out = append(l.out, "null"...)
	case word == "True":
		l.out = append(l.out, "true"...)
	case word == "False":
		l.out = append(l.out, "false"...)
	default:
		return abnormal("want a literal, not %s", quote(string(l.b[start:min(len(l.b), l.i+1)])))
	}
	return nil
}

// items reads what stands between brackets. A tuple of one has a comma at its end.
func (l *literal) items(end byte, tuple bool) error {
	if l.depth++; l.depth > MaxDepth {
		return abnormal("nested deeper than %d", MaxDepth)
	}
	l.i++
	dict := end == '}'
	out := end
	if tuple {
		out = ']'
	}
	l.out = append(l.out, out-2) // in ASCII the opening one stands two before: [ ] and { }
	l.skipBlanks()
	for n := 0; l.next() != end; n++ {
		if n > 0 {
			l.out = append(l.out, ',')
		}
		if dict {
			if err := l.name(); err != nil {
				return err
			}
		}
		if err := l.value(); err != nil {
			return err
		}
		l.skipBlanks()
		comma := l.next() == ','
		switch {
		case comma:
			l.i++
			l.skipBlanks()
			if l.next() == end && !(tuple && n == 0) {
				return abnormal("a comma before %c", end)
			}
		case l.next() != end || tuple && n == 0:
			return abnormal("want a comma or %c", end)
		}
	}
	l.i++
	l.depth--
	l.out = append(l.out, out)
	return nil
}

// name reads a key of a dict and its colon.
func (l *literal) name() error {
	if c := l.next(); c == 'u' || c == 'U' {
		l.i++
	}
	if c := l.next(); c != '\'' && c != '"' {
		return abnormal("want a string as the key of a dict")
	}
	if err := l.string(); err != nil {
		return err
	}
	l.skipBlanks()
	if l.next() != ':' {
		return abnormal("want a colon after the key of a dict")
	}
	l.i++
	l.out = append(l.out, ':')
	l.skipBlanks()
	return nil
}

func (l *literal) string() (err error) {
	q := l.next()
	start := l.i + 1
	for l.i++; l.next() != q; l.i++ {
		if l.next() == '\\' {
			l.i++
		}
		if l.i >= len(l.b) {
			return abnormal("a string does not end")
		}
	}
	l.text, err = pythonText(l.text[:0], l.b[start:l.i])
	l.i++
	l.out = appendJSONText(l.out, l.text)
	return err
}

// number reads a number of any kind but the complex ones. Python 2 writes L after a
// large one.
func (l *literal) number() error {
	start := l.i
	for c := l.next(); alphanumeric(c) || c == '.' || c == '+' || c == '-'; c = l.next() {
		l.i++
	}
	raw := bytes.TrimSuffix(l.b[start:l.i], []byte("L"))
	if !json.Valid(raw) {
		return abnormal("want a number, not %s", quote(string(l.b[start:l.i])))
	}
	l.out = append(l.out, raw...)
	return nil
}

// appendJSONText appends a JSON string. s is UTF-8.
func appendJSONText(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// appendRepr appends a string as Python 3's repr() writes it. What is not UTF-8
// becomes U+FFFD.
func appendRepr(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	q := byte('\'')
	if bytes.IndexByte([]byte(s), '\'') >= 0 && bytes.IndexByte([]byte(s), '"') < 0 {
		q = '"'
	}
	dst = append(dst, q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case unicode.IsPrint(r):
			dst = utf8.AppendRune(dst, r)
		default:
			kind, digits := byte('x'), 2
			if r > 0xffff {
				kind, digits = 'U', 8
			} else if r > 0xff {
				kind, digits = 'u', 4
			}
			dst = append(dst, '\\', kind)
			for digits--; digits >= 0; digits-- {
				dst = append(dst, hex[r>>(4*digits)&15])
			}
		}
	}
	return append(dst, q)
}

func appendReprList(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendRepr(dst, s)
	}
	return append(dst, ']')
}
