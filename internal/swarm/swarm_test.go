package swarm

import (
	"context"
	"net"
	"runtime"
	"slices"
	"testing"

	"github.com/musterhq/muster/wire"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range 60_000 {
		a := addr(n)
		if !a.IsLoopback() || seen[a.String()] || index(a) != n {
			t.Fatalf("host %d has the address %v, which is host %d's", n, a, index(a))
		}
		seen[a.String()] = true
	}
}

// Hosts of the text form say nothing in JSON.
func TestText(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the hosts' addresses are there without set-up on Linux only")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := New(Config{Servers: []string{"x"}, Hosts: 1, Text: true}); err == nil {
		t.Error("agents of the text form")
	}
	s, err := New(Config{Servers: []string{ln.Addr().String()}, Hosts: 1, Old: true, Text: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { ended <- s.Run(ctx, func() { close(ready) }) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-ready
	udp, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IP(addr(0).AsSlice()), Port: s.port})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := udp.Write([]byte("AC1")); err != nil {
		t.Fatal(err)
	}
	want := []string{"ADH18/keepAlive", "ADH27I/keepGotIt/AC1/None/[]/[]"}
	var got []string
	for dec := wire.NewDecoder(conn, 0); !slices.Contains(got, want[1]); {
		body, err := dec.Next()
		if err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		got = append(got, string(body))
	}
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}
