package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/swarm"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// round is when things happened to the hosts in one dispatch, Unix nanoseconds.
type round struct {
	FirstTold, LastTold int64 // datagrams
	LastAnswer          int64 // confirmed to the host: it is in Redis
	LastReport          int64
}

// dispatch measures whole dispatches from outside, and the floor under them: the
// same hosts told by a plain loop and answering to a process that only counts.
func dispatch(ctx context.Context, o options) error {
	floors, err := measureFloor(ctx, o)
	if err != nil {
		return err
	}
	s, err := startSystem(ctx, true)
	if err != nil {
		return err
	}
	defer s.stop()
	hosts, err := self("swarm", o, "-server", s.addr)
	if err != nil {
		return err
	}
	defer hosts.stop()
	if l, err := hosts.line(ctx, 2*time.Minute); err != nil || l != "ready" {
		return fmt.Errorf("swarm: %q %w", l, err)
	}
	if err := wait(ctx, "the hosts on the roll", func() bool {
		return s.rdb.HLen(ctx, tasks.KeyOnline).Val() == int64(o.hosts)
	}); err != nil {
		return err
	}
	commands := map[string]int{}
	for i := range o.commands {
		commands[fmt.Sprintf("true %d", i)] = i
	}
	text, err := json.Marshal(commands)
	if err != nil {
		return err
	}
	var first, last, answer, report, closed []float64
	parts := map[string]*process{"redis": s.redis, "listener": s.listener, "worker": s.worker, "hosts": hosts}
	used := map[string]time.Duration{}
	for name, p := range parts {
		used[name] = -p.cpu()
	}
	for i := range o.rounds {
		key := tasks.Number(fmt.Sprintf("ACbench-%d", i))
		began := time.Now()
		err := s.rdb.XAdd(ctx, &redis.XAddArgs{Stream: tasks.KeyRequests, Values: []any{"key", string(key), "commands", text}}).Err()
		if err != nil {
			return err
		}
		l, err := hosts.line(ctx, time.Minute)
		if err != nil {
			return err
		}
		var r round
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			return err
		}
		if err := wait(ctx, "the end of "+string(key), func() bool {
			return s.rdb.HGet(ctx, tasks.KeyMeta(key), "state").Val() == string(tasks.Closed)
		}); err != nil {
			return err
		}
		meta := s.rdb.HMGet(ctx, tasks.KeyMeta(key), "done", "closed_ms").Val()
		if meta[0] != fmt.Sprint(o.hosts) {
			return fmt.Errorf("%s: %v of %d hosts are done", key, meta[0], o.hosts)
		}
		var ms int64
		if _, err := fmt.Sscan(meta[1].(string), &ms); err != nil {
			return err
		}
		since := func(ns int64) float64 { return float64(ns-began.UnixNano()) / 1e6 }
		first, last = append(first, since(r.FirstTold)), append(last, since(r.LastTold))
		answer, report = append(answer, since(r.LastAnswer)), append(report, since(r.LastReport))
		closed = append(closed, since(ms*1e6))
	}
	say("%d hosts, %d dispatches of %d command(s), all hosts done in each. Milliseconds, median (least to most):", o.hosts, o.rounds, o.commands)
	say("  floor: told by a plain loop, all answers read      %s", spread(floors))
	say("  request to first datagram                          %s", spread(first))
	say("  request to last datagram                           %s", spread(last))
	say("  request to last answer, in the ledger, confirmed   %s", spread(answer))
	say("  request to last report, in the ledger, confirmed   %s", spread(report))
	say("  request to ledger closed (Redis's clock, whole ms) %s", spread(closed))
	say("  last answer / floor, medians                       %.1f", median(answer)/median(floors))
	for _, name := range []string{"redis", "listener", "worker", "hosts"} {
		each := (used[name] + parts[name].cpu()).Seconds() * 1000 / float64(o.rounds)
		say("  processor time of %-8s a dispatch, heartbeats included %5.0f", name, each)
	}
	return nil
}

func median(v []float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return s[len(s)/2]
}

