package visible

import (
	"slices"
	"testing"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain text":         "plain text",
		"naïve 猫 ✓":          "naïve 猫 ✓",
		`C:\dir`:             `C:\dir`,
		"a\x1b[31mb":         `a\x1b[31mb`,
		"bell\a\b\r\n\t\v":   `bell\a\b\r\n\t\v`,
		"\x00\x7f":           `\x00\x7f`,
		"\u009b31m\u0085":    `\u009b31m\u0085`,
		"\u202egnp\u2066":    `\u202egnp\u2066`,
		"\u200b\u2028\ufeff": `\u200b\u2028\ufeff`,
		"\xff\xc3(":          `\xff\xc3(`,
		"\U000e0041":         `\U000e0041`,
		"�":                  "�",
	} {
		if got := Line(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":             nil,
		"\n":           nil,
		"a":            {"a"},
		"a\nb\n":       {"a", "b"},
		"a\r\n\n\tb\r": {"a", "", "\tb\\r"},
	} {
		if got := Lines(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
