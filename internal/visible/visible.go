// Package visible makes text from hosts and from requests harmless to look at: what a
// terminal would obey, or a reader would not see, is shown.
package visible

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Line returns s as one line that nothing obeys: whatever is not a printable
// character (control characters in both ranges, marks that turn the direction of the
// text, line ends, bytes that are not UTF-8) is shown as an escape.
func Line(s string) string { return escape(s, "") }

// Cut returns Line of s, cut to at most so many characters and a mark that there is more.
// Of a long s no more than the beginning is looked at.
func Cut(most int, s string) string {
	if len(s) > 8*most {
		s = s[:8*most]
	}
	line := Line(s)
	n := 0
	for i := range line {
		if n++; n > most {
			return line[:i] + "…"
		}
	}
	return line
}

// Lines is Line for text of many lines: line ends and tabs stay.
func Lines(s string) []string {
	s = strings.TrimSuffix(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	if s == "" {
		return nil
	}
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = escape(l, "\t")
	}
	return lines
}

func escape(s, keep string) string {
	if Plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case strconv.IsPrint(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// Plain reports whether s is printable ASCII and nothing else.
func Plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
