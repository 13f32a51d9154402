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
func (r rollout) Key() string      { return "AC-rollout-" + r.version }
func (r rollout) DisCommands() map[string]float64 {
	return map[string]float64{"./fetch " + r.version: 20, "./restart": 10}
}

// Asking for a dispatch from Go. It needs a Redis and a worker.
func ExampleClient_Dispatch() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()

	request, err := tasks.NewClient(rdb).Dispatch(context.Background(), rollout{"1.2"})
	var invalid *tasks.InvalidError
	switch {
	case errors.As(err, &invalid):
		log.Fatalf("the field %s is wrong: %s", invalid.Field, invalid.Reason)
	case err != nil:
		log.Fatal(err)
	}
	fmt.Println("the worker records what becomes of it under", request)
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
