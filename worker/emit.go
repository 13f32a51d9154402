package worker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// emitBatch is how many datagrams go to the kernel at once where it takes several.
const emitBatch = 256

// emitter sends one payload to many targets.
type emitter interface {
	// Emit returns how many datagrams were sent. A target to which none can be sent is
	// passed over.
	Emit(payload []byte, targets []netip.AddrPort) (sent int)
}

// socket is the one UDP socket of a worker. It sends to IPv4 and, where the machine
// has it, to IPv6. It may be used by many goroutines.
type socket struct {
	mu   sync.Mutex
	conn *net.UDPConn
	out  *sender
}

// openSocket opens a socket on a free port.
func openSocket() (*socket, error) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	return &socket{conn: conn, out: newSender(conn)}, nil
}

// Close closes the socket. Emit then sends nothing.
func (s *socket) Close() error { return s.conn.Close() }

// Emit implements emitter.
func (s *socket) Emit(payload []byte, targets []netip.AddrPort) (sent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := false
	for len(targets) > 0 {
		if !tellable(targets[0].Addr()) {
			targets = targets[1:]
			continue
		}
		n := 1
		for n < len(targets) && n < emitBatch && tellable(targets[n].Addr()) {
			n++
		}
		n, err := s.out.send(payload, targets[:n])
		sent += n
		targets = targets[n:]
		switch {
		case n > 0:
			again = false
		case errors.Is(err, net.ErrClosed):
			return sent
		case stale(err) && !again:
			again = true // it was about an earlier datagram, and is gone now
		default:
			again = false
			targets = targets[1:]
		}
	}
	return sent
}

// tellable reports whether a is the address of one host. A task number is never
// broadcast: old clients run whatever number reaches them.
func tellable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a.Unmap() != broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255}) // never changes
