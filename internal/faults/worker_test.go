package faults

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/internal/swarm"
)

func TestWorkerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	redistest.NeedReal(t)
	port := freeUDPPort(t)
	f := newFixture(t, Config{Listeners: 1, Workers: 2, Agents: 4,
		ListenerArgs: []string{"--client-udp-port", strconv.Itoa(port)}})

	old, err := swarm.New(swarm.Config{Servers: f.Addrs, Hosts: 3, Old: true, UDPPort: port, Count: true})
	f.must(err)
	oldHosts := []string{old.ID(0), old.ID(1), old.ID(2)}
	ctx, stop := context.WithCancel(t.Context())
	ready := make(chan struct{})
	ended := later(t, func() error { return old.Run(ctx, func() { close(ready) }) })
	defer ended()
	defer stop()
	<-ready
	f.eventually(patience, "old clients online", func() bool {
		n, err := f.DB.HLen(t.Context(), "{muster}:online").Result()
		return err == nil && n == 7
	})

	kills := 0
	for i := range 60 {
		if !f.dispatch(fmt.Sprintf("ACload%d", i), "", oldHosts...) {
			t.Fatal("request not taken")
		}
		switch i % 20 {
		case 10:
			f.Workers[0].Kill()
			kills++
		case 19:
			f.must(f.Workers[0].Start())
		}
		f.pause(30 * time.Millisecond)
	}
	f.allDone()
	if kills != 3 {
		t.Errorf("the worker was killed %d times, want 3", kills)
	}
	// Who was told, and is not told again: nobody tells old clients a second time.
	told := 0
	for key := range f.asked {
		for n := range oldHosts {
			heard := old.Heard(n, key)
			if heard.Datagrams > 1 {
				t.Errorf("old client %s was told of %s %d times", oldHosts[n], key, heard.Datagrams)
			}
			told += heard.Datagrams
		}
	}
	// Only those dispatches may have passed an old client over in whose midst the worker
	// was killed: ten at a time, three times.
	if least := 3 * 30; told < least {
		t.Errorf("old clients were told %d times, want %d at least", told, least)
	}
}

func freeUDPPort(t *testing.T) int {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}
