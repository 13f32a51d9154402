package worker

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
)

// sender sends batches by sendmmsg. Its buffers are used again for each batch.
type sender struct {
	conn     *ipv4.PacketConn
	messages []ipv4.Message
	addrs    [emitBatch]net.UDPAddr
	payload  [1][]byte
}

func newSender(conn *net.UDPConn) *sender {
	// Go lets every UDP socket broadcast. Without it the kernel refuses the broadcast
	// address of a network, which can't be told from a host's.
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 0)
		})
	}
	s := &sender{conn: ipv4.NewPacketConn(conn), messages: make([]ipv4.Message, emitBatch)}
	for i := range s.messages {
		s.addrs[i].IP = make(net.IP, 0, net.IPv6len)
		s.messages[i].Buffers = s.payload[:]
		s.messages[i].Addr = &s.addrs[i]
	}
	return s
}

// send sends to at most emitBatch targets and returns how many from the first on
// were sent to. The error is about the one after them, and may be nil if there were
// any.
func (s *sender) send(payload []byte, targets []netip.AddrPort) (int, error) {
	s.payload[0] = payload
	for i, t := range targets {
		a := t.Addr().Unmap()
		ip := s.addrs[i].IP[:0]
		if a.Is4() {
			b := a.As4()
			ip = append(ip, b[:]...)
		} else {
			b := a.As16()
			ip = append(ip, b[:]...)
		}
		s.addrs[i].IP, s.addrs[i].Port, s.addrs[i].Zone = ip, int(t.Port()), a.Zone()
	}
	n, err := s.conn.WriteBatch(s.messages[:len(targets)], 0)
	return max(n, 0), err
}

// stale reports whether err is the answer to an earlier datagram.
func stale(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
