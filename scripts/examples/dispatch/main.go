// Command dispatch dispatches from Go, waits for the end and prints what became of it:
//
//	go run ./scripts/examples/dispatch '{"uptime": 10, "df -h": 5}' web-1 web-2
//
// The commands are a JSON object of command and priority; the highest priority runs
// first. Without a host every one that is online is meant. REDIS_URL names the Redis.
// Status: 0 every host is done, 1 some host is not, or there is none, 2 the request was
// rejected.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// job is a value that can be dispatched. With tasks.Info in it a method that was
// forgotten is an error, and never every host.
type job struct {
	tasks.Info
	commands map[string]float64
	hosts    []string
}

func (j job) IPList() []string                { return j.hosts }
func (j job) DisCommands() map[string]float64 { return j.commands }
func (j job) Key() string                     { return "" } // a task number is made

func main() {
	err := run(context.Background(), os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	var invalid *tasks.InvalidError   // seen before it was sent
	var rejected *tasks.RejectedError // seen by a worker: the number was in use, say
	if errors.As(err, &invalid) || errors.As(err, &rejected) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: dispatch COMMANDS [HOST...]")
	}
	j := job{hosts: args[1:]}
	if err := json.Unmarshal([]byte(args[0]), &j.commands); err != nil {
		return fmt.Errorf("the commands: %w", err)
	}
	options, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379"))
	if err != nil {
		return err
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()
	client := tasks.NewClient(rdb)

	d, err := client.Dispatch(ctx, j)
	if err != nil {
		return err
	}
	if len(d.Offline) > 0 || d.Nobody {
		fmt.Fprintln(os.Stderr, "offline:", cmp.Or(strings.Join(d.Offline, " "), "everyone"))
	}
	ledger, err := client.Wait(ctx, d)
	if err != nil {
		return err
	}

	fmt.Println(d.Number, "is closed")
	store := tasks.NewStore(rdb, tasks.StoreConfig{})
	err = store.Hosts(ctx, d.Number, func(page []tasks.HostState) error {
		for _, h := range page {
			fmt.Printf("%s\t%s\n", h.Host, h.State)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = store.Results(ctx, d.Number, "", func(r tasks.Result) error {
		fmt.Printf("%s  exit %d  %s\n%s%s", r.Host, r.ExitCode, r.Command, r.Stdout, r.Stderr)
		return nil
	})
	if err == nil && (ledger.Total == 0 || ledger.Counts[tasks.Done] < ledger.Total) {
		err = errors.New("not every host is done")
	}
	return err
}
