package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

const (
	// CensusSets is how many sets a census looks at, those with the nearest deadlines.
	CensusSets = 10_000
	// CensusLate is how long after its deadline a set that is not closed still counts:
	// workers close it within seconds, if there is any.
	CensusLate = 10 * time.Minute
)

// Census is what there is at one moment, in the whole fleet.
type Census struct {
	Hosts     int64 // online
	Listeners int64 // with a running lease

	Open       int64           // task sets that are not closed
	States     map[State]int64 // the hosts in these by their states; every state has an entry
	PassedOver int64           // sets that were not looked at, because they are more than CensusSets

	Requests int64         // entries of the stream of requests that are no job yet
	Oldest   time.Duration // age of the oldest of them, 0 if there is none
}

// Enumerator takes a census now and then. What it remembers in between are the sets that
// are closed, which it does not look at again: what a census costs depends on how many
// sets are open, and on how many have come since the last one. It is used by one goroutine
// at a time.
type Enumerator struct {
	rdb    redis.UniversalClient
	closed map[Number]float64 // and their deadlines: a number may be used again later
}

// NewEnumerator returns an Enumerator on rdb, which stays the caller's to close.
func NewEnumerator(rdb redis.UniversalClient) *Enumerator {
	return &Enumerator{rdb, map[Number]float64{}}
}

//go:embed lua/requests.lua
var requestsLua string

var requestsScript = script.New(requestsLua) // never changes

// Census counts. It takes some five round trips, and two more for each further thousand
// sets that have come since it was last called.
func (e *Enumerator) Census(ctx context.Context) (Census, error) {
	view, err := NewRoll(e.rdb).View(ctx)
	if err != nil {
		return Census{}, fmt.Errorf("census: %w", err)
	}
	c := Census{Listeners: int64(view.Listeners()), States: map[State]int64{}}
	for _, s := range States() {
		c.States[s] = 0
	}
	for _, count := range []func(context.Context, *View, *Census) error{e.hosts, e.requests, e.sets} {
		if err := count(ctx, view, &c); err != nil {
			return Census{}, fmt.Errorf("census: %w", err)
		}
	}
	return c, nil
}

// hosts counts those of listeners whose lease runs.
func (e *Enumerator) hosts(ctx context.Context, view *View, c *Census) error {
	var counts []*redis.IntCmd
	_, err := e.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for listener := range view.live {
			counts = append(counts, p.SCard(ctx, KeyAt(listener)))
		}
		return nil
	})
	for _, n := range counts {
		c.Hosts += n.Val()
	}
	return err
}

func (e *Enumerator) requests(ctx context.Context, view *View, c *Census) (err error) {
	c.Requests, c.Oldest, err = requestsAt(ctx, e.rdb, view.Now())
	return err
}

// RequestsWaiting is how many requests in the stream are no job yet, and the age of the
// oldest by Redis's clock, 0 if there is none. No request is read: one may have 20 MiB.
func RequestsWaiting(ctx context.Context, rdb redis.UniversalClient) (n int64, oldest time.Duration, err error) {
	now, err := rdb.Time(ctx).Result()
	if err == nil {
		n, oldest, err = requestsAt(ctx, rdb, now)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("requests that wait: %w", err)
	}
	return n, oldest, nil
}

func requestsAt(ctx context.Context, rdb redis.UniversalClient, now time.Time) (n int64, oldest time.Duration, err error) {
	reply, err := runScript(ctx, rdb, requestsScript, []string{KeyRequests}, nil)
	if err != nil {
		return 0, 0, err
	}
	ms, _, _ := strings.Cut(text(reply, 1), "-")
	if made := unixMilli(ms); !made.IsZero() {
		oldest = max(0, now.Sub(made))
	}
	return integer(reply, 0), oldest, nil
}

// sets looks at the sets that may be open.
func (e *Enumerator) sets(ctx context.Context, view *View, c *Census) error {
	from := strconv.FormatInt(view.Now().Add(-CensusLate).UnixMilli(), 10)
	list, err := e.rdb.ZRangeByScoreWithScores(ctx, KeySets, &redis.ZRangeBy{Min: from, Max: "+inf", Count: CensusSets}).Result()
	if err != nil {
		return err
	}
	if len(list) == CensusSets {
		all, err := e.rdb.ZCount(ctx, KeySets, from, "+inf").Result()
		if err != nil {
			return err
		}
		c.PassedOver = max(0, all-CensusSets)
	}
	closed := map[Number]float64{}
	var look []redis.Z
	for _, z := range list {
		name, _ := z.Member.(string)
		if deadline, known := e.closed[Number(name)]; known && deadline == z.Score {
			closed[Number(name)] = deadline
			continue
		}
		look = append(look, z)
	}
	for part := range slices.Chunk(look, Chunk) {
		over, err := e.look(ctx, part, c)
		if err != nil {
			return err
		}
		maps.Copy(closed, over)
	}
	e.closed = closed
	return nil
}

// look reads some sets, counts those that are open and returns the others.
func (e *Enumerator) look(ctx context.Context, sets []redis.Z, c *Census) (over map[Number]float64, err error) {
	fields := []string{"state"}
	for _, s := range States() {
		fields = append(fields, string(s))
	}
	heads := make([]*redis.SliceCmd, len(sets))
	_, err = e.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, z := range sets {
			name, _ := z.Member.(string)
			heads[i] = p.HMGet(ctx, KeyMeta(Number(name)), fields...)
		}
		return nil
	})
	if script.Transient(err) {
		return nil, err
	}
	over = map[Number]float64{}
	for i, z := range sets {
		name, _ := z.Member.(string)
		head := heads[i].Val()
		if len(head) < len(fields) || head[0] == nil || head[0] == string(Closed) {
			over[Number(name)] = z.Score // or gone, or of another type: no set of ours
			continue
		}
		c.Open++
		for j, s := range States() {
			value, _ := head[j+1].(string)
			n, _ := strconv.ParseInt(value, 10, 64)
			c.States[s] += n
		}
	}
	return over, nil
}
