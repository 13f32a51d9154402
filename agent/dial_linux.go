package agent

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialer returns what connects from ip, if ip is valid. Nothing comes back for a
// heartbeat, so only the system can tell that a listener's host is gone: what it
// has not acknowledged for 30 s breaks the connection. Linux would take 15 minutes.
func dialer(ip netip.Addr) *net.Dialer {
	d := plainDialer(ip)
	d.Control = func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT,
				int((30 * time.Second).Milliseconds()))
		}); e != nil {
			return e
		}
		return err
	}
	return d
}
