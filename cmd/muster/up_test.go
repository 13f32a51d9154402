package main

import "testing"

func TestCalledAs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"muster": "muster", "./muster": "./muster", "/opt/muster": "/opt/muster",
		"/root/.cache/go-build/7a/7a9b-d/muster": "go run ./cmd/muster", "/tmp/go-build1234/b001/exe/muster": "go run ./cmd/muster",
	} {
		if got := calledAs(name); got != want {
			t.Errorf("started as %s: %q, want %q", name, got, want)
		}
	}
}
