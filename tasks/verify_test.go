package tasks_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// Each damage to the keys of a sound set is found, and named.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx, rdb := t.Context(), f.rdb
	meta := func(n tasks.Number, field string, value any) error {
		return rdb.HSet(ctx, tasks.KeyMeta(n), field, value).Err()
	}
	result := func(n tasks.Number, host, command, code string) error {
		return rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.KeyResults(n), Values: []string{"host", host, "command", command, "exit_code", code}}).Err()
	}
	for i, c := range []struct {
		name   string
		damage func(n tasks.Number) error
		want   []string // each in one finding of its own
	}{
		{"a counter", func(n tasks.Number) error { return meta(n, "sent", 2) },
			[]string{"counter sent is 2, but 1 hosts", "add up to 7, but total is 6"}},
		{"two counters", func(n tasks.Number) error {
			return rdb.HIncrBy(ctx, tasks.KeyMeta(n), "sent", -1).Err()
		}, []string{"counter sent is 0, but 1 hosts", "add up to 5, but total is 6"}},
		{"the total", func(n tasks.Number) error { return meta(n, "total", 7) },
			[]string{"add up to 6, but total is 7", "total is 7, but there are 6 hosts"}},
		{"a state", func(n tasks.Number) error { return rdb.HSet(ctx, tasks.KeyHosts(n), "offline", "asleep").Err() },
			[]string{`offline is in an unknown state "asleep"`, "counter offline is 1, but 0 hosts"}},
		{"a host too many", func(n tasks.Number) error { return rdb.HSet(ctx, tasks.KeyHosts(n), "web-9", "offline").Err() },
			[]string{"counter offline is 1, but 2 hosts", "total is 6, but there are 7 hosts"}},
		{"not awaited", func(n tasks.Number) error { return rdb.SRem(ctx, tasks.KeyAwaiting(n), "sent").Err() },
			[]string{"sent is sent, but not among those awaited"}},
		{"awaited too much", func(n tasks.Number) error { return rdb.SAdd(ctx, tasks.KeyAwaiting(n), "offline", "web-9").Err() },
			[]string{"offline is awaited, but offline", "web-9 is awaited, but not in the set"}},
		{"a result of a stranger", func(n tasks.Number) error { return result(n, "web-9", "a", "0") },
			[]string{"there is a result of web-9, which is not in the set"}},
		{"a result twice", func(n tasks.Number) error { return result(n, "done", "a", "0") },
			[]string{`done has two results of "a"`}},
		{"a result of what was not run", func(n tasks.Number) error { return result(n, "working", "b", "0") },
			[]string{`working has a result of "b", but has not run it`}},
		{"a bad result of a good host", func(n tasks.Number) error { return result(n, "old", "a", "1") },
			[]string{"old is done, but a command failed"}},
		{"no results", func(n tasks.Number) error { return rdb.Del(ctx, tasks.KeyResults(n)).Err() },
			[]string{"failed is failed, but no command failed"}},
		{"run twice", func(n tasks.Number) error { return rdb.RPush(ctx, tasks.KeyCompleteOf(n, "working"), "a").Err() },
			[]string{`working has run "a" twice`}},
		{"run what is not in the set", func(n tasks.Number) error { return rdb.RPush(ctx, tasks.KeyCompleteOf(n, "working"), "x").Err() },
			[]string{`working lists "x", which is not in the set`}},
		{"to run what is not in the set", func(n tasks.Number) error { return rdb.RPush(ctx, tasks.KeyOnCallOf(n, "working"), "x").Err() },
			[]string{`working lists "x", which is not in the set`}},
		{"no list of a done host", func(n tasks.Number) error { return rdb.LTrim(ctx, tasks.KeyCompleteOf(n, "old"), 1, -1).Err() },
			[]string{"old is done, but has run 1 of 2 commands"}},
		{"no list of a failed host", func(n tasks.Number) error { return rdb.Del(ctx, tasks.KeyCompleteOf(n, "failed")).Err() },
			[]string{"failed is failed, but has run 0 of 2 commands", `failed has a result of "a", but`, `failed has a result of "b", but`}},
		{"all run and open", func(n tasks.Number) error { return rdb.RPush(ctx, tasks.KeyCompleteOf(n, "working"), "b").Err() },
			[]string{"working is working, but has run every command"}},
		{"a list that is none", func(n tasks.Number) error { return rdb.Set(ctx, tasks.KeyOnCallOf(n, "offline"), "x", 0).Err() },
			[]string{"}:oncall:offline is no list"}},
		{"a command lost", func(n tasks.Number) error { return rdb.ZAdd(ctx, string(n), redis.Z{Member: "c"}).Err() },
			[]string{"2 commands were written, but the set has 3", "done is done, but has run 2 of 3", "old is done, but", "failed is failed, but has run 2 of 3"}},
		{"open for no reason", func(n tasks.Number) error {
			// Whatever is open has come to an end, but the set was not closed.
			pipe := rdb.TxPipeline()
			pipe.HSet(ctx, tasks.KeyHosts(n), "sent", "expired", "working", "expired")
			pipe.HSet(ctx, tasks.KeyMeta(n), "sent", 0, "working", 0, "expired", 2)
			pipe.Del(ctx, tasks.KeyAwaiting(n))
			_, err := pipe.Exec(ctx)
			return err
		}, []string{"the set is open, but no host is"}},
		{"a time of closing", func(n tasks.Number) error { return meta(n, "closed_ms", time.Now().UnixMilli()) },
			[]string{"the set is open, and its time of closing is 2"}},
		{"closed without a time", func(n tasks.Number) error { return meta(n, "state", "closed") },
			[]string{"the set is closed, and its time of closing is 0001"}},
		{"a stage", func(n tasks.Number) error { return meta(n, "state", "ajar") },
			[]string{`the set is in an unknown state "ajar"`}},
		{"long past the deadline", func(n tasks.Number) error { return meta(n, "deadline_ms", time.Now().Add(-time.Hour).UnixMilli()) },
			[]string{"the deadline has passed, but the set is open and 2 hosts are open"}},
		{"cancelled long ago", func(n tasks.Number) error {
			return meta(n, "cancelled_ms", time.Now().Add(-time.Minute).UnixMilli())
		}, []string{"the set was cancelled, but is open and 2 hosts are open"}},
		{"cancelled long ago, no host open", func(n tasks.Number) error {
			pipe := rdb.TxPipeline()
			pipe.HSet(ctx, tasks.KeyHosts(n), "sent", "cancelled", "working", "cancelled")
			pipe.HSet(ctx, tasks.KeyMeta(n), "sent", 0, "working", 0, "cancelled", 2, "state", "preparing",
				"cancelled_ms", time.Now().Add(-time.Minute).UnixMilli())
			pipe.Del(ctx, tasks.KeyAwaiting(n))
			_, err := pipe.Exec(ctx)
			return err
		}, []string{"the set was cancelled, but is preparing and 0 hosts are open"}},
		{"waiting and not noted", func(n tasks.Number) error {
			return rdb.HSet(ctx, tasks.KeyHosts(n), "offline", "waiting").Err()
		}, []string{
			"offline is waiting, but muster:host:{offline}:waiting does not name the set",
			"counter waiting is 0, but 1 hosts", "counter offline is 1, but 0 hosts",
		}},
		{"noted in what is no set", func(n tasks.Number) error {
			pipe := rdb.TxPipeline()
			pipe.HSet(ctx, tasks.KeyHosts(n), "offline", "waiting")
			pipe.HSet(ctx, tasks.KeyMeta(n), "offline", 0, "waiting", 1)
			pipe.Set(ctx, tasks.KeyWaiting("offline"), "x", 0)
			_, err := pipe.Exec(ctx)
			return err
		}, []string{"muster:host:{offline}:waiting is no set"}},
		{"sends to a stranger", func(n tasks.Number) error {
			return rdb.HSet(ctx, tasks.KeySends(n), "sent", "2:1", "web-9", "2:1").Err()
		}, []string{"sends to web-9 are counted, which is not in the set"}},
		{"long past the deadline and preparing", func(n tasks.Number) error {
			return rdb.HSet(ctx, tasks.KeyMeta(n), "state", "preparing", "deadline_ms", time.Now().Add(-time.Hour).UnixMilli()).Err()
		}, []string{"the deadline has passed, but the set is preparing and 2 hosts are open"}},
	} {
		n := tasks.Number(fmt.Sprint("AC", i))
		f.set(n, "ab", "sent sent, working sent, done sent, failed sent, old sent, offline offline")
		f.report(tasks.Reported{},
			lists(n, "working", 1, "", "", "ab"), ended(n, "working", "a", 1),
			ended(n, "done", "a", 0), ended(n, "done", "b", 0), ended(n, "failed", "a", 1), ended(n, "failed", "b", 0),
			lists(n, "old", 3, "", "ab", ""))
		f.must(c.damage(n))
		findings, err := f.store.Verify(ctx, n)
		f.must(err)
		if len(findings) != len(c.want) {
			t.Errorf("%s: found\n%s\nwant %d", c.name, strings.Join(findings, "\n"), len(c.want))
		}
		for _, want := range c.want {
			if !strings.Contains(strings.Join(findings, "\n"), want) {
				t.Errorf("%s: found\n%s\nwant %q", c.name, strings.Join(findings, "\n"), want)
			}
		}
	}
}

