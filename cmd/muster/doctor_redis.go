package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	doctorPings = 20
	slowRedis   = 5 * time.Millisecond // a dispatch takes some twenty round trips
	wrongClock  = time.Second
	fullMemory  = 80 // percent of maxmemory
)

// redisNode is a server that is written to: the one there is, or a master of a cluster.
type redisNode struct {
	addr  string
	facts map[string]string // of INFO
	save  *string           // when it takes snapshots, "" for never; nil if it does not say
}

// lookAtRedis finds out whether Redis answers, and of what kind it is.
func (d *doctor) lookAtRedis(ctx context.Context) finding {
	if err := ping(ctx, d.connect); err != nil {
		_, text := read(unanswered(d.at, err))
		return fail("%s", text).to("%s, with --redis, MUSTER_REDIS or the group redis of %s", remedy(place(d.at.url), text), defaultFile)
	}
	d.rdb = d.connect(once)
	d.nodes = nodesOf(ctx, d.rdb)
	at := place(d.at.url)
	if c, ok := d.rdb.(*redis.ClusterClient); ok {
		info, err := c.ClusterInfo(ctx).Result()
		switch {
		case err != nil:
			return failed(err)
		case !strings.Contains(info, "cluster_state:ok"):
			return fail("%s answers, and the state of its cluster is not ok", at).to("see redis-cli cluster info and cluster nodes: a master is missing, or slots have none")
		}
		return fine("%s answers: a cluster of %s", at, plural(int64(len(d.nodes)), "master"))
	}
	if d.fact("cluster_enabled") == "1" {
		d.rdb.Close()
		d.rdb = nil // it would answer each command with the address of another node
		return fail("%s answers, and is a node of a cluster", at).to("name it with redis-cluster:// in place of redis://")
	}
	if strings.Contains(at, "-sentinel://") {
		return fine("%s answers: a master that Sentinel has named", at)
	}
	return fine("%s answers: a single server", at)
}

// remedy is what to do about a Redis at a place that does not let itself be worked with,
// as text says.
func remedy(at, text string) string {
	says := func(any ...string) bool {
		return slices.ContainsFunc(any, func(part string) bool { return strings.Contains(text, part) })
	}
	encrypted := strings.HasPrefix(at, "rediss")
	switch {
	case says("does not accept"):
		return "name the right user and password"
	case says("LOADING"):
		return "wait until it has read its file, or name another one"
	case says("cluster support disabled"):
		return "name it by redis:// in place of redis-cluster://"
	case says("DB index is out of range"):
		return "name a database that it has: 0 to 15, if its settings do not say otherwise"
	case strings.Contains(at, "-sentinel://") && says("redis: nil"):
		return "name the master as the sentinels do (redis-cli -p 26379 SENTINEL MASTERS)"
	case encrypted && says("certificate", "x509"):
		return "name a host that its certificate is for, and the authority that has signed it"
	case encrypted && says("tls:", "deadline exceeded", "timeout", "EOF", "reset by peer"):
		return "see whether it speaks TLS at this port (tls-port), or name another one"
	case !encrypted && says("EOF", "reset by peer"):
		return "if it speaks TLS at this port, name it by rediss://; or name another one"
	}
	return "start it, or name another one"
}

// nodesOf asks each server that is written to what it says of itself.
func nodesOf(ctx context.Context, rdb redis.UniversalClient) (nodes []redisNode) {
	ask := func(ctx context.Context, addr string, one redis.Cmdable) redisNode {
		n := redisNode{addr: addr, facts: infoOf(ctx, one, "server", "memory", "replication", "persistence", "cluster")}
		if config, err := one.ConfigGet(ctx, "save").Result(); err == nil {
			save := config["save"]
			n.save = &save
		}
		return n
	}
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return []redisNode{ask(ctx, "", rdb)}
	}
	var mu sync.Mutex
	_ = cluster.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
		n := ask(ctx, one.Options().Addr, one)
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, n)
		return nil
	})
	slices.SortFunc(nodes, func(a, b redisNode) int { return cmp.Compare(a.addr, b.addr) })
	return nodes
}

// fact is what the first server says.
func (d *doctor) fact(name string) string {
	if len(d.nodes) == 0 {
		return ""
	}
	return d.nodes[0].facts[name]
}

// ofEach looks at each server and returns what it has found of the worst.
func (d *doctor) ofEach(look func(redisNode) finding) finding {
	worst := cantTell("no server has answered")
	for i, n := range d.nodes {
		f := look(n)
		if n.addr != "" && f.mark != markOK {
			f.found = n.addr + ": " + f.found
		}
		if i == 0 || slices.Index(marks(), f.mark) > slices.Index(marks(), worst.mark) {
			worst = f
		}
	}
	return worst
}

// number reads a number of INFO.
func (n redisNode) number(name string) (int64, bool) {
	v, err := strconv.ParseInt(n.facts[name], 10, 64)
	return v, err == nil
}

func (d *doctor) lookAtVersion(context.Context) finding {
	return d.ofEach(func(n redisNode) finding {
		if err := newEnough(d.at, n.facts); err != nil {
			_, text := read(err)
			return fail("%s", text).to("install a newer one")
		}
		if v := n.facts["redis_version"]; v != "" {
			return fine("version %s", v)
		}
		return cantTell("Redis does not say its version; muster needs %d.%d or newer", leastRedisMajor, leastRedisMinor)
	})
}

