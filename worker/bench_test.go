package worker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// BenchmarkIdleStart measures the time from a request to its first datagram for a
// worker that has nothing else to do, and what that worker costs Redis while it
// waits. Beside it stands, from the same run, a blocking XREAD from XADD to reply:
// the least that any wait on Redis takes. Take 300 and more rounds:
//
//	go test ./worker -run '^$' -bench IdleStart -benchtime 300x
func BenchmarkIdleStart(b *testing.B) {
	f := fixtureOn(b, redistest.OpenReal(b))
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	f.online("web-1", "agent i1", conn.LocalAddr().(*net.UDPAddr).AddrPort())
	reader := redis.NewClient(&redis.Options{Addr: f.redis.Addr, DisableIdentity: true})
	defer reader.Close()
	stop := f.start(Config{Reader: reader})
	defer stop()

	var starts, reference []time.Duration
	buf := make([]byte, 512)
	round := 0
	for b.Loop() {
		round++
		// A round begins anywhere in the worker's own rhythm.
		time.Sleep(30*time.Millisecond + rand.N(40*time.Millisecond))
		begin := time.Now()
		number := fmt.Sprintf("AC%d", round)
		f.add("key", number, "commands", `{"uptime": 1}`, "hosts", `["web-1"]`)
		_ = conn.SetReadDeadline(begin.Add(10 * time.Second))
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != number {
			b.Fatalf("%q, %v", buf[:n], err)
		}
		starts = append(starts, time.Since(begin))
		// Answered, or it would be sent again and again.
		done := tasks.Report{Number: tasks.Number(number), Host: "web-1", Phase: 3, Lists: true, Complete: []string{"uptime"}}
		if _, err := f.store.Report(b.Context(), []tasks.Report{done}); err != nil {
			b.Fatal(err)
		}
		reference = append(reference, blockingRead(b, f.rdb))
	}
	b.StopTimer()
	redistest.Eventually(b, "nothing is left to do", func() bool { return f.rdb.Exists(b.Context(), tasks.KeyDue).Val() == 0 })
	const idle = 5 * time.Second
	before := f.calls()
	time.Sleep(idle)
	cost := float64(f.calls()-before) / idle.Seconds()
	b.ReportMetric(0, "ns/op")
	report(b, starts, "start")
	report(b, reference, "xread")
	b.ReportMetric(cost, "commands/s-idle")
}

// BenchmarkManyHosts measures one dispatch to 10,000 hosts from request to the end
// of its sending.
func BenchmarkManyHosts(b *testing.B) {
	f := fixtureOn(b, redistest.OpenReal(b))
	h := listen(b)
	_, err := f.rdb.Pipelined(b.Context(), func(p redis.Pipeliner) error {
		for i := range 10_000 {
			name := fmt.Sprintf("host-%06d", i)
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), h.addr.Port())
			p.HSet(b.Context(), tasks.KeyOnline, name, tasks.FormatPlace(addr, "l1"))
			p.HSet(b.Context(), tasks.KeyClients, name, "json")
		}
		p.ZAdd(b.Context(), tasks.KeyListeners, redis.Z{Score: 1e14, Member: "l1"})
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	d := f.dispatcher(openedSocket(b))
	round := 0
	for b.Loop() {
		round++
		request := fmt.Sprintf("r%d", round)
		if err := d.run(b.Context(), request, job(`{"commands":{"uptime":1}}`), false); err != nil {
			b.Fatal(err)
		}
	}
}

// blockingRead measures from XADD to the reply of an XREAD that waits for it.
func blockingRead(b *testing.B, rdb *redis.Client) time.Duration {
	ctx := b.Context()
	got := make(chan time.Time, 1)
	go func() {
		rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{"bench", "$"}, Block: time.Second})
		got <- time.Now()
	}()
	for { // until it waits
		if n := rdb.InfoMap(ctx, "clients").Item("Clients", "blocked_clients"); n == "2" {
			break
		}
	}
	begin := time.Now()
	rdb.XAdd(ctx, &redis.XAddArgs{Stream: "bench", Values: []string{"a", "b"}})
	return (<-got).Sub(begin)
}

// calls is how many commands Redis has carried out.
func (f *fixture) calls() (sum int64) {
	for _, line := range strings.Split(f.rdb.Info(context.Background(), "commandstats").Val(), "\n") {
		var n int64
		if _, rest, ok := strings.Cut(line, "calls="); ok {
			fmt.Sscanf(rest, "%d", &n)
		}
		sum += n
	}
	return sum
}

func report(b *testing.B, times []time.Duration, name string) {
	slices.Sort(times)
	for _, p := range []int{50, 99} {
		at := times[min(len(times)*p/100, len(times)-1)]
		b.ReportMetric(float64(at.Microseconds())/1000, fmt.Sprintf("ms-%s-p%d", name, p))
	}
}
