package tasks

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

// What a page that shows many sets, or much of one, reads.

// CountSets is how many sets there are.
func (s *Store) CountSets(ctx context.Context) (int64, error) {
	n, err := s.rdb.ZCard(ctx, KeySets).Result()
	if err != nil {
		return 0, fmt.Errorf("count task sets: %w", err)
	}
	return n, nil
}

// Sets calls visit with the numbers of the sets that there are, some hundreds at a time,
// in no order. A number can come twice, and the keys of a set whose keep is over may be
// gone already.
func (s *Store) Sets(ctx context.Context, visit func([]Number) error) error {
	var cursor uint64
	for {
		page, next, err := s.rdb.ZScan(ctx, KeySets, cursor, "", Chunk).Result()
		if err != nil {
			return fmt.Errorf("task sets: %w", err)
		}
		numbers := make([]Number, 0, len(page)/2)
		for i := 0; i+1 < len(page); i += 2 {
			numbers = append(numbers, Number(page[i]))
		}
		if err := visit(numbers); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Ledgers reads the heads of sets, in their order, in one round trip: some hundreds at
// most. One that is not in Redis has its Number only, and no Stage.
func (s *Store) Ledgers(ctx context.Context, numbers []Number) ([]Ledger, error) {
	ledgers, _, err := s.ledgers(ctx, numbers, false)
	return ledgers, err
}

// LedgersAndResults reads the heads of sets as Ledgers does, and in the same round trip
// how many results each set has. Those only ever become more.
func (s *Store) LedgersAndResults(ctx context.Context, numbers []Number) (ledgers []Ledger, results []int64, err error) {
	return s.ledgers(ctx, numbers, true)
}

func (s *Store) ledgers(ctx context.Context, numbers []Number, count bool) ([]Ledger, []int64, error) {
	if len(numbers) == 0 {
		return nil, nil, nil
	}
	metas := make([]*redis.MapStringStringCmd, len(numbers))
	counts := make([]*redis.IntCmd, len(numbers))
	err := s.pipelined(ctx, func(p redis.Pipeliner) {
		for i, n := range numbers {
			metas[i] = p.HGetAll(ctx, KeyMeta(n))
			if count {
				counts[i] = p.XLen(ctx, KeyResults(n))
			}
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("ledgers of %d task sets: %w", len(numbers), err)
	}
	ledgers := make([]Ledger, len(numbers))
	results := make([]int64, len(numbers))
	for i, n := range numbers {
		ledgers[i].Number = n
		if meta := metas[i].Val(); meta["state"] != "" {
			ledgers[i] = parseLedger(n, meta)
		}
		if count {
			results[i] = counts[i].Val()
		}
	}
	return ledgers, results, nil
}

// Commands are the commands of a set in the order in which they run.
func (s *Store) Commands(ctx context.Context, n Number) ([]Command, error) {
	list, err := s.rdb.ZRevRangeWithScores(ctx, KeySet(n), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("commands of %s: %w", n, err)
	}
	commands := make([]Command, len(list))
	for i, z := range list {
		line, _ := z.Member.(string)
		commands[i] = Command{line, z.Score}
	}
	return commands, nil
}

// Progress is how far a host of a set is.
type Progress struct {
	Host     string
	State    State  // empty: it is not in the set
	Working  string // the command that runs now, empty if none is known to
	Complete int64  // how many commands have ended
	Sends    int    // sends that were counted, 0 for the first one alone; an old client gets but that
}

// Progress tells how far hosts of a set are, in their order, in one round trip: some
// hundreds at most. The Sends are read before the State, never after an answer in it.
func (s *Store) Progress(ctx context.Context, n Number, hosts []string) ([]Progress, error) {
	if len(hosts) == 0 {
		return nil, nil
	}
	var states, working, sends *redis.SliceCmd
	ended := make([]*redis.IntCmd, len(hosts))
	err := s.pipelined(ctx, func(p redis.Pipeliner) {
		// The sends first: one that is counted between the two would seem to be before an
		// answer that it was behind.
		sends = p.HMGet(ctx, KeySends(n), hosts...)
		states = p.HMGet(ctx, KeyHosts(n), hosts...)
		working = p.HMGet(ctx, KeyWorking(n), hosts...)
		for i, h := range hosts {
			ended[i] = p.LLen(ctx, KeyCompleteOf(n, h))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("progress of %s: %w", n, err)
	}
	list := make([]Progress, len(hosts))
	for i, h := range hosts {
		list[i] = Progress{Host: h, State: State(text(states.Val(), i)), Working: text(working.Val(), i), Complete: ended[i].Val()}
		list[i].Sends = parseSends(text(sends.Val(), i))
	}
	return list, nil
}

// Resent tells for how many hosts of a set at least two sends of its number were counted,
// three, and so on, [0] being those of two. It reads about most hosts; all is false if
// there are more.
func (s *Store) Resent(ctx context.Context, n Number, most int) (hosts []int, all bool, err error) {
	seen, read := map[string]bool{}, 0
	var cursor uint64
	for {
		page, next, err := s.rdb.HScan(ctx, KeySends(n), cursor, "", Chunk).Result()
		if err != nil {
			return nil, false, fmt.Errorf("sends of %s: %w", n, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			if seen[page[i]] { // one can come twice
				continue
			}
			seen[page[i]] = true
			count := parseSends(page[i+1])
			for k := 2; k <= min(count, MaxAttempts); k++ {
				if len(hosts) < k-1 {
					hosts = append(hosts, 0)
				}
				hosts[k-2]++
			}
		}
		read += len(page) / 2
		if cursor = next; cursor == 0 {
			return hosts, true, nil
		}
		if read >= most {
			return hosts, false, nil
		}
	}
}

// parseSends is how many sends were counted for a host, from its entry in {AC131}:sends.
func parseSends(entry string) int {
	count, _, _ := strings.Cut(entry, ":")
	n, _ := strconv.Atoi(count)
	return n
}

// ResultsAt reads results by their ids, in their order, in one round trip. One that is no
// longer there has no ID. With outputs at their limit each is 128 KiB: ask for some tens.
func (s *Store) ResultsAt(ctx context.Context, n Number, ids []string) ([]Result, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	entries := make([]*redis.XMessageSliceCmd, len(ids))
	err := s.pipelined(ctx, func(p redis.Pipeliner) {
		for i, id := range ids {
			entries[i] = p.XRangeN(ctx, KeyResults(n), id, id, 1)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("results of %s: %w", n, err)
	}
	results := make([]Result, len(ids))
	for i := range ids {
		if found := entries[i].Val(); len(found) == 1 {
			results[i] = parseResult(found[0])
		}
	}
	return results, nil
}

// pipelined sends many reads at once. A key of the wrong type fails its own command only,
// which is then without a value; the error says that Redis did not answer.
func (s *Store) pipelined(ctx context.Context, add func(redis.Pipeliner)) error {
	cmds, _ := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		add(p)
		return nil
	})
	for _, cmd := range cmds {
		if script.Transient(cmd.Err()) {
			return cmd.Err()
		}
	}
	return nil
}