func (d *doctor) lookAtWrites(ctx context.Context) finding {
	f := d.ofEach(func(n redisNode) finding {
		if err := isMaster(d.at, n.facts); err != nil {
			_, text := read(err)
			return fail("%s", text).to("name the master with --redis, or the sentinels with redis-sentinel://")
		}
		return fine("it takes writes")
	})
	if f.mark == markFailure {
		return f
	}
	if f = d.lookAtRights(ctx); f.mark == markFailure {
		return f
	}
	if err := writable(ctx, d.at, d.rdb); err != nil {
		_, text := read(err)
		return fail("%s", text).to("give the user of --redis the rights to write, give Redis more memory, or see its log")
	}
	return fine("it takes writes")
}

// lookAtDelay measures what a round trip takes.
func (d *doctor) lookAtDelay(ctx context.Context) finding {
	all := make([]time.Duration, 0, doctorPings)
	for i := range doctorPings + 1 {
		began := time.Now()
		if err := d.rdb.Ping(ctx).Err(); err != nil {
			return failed(unanswered(d.at, err))
		}
		if i > 0 { // the first one has opened the connection
			all = append(all, time.Since(began))
		}
	}
	return delayOf(all)
}

func delayOf(all []time.Duration) finding {
	slices.Sort(all)
	median, worst := all[len(all)/2], all[len(all)-1]
	text := fmt.Sprintf("round trip %v, the worst of %d %v", short(median), len(all), short(worst))
	if median > slowRedis {
		return warn("%s", text).to("bring listeners and workers nearer to Redis, or see what keeps it busy (redis-cli --latency, SLOWLOG GET): "+
			"more than %v make dispatches to many hosts slow", slowRedis)
	}
	return fine("%s", text)
}

// lookAtClock compares this machine's clock with Redis's, which is the one that leases
// and deadlines go by.
func (d *doctor) lookAtClock(ctx context.Context) finding {
	began := time.Now()
	theirs, err := d.rdb.Time(ctx).Result()
	if err != nil {
		return failed(unanswered(d.at, err))
	}
	return clockOf(time.Since(began), theirs.Sub(began))
}

// clockOf words how far Redis's clock, asked in a round trip, is ahead of the one here at
// its beginning.
func clockOf(trip, ahead time.Duration) finding {
	off := ahead - trip/2
	far := off.Abs()
	if far < trip {
		return fine("this machine's clock and Redis's agree, to %v", short(trip))
	}
	text := fmt.Sprintf("Redis's clock is %v ahead of this machine's", short(far))
	if off < 0 {
		text = fmt.Sprintf("Redis's clock is %v behind this machine's", short(far))
	}
	if far > wrongClock {
		return warn("%s", text).to("set both by NTP (timedatectl): deadlines and the times in events go by Redis's")
	}
	return fine("%s", text)
}

func (d *doctor) lookAtPolicy(context.Context) finding {
	return d.ofEach(func(n redisNode) finding {
		switch policy := n.facts["maxmemory_policy"]; {
		case policy == "":
			return cantTell("Redis does not say its maxmemory-policy; it should be noeviction")
		case dropsKeys(policy):
			return warn("maxmemory-policy is %s: Redis may drop task sets and presence when its memory is full", policy).
				to("CONFIG SET maxmemory-policy noeviction, and the same in redis.conf")
		}
		return fine("maxmemory-policy is noeviction")
	})
}

func (d *doctor) lookAtMemory(context.Context) finding {
	return d.ofEach(func(n redisNode) finding {
		used, ok := n.number("used_memory")
		if !ok {
			return cantTell("Redis does not say how much memory it uses")
		}
		most, _ := n.number("maxmemory")
		if most == 0 {
			return fine("%s used, no limit is set (maxmemory)", inBytes(used))
		}
		percent := used * 100 / most
		text := fmt.Sprintf("%s used of %s (maxmemory), %d %%", inBytes(used), inBytes(most), percent)
		if percent >= fullMemory {
			return warn("%s", text).to("raise maxmemory, or have workers keep task sets for a shorter time (muster worker --keep): when it is full nothing is accepted")
		}
		return fine("%s", text)
	})
}

func (d *doctor) lookAtPersistence(context.Context) finding {
	return d.ofEach(func(n redisNode) finding {
		aof, known := n.facts["aof_enabled"]
		switch {
		case !known:
			return cantTell("Redis does not say whether it writes to disk; an embedded one does not")
		case aof == "1" && n.facts["aof_last_write_status"] == "err":
			return fail("the append-only file can't be written").to("see Redis's log: the disk is full, or may not be written to")
		case aof == "1":
			return fine("on, with an append-only file")
		case n.save == nil:
			return cantTell("there is no append-only file, and Redis does not say whether it takes snapshots")
		case *n.save == "":
			return warn("off: what Redis holds is lost when it ends, task sets and waiting requests with it").
				to("CONFIG SET appendonly yes, and the same in redis.conf")
		case n.facts["rdb_last_bgsave_status"] == "err":
			return fail("the last snapshot has failed").to("see Redis's log: the disk is full, or may not be written to")
		}
		return fine("on, by snapshots: a crash loses what came after the last one (an append-only file loses a second)")
	})
}

// inBytes writes a size as people read it.
func inBytes(n int64) string {
	size, unit := float64(n), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}

// short is a duration to two or three digits.
func short(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= 100*time.Millisecond:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
