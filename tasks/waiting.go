package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

//go:embed lua/await.lua
var awaitLua string

//go:embed lua/wake.lua
var wakeLua string

// The scripts; values that never change.
var (
	awaitScript = script.New(awaitLua)
	wakeScript  = script.New(ledgerLua, wakeLua)
)

// Await notes for hosts, at most Chunk, that a set waits for them to come online. It
// comes before Enlist writes them as waiting: a host that is written is noted.
func (s *Store) Await(ctx context.Context, n Number, deadline time.Time, hosts []string) error {
	expire := deadline.Add(s.cfg.Keep).UnixMilli()
	calls := make([]script.Call, len(hosts))
	for i, h := range hosts {
		calls[i] = script.Call{Script: awaitScript, Keys: []string{KeyWaiting(h)}, Args: []any{string(n), expire}}
	}
	results, err := script.Run(ctx, s.rdb, calls...)
	if err == nil {
		for _, r := range results {
			if r.Err != nil {
				err = r.Err
			}
		}
	}
	if err != nil {
		return fmt.Errorf("note hosts that %s waits for: %w", n, err)
	}
	return nil
}

// unawait strikes a set from what hosts are noted for.
func (s *Store) unawait(ctx context.Context, n Number, hosts []string) error {
	if len(hosts) == 0 {
		return nil
	}
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, h := range hosts {
			p.SRem(ctx, KeyWaiting(h), string(n))
		}
		return nil
	})
	if script.Transient(err) {
		return fmt.Errorf("strike what waits for hosts of %s: %w", n, err)
	}
	return nil // a key of another type is no list of muster's
}

// Awaited calls visit with the numbers of the sets that wait for a host, some hundreds
// at a time, in no order. A number can come twice.
func (s *Store) Awaited(ctx context.Context, host string, visit func([]Number) error) error {
	var cursor uint64
	for {
		page, next, err := s.rdb.SScan(ctx, KeyWaiting(host), cursor, "", Chunk).Result()
		if err != nil {
			return fmt.Errorf("what waits for %s: %w", host, err)
		}
		numbers := make([]Number, 0, len(page))
		for _, p := range page {
			numbers = append(numbers, Number(p))
		}
		if err := visit(numbers); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Woken is a set that no longer waits for a host.
type Woken struct {
	Number  Number
	Created time.Time
}

// Wake takes a host that has come online from waiting to sent in those of the sets, at
// most Chunk, that wait for it, and returns these: it is to be sent their numbers. What
// needs no more waiting is struck. A set that is still being prepared goes on waiting.
func (s *Store) Wake(ctx context.Context, host string, sets []Number) ([]Woken, error) {
	calls := make([]script.Call, len(sets))
	for i, n := range sets {
		calls[i] = script.Call{Script: wakeScript, Keys: sendsKeys(n), Args: []any{host}}
	}
	results, err := script.Run(ctx, s.rdb, calls...)
	if err != nil {
		return nil, fmt.Errorf("wake %s: %w", host, err)
	}
	var woken []Woken
	var names []string
	var over []any
	for i, r := range results {
		reply, _ := r.Value.([]any)
		switch {
		case r.Err != nil || text(reply, 0) == "drop": // a key that is something else is no set
			over = append(over, string(sets[i]))
		case text(reply, 0) == "send":
			woken = append(woken, Woken{sets[i], unixMilli(text(reply, 1))})
			names = append(names, string(sets[i]))
			over = append(over, string(sets[i]))
		}
	}
	// They are looked after from now on, and only then struck.
	if err := s.due.Put(ctx, s.cfg.RetryAfter, names...); err != nil {
		return nil, fmt.Errorf("wake %s: %w", host, err)
	}
	if len(over) > 0 {
		if err := s.rdb.SRem(ctx, KeyWaiting(host), over...).Err(); err != nil {
			return nil, fmt.Errorf("wake %s: %w", host, err)
		}
	}
	return woken, nil
}
