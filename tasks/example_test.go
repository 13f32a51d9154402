package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// rollout is a value of an application that can be dispatched.
type rollout struct{ version string }

func (r rollout) IPList() []string { return []string{"web-1", "web-2"} }
func (r rollout) Key() string      { return "" } // one is made
func (r rollout) DisCommands() map[string]float64 {
	return map[string]float64{"./fetch " + r.version: 20, "./restart": 10}
}

// Asking for a dispatch from Go, and waiting for its end. It needs a Redis and a worker.
func ExampleClient_Dispatch() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()
	client := tasks.NewClient(rdb)

	d, err := client.Dispatch(ctx, rollout{"1.2"})
	var invalid *tasks.InvalidError
	switch {
	case errors.As(err, &invalid):
		log.Fatalf("the field %s is wrong: %s", invalid.Field, invalid.Reason)
	case err != nil:
		log.Fatal(err)
	}
	fmt.Println("dispatched as", d.Number, "and these are offline:", d.Offline)

	ledger, err := client.Wait(ctx, d)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ledger.Counts[tasks.Done], "of", ledger.Total, "are done")
}

// cleanup embeds Info and has forgotten to say on which hosts.
type cleanup struct{ tasks.Info }

func (cleanup) DisCommands() map[string]float64 { return map[string]float64{"rm -rf /tmp/cache": 1} }
func (cleanup) Key() string                     { return "ACcleanup" }

// A method that is not overridden fails the dispatch: nothing is sent.
func ExampleInfo() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()

	_, err := tasks.NewClient(rdb).Dispatch(context.Background(), cleanup{})
	fmt.Println(err)
	// Output: tasks: IPList is not overridden by tasks_test.cleanup
}

// Who is online.
func ExampleClient_Online() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()

	online, err := tasks.NewClient(rdb).Online(context.Background(), "web-1", "web-2")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(online), "of 2 hosts are online")
}

// Reading how far a task set is.
func ExampleStore_Ledger() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()

	ledger, err := tasks.NewStore(rdb, tasks.StoreConfig{}).Ledger(context.Background(), "AC131")
	if errors.Is(err, tasks.ErrNotFound) {
		log.Fatal("there is no such task set")
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, state := range tasks.States() {
		fmt.Println(state, ledger.Counts[state], "of", ledger.Total)
	}
}

func ExampleParseRequest() {
	r, err := tasks.ParseRequest([]byte(`{"key": "AC131", "commands": {"df -h": 5, "uptime": 10}, "hosts": ["web-1", "web-2", "web-1"]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range r.Commands {
		fmt.Println(c.Priority, c.Line)
	}
	fmt.Println(r.Hosts, r.Timeout, r.Deadline)

	_, err = tasks.ParseRequest([]byte(`{"commands": {"uptime": 10}, "hosts": []}`))
	fmt.Println(err)
	// Output:
	// 10 uptime
	// 5 df -h
	// [web-1 web-2] 10m0s 1h0m0s
	// hosts: an empty list; leave the field out for every host that is online
}

func ExampleParsePlace() {
	addr, listener, err := tasks.ParsePlace("[::1]:6655@l1")
	fmt.Println(addr, listener, err)
	// Output: [::1]:6655 l1 <nil>
}
