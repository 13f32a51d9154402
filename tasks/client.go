package tasks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// What a dispatch is in the job queue.
const (
	JobType  = "muster:dispatch"
	JobQueue = "dispatch"
)

// Client asks for dispatches. It may be used by many goroutines.
type Client struct{ rdb redis.UniversalClient }

// NewClient returns a Client on rdb, which stays the caller's to close.
func NewClient(rdb redis.UniversalClient) *Client {
	return &Client{rdb}
}

// Redis returns the Redis client that c uses.
func (c *Client) Redis() redis.UniversalClient { return c.rdb }

// Dispatched is a dispatch that was asked for.
type Dispatched struct {
	Number  Number // the set will stand under it
	Request string // id of the request, which the set and the events name
	Absence        // who was not online just before
}

// Dispatch asks for a dispatch of d, which can be any value with its three methods, and
// may be called again with the same value or others at any time. It does not wait for a
// worker: Wait does. Who is offline is as it was just before; what the worker finds
// stands in the ledger.
//
// The error is an InvalidError if d is no good request, and a NotOverriddenError if it
// embeds Info and leaves a method out. A panic in one of its methods is an error, too.
// Nothing was asked for then. After an error of Redis it may have been: Redis may have
// taken the request, and its answer was lost.
func (c *Client) Dispatch(ctx context.Context, d Dispatchable) (Dispatched, error) {
	r, err := requestOf(d)
	if err != nil {
		return Dispatched{}, err
	}
	if r, err = r.Validate(); err != nil {
		return Dispatched{}, err
	}
	absence, err := NewRoll(c.rdb).Absence(ctx, r.Hosts)
	if err != nil {
		return Dispatched{}, err
	}
	request, err := c.Submit(ctx, r)
	if err != nil {
		return Dispatched{}, err
	}
	if r.Key == "" {
		r.Key = NumberFor(request)
	}
	return Dispatched{r.Key, request, absence}, nil
}

// Submit asks for a dispatch of r and returns the request's id, under which a
// worker records what becomes of it. It does not wait for a worker. If r names no task
// number, it is NumberFor(request).
func (c *Client) Submit(ctx context.Context, r Request) (request string, err error) {
	r, err = r.Validate()
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	request = uuid.NewString()
	// A client of the queue makes the queue known only once in its life. This one may be
	// older than what Redis holds, and without the queue Wait and the page of the queue
	// would not find the job.
	queue := asynq.NewClientFromRedisClient(c.rdb)
	_, err = queue.EnqueueContext(ctx, asynq.NewTask(JobType, payload), asynq.Queue(JobQueue), asynq.TaskID(request))
	// Nobody else makes this id: if there is such a job already, the Redis client has
	// repeated a call whose answer was lost.
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return "", fmt.Errorf("enqueue request %s: %w", request, err)
	}
	return request, nil
}

// Online returns those of hosts that are online, each once, in the order given. With no
// host named it returns all that are online, in alphabetical order. The error is an
// InvalidError if one is no host id.
func (c *Client) Online(ctx context.Context, hosts ...string) ([]string, error) {
	view, err := NewRoll(c.rdb).View(ctx)
	if err != nil {
		return nil, err
	}
	var online []string
	note := func(page []Presence) error {
		for _, p := range page {
			if p.Online {
				online = append(online, p.Host)
			}
		}
		return nil
	}
	if len(hosts) == 0 {
		if err := view.Each(ctx, note); err != nil {
			return nil, err
		}
		slices.Sort(online)
		return slices.Compact(online), nil // one may come twice
	}
	if hosts, err = uniqueHosts(hosts); err != nil {
		return nil, err
	}
	if err := view.LocateAll(ctx, hosts, note); err != nil {
		return nil, err
	}
	return online, nil
}

// NumberFor is the task number of a request that names none: AC and its id where that
// has the form, as the ids of entries and of jobs have, else what is left of it and a
// hash that keeps it distinct.
func NumberFor(request string) Number {
	const most, hashed = 62, 12
	clean := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
			return c
		}
		return '-'
	}, request)
	if clean != request || clean == "" || len(clean) > most {
		sum := sha256.Sum256([]byte(request))
		clean = clean[:min(len(clean), most-hashed-1)] + "-" + hex.EncodeToString(sum[:])[:hashed]
	}
	return Number("AC" + clean)
}
