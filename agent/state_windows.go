package agent

import (
	"os"

	"golang.org/x/sys/windows"
)

var errLocked = windows.ERROR_LOCK_VIOLATION

// lockFile takes f for this process alone, until f is closed or the process is
// gone. The error wraps errLocked if another process has the file. The byte that
// is locked lies far behind the text, which others so can still read.
func lockFile(f *os.File) error {
	const far = 1 << 30
	return windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		&windows.Overlapped{Offset: far})
}

// unlockFile lets go of f.
func unlockFile(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{Offset: 1 << 30})
}

// syncDir does nothing: Windows journals renames by itself.
func syncDir(string) error { return nil }
