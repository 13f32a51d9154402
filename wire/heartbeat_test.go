package wire

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func variant(i int) []byte {
	return fmt.Appendf(nil, `{"flag":"ADH18","ACK":"keepAlive","phase":1,"n":%d}`, i)
}

func TestHeartbeatsZeroValue(t *testing.T) {
	t.Parallel()
	var h Heartbeats
	canonical := Encode(Heartbeat{})
	if !h.Known(canonical) {
		t.Error("the body that Encode gives is not known")
	}
	for n := range len(canonical) {
		if h.Known(canonical[:n]) {
			t.Errorf("its first %d bytes are known", n)
		}
		other := append([]byte{}, canonical...)
		if other[n] ^= 1; h.Known(other) {
			t.Errorf("%s is known", other)
		}
	}
	if h.Known(nil) || h.Known(append(canonical, ' ')) {
		t.Error("knows what it was not taught")
	}
}

func TestHeartbeatsLearn(t *testing.T) {
	t.Parallel()
	var h Heartbeats
	body := variant(1)
	if h.Known(body) {
		t.Fatal("known before it was learnt")
	}
	h.Learn(body)
	if !h.Known(variant(1)) {
		t.Error("not known after it was learnt")
	}
	body[len(body)-2]++ // the connection's buffer goes on to hold something else
	if h.Known(body) || !h.Known(variant(1)) {
		t.Error("keeps the caller's bytes and no copy")
	}

	long := strings.Repeat("x", maxKnownBytes)
	h.Learn([]byte(long + "x"))
	if h.Known([]byte(long + "x")) {
		t.Errorf("learnt a body of %d bytes", maxKnownBytes+1)
	}
	h.Learn([]byte(long))
	if !h.Known([]byte(long)) {
		t.Errorf("did not learn a body of %d bytes", maxKnownBytes)
	}
}

func TestHeartbeatsBound(t *testing.T) {
	t.Parallel()
	var h Heartbeats
	for range 3 { // what is known already takes no place
		h.Learn(Encode(Heartbeat{}))
		h.Learn(variant(0))
	}
	for i := range 2 * maxKnownHeartbeats {
		h.Learn(variant(i))
	}
	for i := range 2 * maxKnownHeartbeats {
		if got, want := h.Known(variant(i)), i < maxKnownHeartbeats-1; got != want {
			t.Errorf("variant %d: known %v, want %v", i, got, want)
		}
	}
	if !h.Known(Encode(Heartbeat{})) {
		t.Error("the body that Encode gives was forgotten")
	}
}

// Goroutines that learn at the same moment take nothing from one another.
func TestHeartbeatsConcurrent(t *testing.T) {
	t.Parallel()
	for range 2000 {
		var h Heartbeats
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range maxKnownHeartbeats - 1 {
			wg.Go(func() {
				<-start
				h.Learn(variant(i))
				h.Learn(variant(i / 2)) // another one learns it too
			})
		}
		close(start)
		wg.Wait()
		for i := range maxKnownHeartbeats - 1 {
			if !h.Known(variant(i)) {
				t.Fatalf("%s was lost", variant(i))
			}
		}
		if n := len(*h.learnt.Load()); n != maxKnownHeartbeats-1 {
			t.Fatalf("%d bodies learnt, want %d: one was learnt twice", n, maxKnownHeartbeats-1)
		}
	}
}

// Counts what the process allocates, so it does not run beside other tests.
func TestHeartbeatsKnownAllocatesNothing(t *testing.T) {
	var h Heartbeats
	for i := range maxKnownHeartbeats {
		h.Learn(variant(i))
	}
	first, last, unknown := Encode(Heartbeat{}), variant(maxKnownHeartbeats-2), variant(99)
	if n := testing.AllocsPerRun(1000, func() {
		if !h.Known(first) || !h.Known(last) || h.Known(unknown) {
			t.Fatal("wrong answer")
		}
		h.Learn(last)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
