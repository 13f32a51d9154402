//go:build unix

package main

import "golang.org/x/sys/unix"

// openFiles is how many files a process of this user may have open, which is what Go
// raises its own limit to at the start.
func openFiles() (uint64, bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return uint64(limit.Max), true
}
