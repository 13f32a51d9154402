package agent

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A listener's machine that is gone is found out by the system within half a minute,
// with or without something on its way.
func TestDialerFindsTheDead(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	conn, err := dialer(loopback).DialContext(t.Context(), "tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for name, o := range map[string]struct{ level, option, want int }{
			"keepalive":          {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			"idle, s":            {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			"interval, s":        {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5},
			"probes":             {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
			"unacknowledged, ms": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000},
		} {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("%s: %d, %v, want %d", name, got, err, o.want)
			}
		}
	})
}
