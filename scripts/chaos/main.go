// Chaos runs muster, a process each for Redis, listeners, workers and agents, and kills,
// holds still, restarts and cuts off what it has started, while dispatches go on. Then
// it heals everything, waits until every ledger is closed, and counts.
//
//	go run ./scripts/chaos --seconds 60             a random mix
//	go run ./scripts/chaos --seed 7 --seconds 60    the same mix again
//
// The seed decides what is done in which order; when exactly it meets what, it can't.
// The exit status is 1 if a command was run twice, if something was lost, or if a ledger
// does not add up. It needs Linux and redis-server, and ends only what it has started.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errWrong):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
}

// errWrong says that something was counted that must not be.
var errWrong = errors.New("something must be 0 and is not")

type options struct {
	seed    uint64
	seconds int
	agents  int     // processes of muster agent
	hosts   int     // agent-like hosts in this process
	loss    float64 // share of the datagrams that these do not get
	rate    float64 // dispatches a second
	trouble int     // faults at the same time
	retry   time.Duration
	verbose bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o := options{}
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()%1_000_000), "what decides the mix")
	f.IntVar(&o.seconds, "seconds", 60, "how long faults and dispatches go on")
	f.IntVar(&o.agents, "agents", 6, "agents, a process each")
	f.IntVar(&o.hosts, "hosts", 100, "agent-like hosts in this process")
	f.Float64Var(&o.loss, "loss", 0.2, "share of datagrams that these do not get")
	f.Float64Var(&o.rate, "rate", 8, "dispatches a second")
	f.IntVar(&o.trouble, "faults", 3, "faults at the same time, at most")
	f.DurationVar(&o.retry, "retry-after", time.Second, "what the workers are given")
	f.BoolVar(&o.verbose, "v", false, "say what is done")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.seconds < 1 || o.seconds > 86_400 || o.agents < 2 || o.agents > 100 || o.hosts < 1 || o.hosts > 10_000 ||
		o.loss < 0 || o.loss >= 1 || o.rate <= 0 || o.rate > 1000 || o.trouble < 1 || o.trouble > 20 || f.NArg() > 0 {
		return errors.New("a flag is out of range")
	}
	fmt.Fprintf(out, "seed %d: %d s, %d agents, %d other hosts that lose %.0f%% of their datagrams\n",
		o.seed, o.seconds, o.agents, o.hosts, 100*o.loss)

	dir, err := os.MkdirTemp("", "muster-chaos-")
	if err != nil {
		return err
	}
	c, err := start(ctx, o, dir, out)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	v, err := c.whole(ctx)
	c.close()
	if err == nil {
		err = v.print(out, c)
	}
	again := fmt.Sprintf("go run ./scripts/chaos --seed %d --seconds %d --agents %d --hosts %d --loss %v --rate %v --faults %d --retry-after %v",
		o.seed, o.seconds, o.agents, o.hosts, o.loss, o.rate, o.trouble, o.retry)
	fmt.Fprintln(out, "again:", again)
	if err != nil {
		fmt.Fprintln(out, "logs:", dir)
		return err
	}
	return os.RemoveAll(dir)
}
