package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file that can't be opened at once is not waited for: without the limit this would
// never end.
func TestCompletionDoesNotWaitForFiles(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	kind, lines := completed(t, "zsh", "hosts", "--config", pipe, "")
	if kind != "" || len(lines) > 0 {
		t.Errorf("%q %q", kind, lines)
	}
	f, err := os.OpenFile(pipe, os.O_RDWR, 0) // lets what still waits for it go on
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