// What looks odd and is sound.
func TestVerifySound(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.set("AC1", "a", "web-1 offline") // closed, and heard of afterwards
	f.report(tasks.Reported{}, answer("AC1", "web-1", 1))

	f.set("AC2", "a", "web-1 sent, web-2 offline") // all run, but after the deadline
	f.past("AC2")
	f.report(tasks.Reported{}, ended("AC2", "web-1", "a", 1), ended("AC2", "web-2", "a", 1))
	f.state("AC2", "web-1", tasks.Sent)
	f.must(f.store.Expire(t.Context(), "AC2"))
	f.sound("AC2")

	// cancelled a moment ago, and nobody has come to ending its hosts
	f.set("AC4", "a", "web-1 sent")
	f.must(f.rdb.HSet(t.Context(), tasks.KeyMeta("AC4"), "cancelled_ms", f.now().UnixMilli()).Err())
	f.sound("AC4")

	// waited for no longer, and not ended yet
	f.set("AC6", "a", "web-6 waiting")
	f.set("AC7", "a", "web-6 waiting")
	f.must(f.rdb.Del(t.Context(), tasks.KeyWaiting("web-6")).Err())
	f.must(f.rdb.HSet(t.Context(), tasks.KeyMeta("AC6"), "cancelled_ms", f.now().UnixMilli()).Err())
	f.past("AC7")
	for _, n := range []tasks.Number{"AC6", "AC7"} {
		findings, err := f.store.Verify(t.Context(), n)
		f.must(err)
		if len(findings) > 0 {
			t.Errorf("%s: %v", n, findings)
		}
	}

	f.prepare("AC5", "a") // waited for, by the thousand
	for i := range 2 {
		var chunk []tasks.Enlisted
		for j := range tasks.Chunk {
			chunk = append(chunk, tasks.Enlisted{Host: fmt.Sprintf("host-%d-%d", i, j), State: tasks.Waiting})
		}
		f.await("AC5", chunk)
		_, err := f.store.Enlist(t.Context(), "AC5", chunk)
		f.must(err)
	}
	f.sound("AC5")

	f.prepare("AC3", "a") // thousands
	for i := range 3 {
		var chunk []tasks.Enlisted
		for j := range tasks.Chunk {
			chunk = append(chunk, tasks.Enlisted{Host: fmt.Sprintf("host-%d-%d", i, j), State: tasks.Sent})
		}
		_, err := f.store.Enlist(t.Context(), "AC3", chunk)
		f.must(err)
	}
	f.sound("AC3")
	f.must(f.rdb.RPush(t.Context(), tasks.KeyCompleteOf("AC3", "host-1-7"), "x").Err())
	findings, err := f.store.Verify(t.Context(), "AC3")
	f.must(err)
	if len(findings) != 1 {
		t.Fatalf("one damaged list of thousands: %v", findings)
	}
}
