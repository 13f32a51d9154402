package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/faults"
	"github.com/musterhq/muster/tasks"
)

// connections measures what an idle connection costs: memory, against a listener
// that has a goroutine and a buffer of 512 bytes for it and nothing else, and Redis
// commands, calls inside scripts included.
func connections(ctx context.Context, o options) error {
	ref, err := self("bare", o)
	if err != nil {
		return err
	}
	defer ref.stop()
	addr, err := ref.line(ctx, 10*time.Second)
	if err != nil {
		return err
	}
	bareEach, err := measureMemory(ctx, ref, addr, o, nil, nil)
	if err != nil {
		return err
	}
	say("bare listener:   %6.0f bytes a connection (%d connections, heartbeat %v)", bareEach, o.hosts, o.heartbeat)

	s, err := startSystem(ctx, false)
	if err != nil {
		return err
	}
	defer s.stop()
	var commands int64
	each, err := measureMemory(ctx, s.listener, s.addr, o,
		func() bool { return s.rdb.HLen(ctx, tasks.KeyOnline).Val() == int64(o.hosts) },
		func() error {
			if err := s.rdb.ConfigResetStat(ctx).Err(); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(o.measure):
			}
			if n := s.rdb.HLen(ctx, tasks.KeyOnline).Val(); n != int64(o.hosts) {
				return fmt.Errorf("%d of %d hosts are on the roll at the end", n, o.hosts)
			}
			commands, err = commandCalls(ctx, s)
			return err
		})
	if err != nil {
		return err
	}
	say("muster listener: %6.0f bytes a connection, %.2f x the bare one", each, each/bareEach)
	say("redis:           %6.1f commands a second from the listener, over %v", float64(commands)/o.measure.Seconds(), o.measure)
	return nil
}

// measureMemory connects the hosts to p and returns its resident memory a
// connection in the steady state.
func measureMemory(ctx context.Context, p *process, addr string, o options, all func() bool, watch func() error) (float64, error) {
	before, err := faults.Memory(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	args := []string{"-server", addr}
	if o.old {
		args = append(args, "-old")
	}
	hosts, err := self("swarm", o, args...)
	if err != nil {
		return 0, err
	}
	defer hosts.stop()
	if l, err := hosts.line(ctx, 2*time.Minute); err != nil || l != "ready" {
		return 0, fmt.Errorf("swarm: %q %w", l, err)
	}
	if all != nil {
		if err := wait(ctx, "the hosts on the roll", all); err != nil {
			return 0, err
		}
	}
	select { // three heartbeats of each
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(3 * o.heartbeat):
	}
	if watch != nil {
		if err := watch(); err != nil {
			return 0, err
		}
	}
	after, err := faults.Memory(p.cmd.Process.Pid)
	return float64(after-before) / float64(o.hosts), err
}

func commandCalls(ctx context.Context, s *system) (int64, error) {
	info, err := s.rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, l := range strings.Split(info, "\n") {
		name, rest, ok := strings.Cut(l, ":calls=")
		var n int64
		if ok && name != "cmdstat_config|resetstat" {
			if _, err := fmt.Sscanf(rest, "%d", &n); err != nil {
				return 0, err
			}
		}
		sum += n
	}
	return sum, nil
}

// bare is the reference: a goroutine and a buffer a connection.
func bare(ctx context.Context, _ options) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say("%s", ln.Addr())
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 512)
			for {
				if _, err := conn.Read(buf); err != nil {
					return
				}
			}
		}()
	}
}
