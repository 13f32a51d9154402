package faults

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/swarm"
	"github.com/musterhq/muster/worker"
)

// TestLossOfDatagrams dispatches to a thousand agents of whose datagrams three in ten
// are lost. All get done, and whoever has answered is not told again.
func TestLossOfDatagrams(t *testing.T) {
	t.Parallel()
	const hosts, seed = 1000, 131
	const retry = 300 * time.Millisecond
	lose := func(host, nth int) bool {
		return rand.New(rand.NewPCG(seed, uint64(host)<<32|uint64(nth))).Float64() < 0.3
	}
	f := newInside(t, worker.Config{RetryAfter: retry}, swarm.Config{Hosts: hosts, Lose: lose, Count: true})
	ctx := t.Context()
	err := f.rdb.XAdd(ctx, &redis.XAddArgs{Stream: "muster:requests", Values: []any{
		"key", "ACloss", "commands", `{"true": 1, "false": 2}`,
	}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	f.eventually(patience, "the set is closed", func() bool { return f.recount("ACloss").State == "closed" })
	f.eventually(patience, "all is confirmed", func() bool { return f.swarm.Unconfirmed() == 0 })
	a := f.recount("ACloss")
	for _, w := range a.Wrong {
		t.Error(w)
	}
	if n := a.Counted("done"); n != hosts {
		t.Errorf("%d hosts are done, want all %d: %v", n, hosts, a.Meta)
	}
	first, err := strconv.ParseInt(a.Meta["sent_ms"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	sends, err := f.rdb.HGetAll(ctx, "{ACloss}:sends").Result()
	if err != nil {
		t.Fatal(err)
	}
	lost, late := 0, 0
	for n := range hosts {
		heard := f.swarm.Heard(n, "ACloss")
		counted, at := sendsOf(t, sends[f.swarm.ID(n)], time.UnixMilli(first), retry)
		if heard.Runs != 1 {
			t.Errorf("host %d has run the set %d times", n, heard.Runs)
		}
		// Each datagram and each push belongs to a send that was counted, and none was
		// counted after the answer was in Redis.
		if heard.Datagrams > counted || heard.Pushes > counted-1 {
			t.Errorf("host %d got %d datagrams and %d pushes, but %d sends were counted", n, heard.Datagrams, heard.Pushes, counted)
		}
		if at.After(heard.Confirmed) {
			t.Errorf("host %d was sent to %v after its answer was confirmed", n, at.Sub(heard.Confirmed))
		}
		lost += heard.Lost
		late += heard.Late
	}
	if lost < hosts/5 {
		t.Errorf("only %d datagrams were lost, the test tests nothing", lost)
	}
	t.Logf("%d datagrams lost; %d messages were under way while the answer to an earlier one was confirmed", lost, late)

	// With the times of all further sends past, nobody has been told anything more.
	before := f.told(hosts)
	time.Sleep(4 * retry)
	if after := f.told(hosts); after != before {
		t.Errorf("hosts that had answered were told again: %d times", after-before)
	}
}

// told is how often hosts were told in all.
func (f *inside) told(hosts int) int {
	n := 0
	for h := range hosts {
		heard := f.swarm.Heard(h, "ACloss")
		n += heard.Datagrams + heard.Pushes
	}
	return n
}

// sendsOf reads how many sends are counted for a host, and when the last one was due.
func sendsOf(t *testing.T, counted string, first time.Time, retry time.Duration) (int, time.Time) {
	t.Helper()
	if counted == "" {
		return 1, first
	}
	number, due, ok := strings.Cut(strings.TrimSuffix(counted, "!"), ":")
	n, err := strconv.Atoi(number)
	ms, err2 := strconv.ParseInt(due, 10, 64)
	if !ok || err != nil || err2 != nil {
		t.Fatal(fmt.Errorf("sends %q: %v %v", counted, err, err2))
	}
	return n, time.UnixMilli(ms).Add(-retry << (n - 1))
}
