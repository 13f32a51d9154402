//go:build !linux

package worker

import (
	"net"
	"net/netip"
)

// sender sends one datagram at a time.
type sender struct{ conn *net.UDPConn }

func newSender(conn *net.UDPConn) *sender { return &sender{conn} }

// send sends to the first target and returns 1, or 0 and the error.
func (s *sender) send(payload []byte, targets []netip.AddrPort) (int, error) {
	t := netip.AddrPortFrom(targets[0].Addr().Unmap(), targets[0].Port())
	if _, err := s.conn.WriteToUDPAddrPort(payload, t); err != nil {
		return 0, err
	}
	return 1, nil
}

// stale reports whether err is the answer to an earlier datagram. Where that can't
// be told, the target is passed over.
func stale(error) bool { return false }
