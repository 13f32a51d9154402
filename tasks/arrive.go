package tasks

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Arrived notes those of the hosts for which a task number waits, in KeyArrived by the
// time of Redis: a worker gives them what waits for them. It takes one round trip, and
// one more if something waits for any of them. It is safe to repeat after an error.
func (r *Roll) Arrived(ctx context.Context, hosts []string) error {
	if len(hosts) == 0 {
		return nil
	}
	var now *redis.TimeCmd
	waits := make([]*redis.IntCmd, len(hosts))
	_, err := r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, host := range hosts {
			waits[i] = p.Exists(ctx, KeyWaiting(host))
		}
		now = p.Time(ctx)
		return nil
	})
	if err != nil {
		return fmt.Errorf("what waits for hosts: %w", err)
	}
	var arrived []redis.Z
	for i, host := range hosts {
		if waits[i].Val() > 0 {
			arrived = append(arrived, redis.Z{Score: float64(now.Val().UnixMilli()), Member: host})
		}
	}
	if len(arrived) == 0 {
		return nil
	}
	if err := r.rdb.ZAdd(ctx, KeyArrived, arrived...).Err(); err != nil {
		return fmt.Errorf("note arrived hosts: %w", err)
	}
	return nil
}
