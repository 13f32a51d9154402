package main

import (
	"encoding/json"
	"testing"
	"unicode"

	"github.com/musterhq/muster/internal/visible"
)

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a\x1b[31mb", "\u202e\u009b", "\xff\xfe", "猫 \U0001f408", `"\u0000"`, "a\r\nb\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, line := range append(visible.Lines(s), visible.Line(s)) {
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
		if !visible.Plain(string(printed)) {
			t.Errorf("%q is not printable ASCII", printed)
		}
		for name, value := range before {
			if after[name] != value {
				t.Errorf("%q has become %q", value, after[name])
			}
		}
	})
}