func spread(v []float64) string {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return fmt.Sprintf("%7.1f (%.1f to %.1f)", median(s), s[0], s[len(s)-1])
}

// measureFloor lets the hosts answer to a process that does nothing else.
func measureFloor(ctx context.Context, o options) ([]float64, error) {
	ref, err := self("floor", o)
	if err != nil {
		return nil, err
	}
	defer ref.stop()
	addr, err := ref.line(ctx, 10*time.Second)
	if err != nil {
		return nil, err
	}
	hosts, err := self("swarm", o, "-server", addr, "-old")
	if err != nil {
		return nil, err
	}
	defer hosts.stop()
	var list []float64
	for range o.rounds {
		l, err := ref.line(ctx, 2*time.Minute)
		if err != nil {
			return nil, err
		}
		var ms float64
		if _, err := fmt.Sscan(l, &ms); err != nil {
			return nil, err
		}
		list = append(list, ms)
	}
	return list, nil
}

// floor accepts the hosts, tells them by a plain loop and counts their answers.
func floor(ctx context.Context, o options) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say("%s", ln.Addr())
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	udp, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	defer udp.Close()
	answers := make(chan struct{}, o.hosts)
	var addrs []*net.UDPAddr
	for range o.hosts {
		conn, err := ln.Accept()
		if err != nil {
			return nil
		}
		addrs = append(addrs, &net.UDPAddr{IP: conn.RemoteAddr().(*net.TCPAddr).IP, Port: wire.DefaultUDPPort})
		go func() {
			defer conn.Close()
			dec := wire.NewDecoder(conn, 0)
			for {
				body, err := dec.Next()
				if err != nil {
					return
				}
				if m, err := wire.Decode(body, wire.OldClient); err == nil && m.Code() == wire.CodeAnswer {
					answers <- struct{}{}
				}
			}
		}()
	}
	time.Sleep(time.Second) // the swarm begins to listen
	for range o.rounds {
		began := time.Now()
		for _, a := range addrs {
			if _, err := udp.WriteToUDP([]byte("ACbench"), a); err != nil {
				return err
			}
		}
		for range addrs {
			select {
			case <-answers:
			case <-time.After(30 * time.Second):
				return fmt.Errorf("floor: datagrams were lost; fewer hosts, or a larger net.core.rmem_max")
			}
		}
		say("%f", float64(time.Since(began).Nanoseconds())/1e6)
	}
	<-ctx.Done()
	return nil
}

// runSwarm is the hosts. It says ready, and then a line for each dispatch that all
// of them have finished.
func runSwarm(ctx context.Context, o options) error {
	out := json.NewEncoder(os.Stdout)
	each := int64(2 + o.commands) // reports of a host in one dispatch
	var mu sync.Mutex
	var now round
	var answered, finished int
	rounds := make([]int64, o.hosts)
	doneAnswer := make([]int64, o.hosts)
	cfg := swarm.Config{
		Servers: []string{o.server}, Hosts: o.hosts, Heartbeat: o.heartbeat, Old: o.old,
		Told: func(int, string) {
			mu.Lock()
			defer mu.Unlock()
			at := time.Now().UnixNano()
			if now.FirstTold == 0 {
				now.FirstTold = at
			}
			now.LastTold = at
		},
		Confirmed: func(n int, seq int64) {
			mu.Lock()
			defer mu.Unlock()
			at := time.Now().UnixNano()
			if seq > rounds[n]*each && doneAnswer[n] == rounds[n] {
				doneAnswer[n]++
				if answered++; answered == o.hosts {
					now.LastAnswer, answered = at, 0
				}
			}
			if seq >= (rounds[n]+1)*each {
				rounds[n]++
				if finished++; finished == o.hosts {
					now.LastReport, finished = at, 0
					_ = out.Encode(now)
					now = round{}
				}
			}
		},
	}
	if o.old {
		cfg.UDPPort = wire.DefaultUDPPort
	}
	s, err := swarm.New(cfg)
	if err != nil {
		return err
	}
	err = s.Run(ctx, func() { say("ready") })
	if ctx.Err() != nil {
		return nil
	}
	return err
}
