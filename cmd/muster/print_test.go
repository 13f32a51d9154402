package main

import (
	"encoding/json"
	"slices"
	"testing"
	"unicode"
)

func TestVisible(t *testing.T) {
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
		if got := visible(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestVisibleLines(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":             nil,
		"\n":           nil,
		"a":            {"a"},
		"a\nb\n":       {"a", "b"},
		"a\r\n\n\tb\r": {"a", "", "\tb\\r"},
	} {
		if got := visibleLines(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a\x1b[31mb", "\u202e\u009b", "\xff\xfe", "猫 \U0001f408", `"\u0000"`, "a\r\nb\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, line := range append(visibleLines(s), visible(s)) {
			for _, r := range line {
				if r != '\t' && !unicode.IsPrint(r) {
					t.Errorf("%q: %q is left", s, r)
				}
			}
		}
		b, err := json.Marshal(map[string]string{s: s})
		if err != nil {
			t.Fatal(err)
		}
		var before, after map[string]string
		if err := json.Unmarshal(b, &before); err != nil {
			t.Fatal(err)
		}
		printed := ascii(b)
		if err := json.Unmarshal(printed, &after); err != nil {
			t.Fatalf("%q: %v", printed, err)
		}
		if !plain(string(printed)) {
			t.Errorf("%q is not printable ASCII", printed)
		}
		for name, value := range before {
			if after[name] != value {
				t.Errorf("%q has become %q", value, after[name])
			}
		}
	})
}
