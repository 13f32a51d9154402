package tasks

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// What a dispatch is in the job queue.
const (
	JobType  = "muster:dispatch"
	JobQueue = "dispatch"
)

// Dispatchable is any value that knows its hosts, its commands and its number.
type Dispatchable interface {
	IPList() []string                // empty: every host that is online
	DisCommands() map[string]float64 // command to priority
	Key() string                     // empty: a number is made
}

// Client asks for dispatches. It may be used by many goroutines.
type Client struct {
	rdb   redis.UniversalClient
	queue *asynq.Client
}

// NewClient returns a Client on rdb, which stays the caller's to close.
func NewClient(rdb redis.UniversalClient) *Client {
	return &Client{rdb: rdb, queue: asynq.NewClientFromRedisClient(rdb)}
}

// Redis returns the Redis client that c uses.
func (c *Client) Redis() redis.UniversalClient { return c.rdb }

// Dispatch asks for a dispatch of d and returns the request's id. It does not wait
// for a worker. The error is an InvalidError if d is no good request.
func (c *Client) Dispatch(ctx context.Context, d Dispatchable) (request string, err error) {
	r := Request{Key: Number(d.Key())}
	if hosts := d.IPList(); len(hosts) > 0 {
		r.Hosts = hosts
	}
	for line, priority := range d.DisCommands() {
		r.Commands = append(r.Commands, Command{line, priority})
	}
	return c.Submit(ctx, r)
}

// Submit asks for a dispatch of r and returns the request's id, under which a
// worker records what becomes of it. It does not wait for a worker.
func (c *Client) Submit(ctx context.Context, r Request) (request string, err error) {
	r, err = r.Validate()
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	job, err := c.queue.EnqueueContext(ctx, asynq.NewTask(JobType, payload), asynq.Queue(JobQueue))
	if err != nil {
		return "", fmt.Errorf("enqueue request: %w", err)
	}
	return job.ID, nil
}
