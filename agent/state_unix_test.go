//go:build unix

package agent

import (
	"io"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
)

// A state directory is free as soon as it is let go of, although a copy of its lock is
// open elsewhere: a process that another goroutine is starting has one for a moment.
func TestStateDirIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := openState(dir, "web-1", log)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := syscall.Dup(int(s.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(copied)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openState(dir, "web-1", log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
}
