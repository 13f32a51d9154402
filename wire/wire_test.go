package wire

import (
	"errors"
	"strings"
	"testing"
)

func TestValidNumber(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"AC1": true, "AC131": true, "ACazAZ09._-": true, "AC1763840000000-0": true, "AC.": true,
		"AC" + strings.Repeat("1", 62): true, "AC" + strings.Repeat("1", 63): false,
		"": false, "A": false, "AC": false, "ac131": false, "Ac131": false, "BC131": false, "131": false,
		"AC 1": false, " AC1": false, "AC1 ": false, "AC1\n": false, "AC1\x00": false, "AC/1": false, "AC{1}": false,
		"AC1:meta": false, "ACé": false, "AC1@": false, "AC[": false, "AC`": false, "ACAC1": true,
	} {
		if got := ValidNumber(s); got != want {
			t.Errorf("ValidNumber(%q) = %v", s, got)
		}
	}
}

func TestValidHost(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"a": true, "web-1": true, "10.0.0.5": true, "::1": true, "fe80::1": true, "9": true, "Z._:-z": true,
		strings.Repeat("a", 128): true, strings.Repeat("a", 129): false,
		"": false, "-a": false, ".a": false, "_a": false, "a b": false, "a@b": false, "a{b}": false, "a/b": false,
		"a\n": false, "é": false, "a%eth0": false, "a\x00": false,
	} {
		if got := ValidHost(s); got != want {
			t.Errorf("ValidHost(%q) = %v", s, got)
		}
	}
}

func TestDatagram(t *testing.T) {
	t.Parallel()
	if got := string(AppendDatagram([]byte("x"), "AC131")); got != "xAC131" {
		t.Errorf("got %q", got)
	}
	longest := "AC" + strings.Repeat("1", 62)
	for _, s := range []string{"AC1", "AC131", longest} {
		if got, err := ParseDatagram([]byte(s)); err != nil || got != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "AC", "131", "ac131", "AC131\n", " AC131", "AC131 ", "AC131 token", "AC131\x00", "AC\xff",
		longest + "1", strings.Repeat("AC1", 67), strings.Repeat("x", 65507), `{"flag":"ADH34"}`,
	} {
		got, err := ParseDatagram([]byte(s))
		if got != "" || !errors.Is(err, ErrAbnormal) {
			t.Errorf("%.50q: %q, %v", s, got, err)
		} else if len(err.Error()) > 1024 {
			t.Errorf("%.50q: an error of %d bytes", s, len(err.Error()))
		}
	}
}
