// Command muster keeps the roll of a fleet and sets it to work.
//
// It is the only place that reads flags and the environment, sees signals, writes to
// the terminal and wires the packages together. A verb is a file: its flags, the
// Config that they fill, New and Run. What a verb prints goes to standard output,
// logs and errors go to standard error, and the exit status is one of exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	// A panic that nobody catches, and what else Go gives up on, would end with status 2.
	// That one means that the settings are wrong, which is no reason to start it again.
	debug.SetTraceback("crash")
	ctx, end := context.WithCancel(context.Background())
	signals, ctrlC := make(chan os.Signal, 1), &interrupts{}
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // as long as the process
		for s := range signals {
			if s == os.Interrupt && ctrlC.take() {
				continue
			}
			signal.Stop(signals) // a second signal ends the process at once
			end()
			return
		}
	}()
	os.Exit(run(withInterrupts(ctx, ctrlC), os.Args, os.Stdin, os.Stdout, os.Stderr, hangup))
}

// hangup has SIGHUP sent to a channel until done is called.
func hangup() (hung <-chan os.Signal, done func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}
