// Bench measures muster as a user would have it, a process each for Redis, listener,
// worker and hosts, against a reference in the same run.
//
//	go run ./scripts/bench connections   memory a connection, Redis commands a second
//	go run ./scripts/bench dispatch      request to first datagram, to last answer
//
// It needs Linux, redis-server, and open files for as many hosts as it is asked for.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags of all parts; each uses what it needs.
type options struct {
	hosts     int
	heartbeat time.Duration
	measure   time.Duration
	rounds    int
	commands  int
	old       bool
	server    string
}

func run(ctx context.Context, args []string) error {
	parts := map[string]func(context.Context, options) error{
		"connections": connections,
		"dispatch":    dispatch,
		// Processes that the two start.
		"bare": bare, "floor": floor, "swarm": runSwarm,
	}
	if len(args) == 0 || parts[args[0]] == nil {
		return fmt.Errorf("want connections or dispatch")
	}
	var o options
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.IntVar(&o.hosts, "hosts", 1000, "how many hosts")
	f.DurationVar(&o.heartbeat, "heartbeat", 5*time.Second, "between two heartbeats of a host")
	f.DurationVar(&o.measure, "for", 20*time.Second, "how long the steady state is watched")
	f.IntVar(&o.rounds, "rounds", 15, "how many dispatches are measured")
	f.IntVar(&o.commands, "commands", 1, "commands in a set")
	f.BoolVar(&o.old, "old", false, "old clients in place of agents")
	f.StringVar(&o.server, "server", "", "address of the listener")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	return parts[args[0]](ctx, o)
}
