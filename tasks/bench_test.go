package tasks_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// BenchmarkReport is 10,000 hosts that answer one set, in batches of one round trip
// each, beside as many plain HSET in pipelines of the same size in the same run.
//
//	go test -run '^$' -bench Report ./tasks
func BenchmarkReport(b *testing.B) {
	const hosts = 10_000
	srv := redistest.Open(b)
	ctx, rdb := b.Context(), srv.Client
	store := tasks.NewStore(rdb, tasks.StoreConfig{})
	names := make([]string, hosts)
	for i := range names {
		names[i] = fmt.Sprint("host-", i)
	}
	round := 0
	set := func(b *testing.B) tasks.Number {
		round++
		n := tasks.Number(fmt.Sprint("AC", round))
		if _, err := store.Prepare(ctx, "bench", request(n, "uptime", "df -h", "free", "w")); err != nil {
			b.Fatal(err)
		}
		for i := 0; i < hosts; i += tasks.Chunk {
			list := make([]tasks.Enlisted, tasks.Chunk)
			for j := range list {
				list[j] = tasks.Enlisted{Host: names[i+j], State: tasks.Sent}
			}
			if _, err := store.Enlist(ctx, n, list); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := store.Open(ctx, n); err != nil {
			b.Fatal(err)
		}
		return n
	}
	reports := map[string]func(n tasks.Number, host string) tasks.Report{
		"answer": func(n tasks.Number, host string) tasks.Report { return answer(n, host, 1) },
		"result": func(n tasks.Number, host string) tasks.Report { return ended(n, host, "uptime", 0) },
		"lists": func(n tasks.Number, host string) tasks.Report {
			return tasks.Report{
				Number: n, Host: host, Phase: 3, Lists: true,
				Complete: []string{"uptime"}, OnCall: []string{"df -h", "free", "w"},
			}
		},
	}
	for _, kind := range []string{"answer", "result", "lists"} {
		for _, size := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) {
				var ours, plain time.Duration
				for b.Loop() {
					b.StopTimer()
					n := set(b)
					b.StartTimer()
					start := time.Now()
					for i := 0; i < hosts; i += size {
						batch := make([]tasks.Report, size)
						for j := range batch {
							batch[j] = reports[kind](n, names[i+j])
						}
						if _, err := store.Report(ctx, batch); err != nil {
							b.Fatal(err)
						}
					}
					ours += time.Since(start)
					b.StopTimer()
					start = time.Now()
					for i := 0; i < hosts; i += size {
						_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
							for _, name := range names[i : i+size] {
								p.HSet(ctx, "plain", name, "acknowledged")
							}
							return nil
						})
						if err != nil {
							b.Fatal(err)
						}
					}
					plain += time.Since(start)
					b.StartTimer()
				}
				b.ReportMetric(float64(b.N*hosts)/ours.Seconds(), "hosts/s")
				b.ReportMetric(float64(b.N*hosts)/plain.Seconds(), "plain-hosts/s")
				b.ReportMetric(plain.Seconds()/ours.Seconds()*100, "%ofplain")
			})
		}
	}
}

// BenchmarkExpire ends 100,000 hosts that never answered. The longest call is how
// long Redis was held at once, as its client sees it.
func BenchmarkExpire(b *testing.B) {
	srv := redistest.Open(b)
	store, ctx := tasks.NewStore(srv.Client, tasks.StoreConfig{}), b.Context()
	round := 0
	for b.Loop() {
		b.StopTimer()
		round++
		n := tasks.Number(fmt.Sprint("AC", round))
		if _, err := store.Prepare(ctx, "bench", request(n, "uptime")); err != nil {
			b.Fatal(err)
		}
		var longest time.Duration
		for i := 0; i < tasks.MaxHosts; i += tasks.Chunk {
			list := make([]tasks.Enlisted, tasks.Chunk)
			for j := range list {
				list[j] = tasks.Enlisted{Host: fmt.Sprint("host-", i+j), State: tasks.Sent}
			}
			start := time.Now()
			if _, err := store.Enlist(ctx, n, list); err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(start))
		}
		if _, err := store.Open(ctx, n); err != nil {
			b.Fatal(err)
		}
		if err := srv.Client.HSet(ctx, tasks.KeyMeta(n), "deadline_ms", 1).Err(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := store.Expire(ctx, n); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(longest.Microseconds()), "µs-longest-enlist")
	}
}
