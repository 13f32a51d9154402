package visible

import (
	"slices"
	"strings"
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

// A cut text has so many characters and a mark, whatever it is made of.
func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc…"}, {"éé\x1bé", 3, `éé\…`}, {"猫猫猫猫", 3, "猫猫猫…"},
		{strings.Repeat("😀", 100), 3, "😀😀😀…"}, {strings.Repeat("x", 1<<20), 5, "xxxxx…"},
	} {
		if got := Cut(c.most, c.text); got != c.want {
			t.Errorf("%.20q cut to %d: %q, want %q", c.text, c.most, got, c.want)
		}
	}
}
