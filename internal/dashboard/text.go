package dashboard

import (
	"strconv"
)

// clip shortens a text that a host has chosen to at most so many bytes, between two
// characters.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && s[most]&0xC0 == 0x80 {
		most--
	}
	return s[:most]
}

// grouped writes a number with a comma at each thousand.
func grouped[T int | int64 | uint32](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	if n < 0 {
		return s
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
