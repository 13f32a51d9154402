package worker

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/musterhq/muster/internal/redistest"
)

func openedSocket(t testing.TB) *socket {
	t.Helper()
	s, err := openSocket()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Targets that can't be sent to stand first, last, alone and together; all others
// are sent to.
func TestEmitPassesOverFailures(t *testing.T) {
	t.Parallel()
	s, h := openedSocket(t), listen(t)
	good := h.addr
	bad := []netip.AddrPort{
		netip.AddrPortFrom(good.Addr(), 0), // the kernel refuses it
		{},
		netip.AddrPortFrom(netip.MustParseAddr("255.255.255.255"), good.Port()),
		netip.AddrPortFrom(netip.MustParseAddr("::ffff:255.255.255.255"), good.Port()),
		netip.AddrPortFrom(netip.MustParseAddr("224.0.0.1"), good.Port()),
		netip.AddrPortFrom(netip.MustParseAddr("0.0.0.0"), good.Port()),
		netip.AddrPortFrom(netip.MustParseAddr("::"), good.Port()),
	}
	// The broadcast address of the loopback network looks like a host's.
	directed := bad[0]
	if runtime.GOOS == "linux" {
		directed = netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), good.Port())
	}
	for _, targets := range [][]netip.AddrPort{
		{bad[0], good, bad[0], bad[0], good, bad[0]},
		{good, bad[1], bad[2], good, bad[3], bad[4]},
		{bad[5], bad[6], good, good},
		{directed, good, good, directed},
	} {
		if sent := s.Emit([]byte("AC1"), targets); sent != 2 {
			t.Errorf("sent %d to %v, want 2", sent, targets)
		}
	}
	h.wants("AC1", "AC1", "AC1", "AC1", "AC1", "AC1", "AC1", "AC1")
	if sent := s.Emit([]byte("AC1"), bad); sent != 0 {
		t.Errorf("sent %d to none", sent)
	}
	if sent := s.Emit([]byte("AC1"), nil); sent != 0 {
		t.Errorf("sent %d to an empty list", sent)
	}
}

func TestTellable(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"10.0.0.5", "127.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.5"} {
		if !tellable(netip.MustParseAddr(a)) {
			t.Errorf("%s is a host's", a)
		}
	}
	for _, a := range []string{"0.0.0.0", "::", "255.255.255.255", "::ffff:255.255.255.255", "224.0.0.1", "ff02::1"} {
		if tellable(netip.MustParseAddr(a)) {
			t.Errorf("%s is no host's", a)
		}
	}
	if tellable(netip.Addr{}) {
		t.Error("no address at all is a host's")
	}
}

// A target where nobody listens answers by ICMP, which must not cost the others.
func TestEmitToClosedPorts(t *testing.T) {
	t.Parallel()
	s, h := openedSocket(t), listen(t)
	closed := listen(t)
	closed.conn.Close()
	for range 20 {
		if sent := s.Emit([]byte("AC1"), []netip.AddrPort{closed.addr, h.addr, closed.addr}); sent != 3 {
			t.Errorf("sent %d, want 3", sent)
		}
	}
	redistest.Eventually(t, "20 datagrams", func() bool { return len(h.all()) == 20 })
}

// Several batches, the last one not full, of both families, by many goroutines.
func TestEmitBatches(t *testing.T) {
	t.Parallel()
	s := openedSocket(t)
	hosts := []*host{listen(t), listen(t)}
	if hasIPv6() {
		hosts = append(hosts, listenOn(t, "[::1]:0"))
	} else {
		t.Log("without IPv6: this machine has none")
	}
	const rounds, senders = 200, 4
	var targets []netip.AddrPort
	for range rounds {
		for _, h := range hosts {
			targets = append(targets, h.addr)
		}
	}
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			if sent := s.Emit([]byte("AC1"), targets); sent != len(targets) {
				t.Errorf("sent %d of %d", sent, len(targets))
			}
		})
	}
	all.Wait()
	for _, h := range hosts {
		redistest.Eventually(t, "all datagrams at "+h.addr.String(), func() bool { return len(h.all()) == rounds*senders })
	}
}

func TestEmitAfterClose(t *testing.T) {
	t.Parallel()
	s, h := openedSocket(t), listen(t)
	s.Close()
	if sent := s.Emit([]byte("AC1"), []netip.AddrPort{h.addr, h.addr}); sent != 0 {
		t.Errorf("sent %d by a closed socket", sent)
	}
}

// hasIPv6 reports whether this machine can send to itself by IPv6.
func hasIPv6() bool {
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
