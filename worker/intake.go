package worker

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/tasks"
)

// group is the consumer group of all workers on the stream of requests. A worker that
// lives asks for entries every second or so.
const group = "muster"

const (
	readCount  = 16              // entries a read; an entry may be 20 MiB
	readBlock  = time.Second     // a cancelled context does not interrupt the wait
	claimEvery = time.Second     // how often entries of others are looked for
	claimIdle  = 2 * time.Second // how long an entry may be with one worker
	tidyEvery  = 10 * time.Minute
	tidyIdle   = time.Hour // after which a consumer with nothing pending is forgotten

	// retentionMost bounds how long the id of a finished job is held against a second
	// job of an entry that is still pending: as long as sets are kept, at most. While the
	// set itself is there, it tells that the request was carried out.
	retentionMost = 10 * time.Minute
	jobRetries    = 1000

	// allQueues is where the job queue's library keeps the names of queues, from which
	// its inspector and its page know them.
	allQueues = "asynq:queues"

	// headerRefused carries the reason why a request is rejected whatever its payload.
	headerRefused = "muster-refused"
)

//go:embed lua/forget.lua
var forgetLua string

var forgetScript = script.New(forgetLua) // never changes

// intake turns entries of the stream of requests into jobs.
//
//	           ┌─────────── XREADGROUP ───────────┐
//	stream ────┤                                  ├──> job (id = entry id) ──> XACK, XDEL
//	           └─ XAUTOCLAIM, after 2 s elsewhere ┘
//
// An entry is given up only after its job exists, and the queue takes a job id only
// once: cut short anywhere, an entry is read again and becomes no second job.
type intake struct {
	rdb, reader redis.UniversalClient
	queue       *asynq.Client
	consumer    string // unique to this intake
	log         logrus.FieldLogger
	outage      *outage.Part
	retain      time.Duration // of finished jobs

	emptied    func(context.Context)   // called when Redis has lost what it held; may be nil
	done       func(step string) error // see dispatcher.after
	known      bool                    // this consumer was in the group
	joined     bool                    // the group is known to exist
	own        bool                    // entries may be pending with this consumer
	claimAfter time.Time
	tidyAfter  time.Time

	taking atomic.Bool // the last round went well
	took   func()      // called after each that did
}

func newIntake(cfg Config, away *outage.Part) *intake {
	host, _ := os.Hostname() // for people only
	var random [8]byte
	rand.Read(random[:])
	return &intake{
		rdb: cfg.Redis, reader: cfg.Reader, log: cfg.Log,
		consumer: fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(random[:])),
		outage:   away, retain: min(cfg.Keep, retentionMost),
		done: func(string) error { return nil },
		took: func() {},
	}
}

// run works until ctx ends, or round, which is called each time, fails.
func (in *intake) run(ctx context.Context, round func() error) error {
	in.joined = false // the run before may have failed anywhere
	defer in.taking.Store(false)
	for ctx.Err() == nil {
		if err := round(); err != nil {
			return err
		}
		err := in.round(ctx)
		in.taking.Store(err == nil)
		if err != nil {
			// Redis may have been emptied, and a reply with entries may have been lost.
			in.joined = false
			if in.known && groupGone(err) {
				in.lost(ctx)
				continue
			}
			in.outage.Failed(ctx, err)
			continue
		}
		in.outage.Works()
		in.took()
	}
	in.leave(context.WithoutCancel(ctx))
	return nil
}

// round takes up what there is, or waits for it a second.
func (in *intake) round(ctx context.Context) error {
	if !in.joined {
		if err := in.join(ctx); err != nil {
			return err
		}
	}
	now := time.Now()
	if now.After(in.claimAfter) {
		if err := in.claim(ctx); err != nil {
			return err
		}
		in.claimAfter = now.Add(claimEvery)
	}
	if now.After(in.tidyAfter) {
		if err := in.tidy(ctx); err != nil {
			return err
		}
		in.tidyAfter = now.Add(tidyEvery)
	}
	if in.own {
		return in.takeOwn(ctx)
	}
	entries, err := in.read(ctx, ">")
	if err != nil {
		return err
	}
	return in.take(ctx, entries)
}

// join makes sure that the group exists. It begins at 0: requests that were there
// before the first worker are not passed over.
func (in *intake) join(ctx context.Context) error {
	err := in.rdb.XGroupCreateMkStream(ctx, tasks.KeyRequests, group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return fmt.Errorf("join the group of workers: %w", err)
	}
	// A client of the queue makes the queue known only once in its life, and in an
	// emptied Redis it is not: neither is it by clients elsewhere, so it is here.
	in.queue = asynq.NewClientFromRedisClient(in.rdb)
	if err := in.rdb.SAdd(ctx, allQueues, tasks.JobQueue).Err(); err != nil {
		return fmt.Errorf("make the job queue known: %w", err)
	}
	if err := in.enter(ctx); err != nil {
		return err
	}
	in.joined, in.own = true, true
	in.claimAfter = time.Time{}
	return nil
}

// enter makes this consumer known to the group. If it was, and is no longer, Redis has
// been emptied.
func (in *intake) enter(ctx context.Context) error {
	made, err := in.rdb.XGroupCreateConsumer(ctx, tasks.KeyRequests, group, in.consumer).Result()
	if err != nil {
		return fmt.Errorf("join the group of workers: %w", err)
	}
	if in.known && made > 0 {
		in.lost(ctx)
	}
	in.known = true
	return nil
}

// lost tells that Redis has been emptied.
func (in *intake) lost(ctx context.Context) {
	in.known = false
	in.log.Warn("Redis has lost what it held")
	if in.emptied != nil {
		in.emptied(ctx)
	}
}

// groupGone reports whether err is Redis's answer that the group, or the whole stream,
// is not there any more.
func groupGone(err error) bool {
	return redis.HasErrorPrefix(err, "NOGROUP") || redis.HasErrorPrefix(err, "UNBLOCKED")
}

// read reads entries: with ">" new ones, with "0" those pending with this consumer.
func (in *intake) read(ctx context.Context, from string) ([]entry, error) {
	cmd := redis.NewCmd(ctx, "XREADGROUP", "GROUP", group, in.consumer, "COUNT", readCount,
		"BLOCK", readBlock.Milliseconds(), "STREAMS", tasks.KeyRequests, from)
	cmd.SetFirstKeyPos(9) // for a cluster
	err := in.reader.Process(ctx, cmd)
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read requests: %w", err)
	}
	return parseRead(cmd.Val())
}

// takeOwn takes up what is pending with this consumer: entries whose job could not
// be made, or whose reply was lost.
func (in *intake) takeOwn(ctx context.Context) error {
	entries, err := in.read(ctx, "0")
	if err != nil {
		return err
	}
	in.own = len(entries) > 0
	return in.take(ctx, entries)
}

// claim takes up entries that a worker has had for too long: it is dead, or was cut
// off from Redis.
func (in *intake) claim(ctx context.Context) error {
	from := "0-0"
	for {
		cmd := redis.NewCmd(ctx, "XAUTOCLAIM", tasks.KeyRequests, group, in.consumer,
			claimIdle.Milliseconds(), from, "COUNT", readCount)
		if err := in.rdb.Process(ctx, cmd); err != nil {
			return fmt.Errorf("claim requests: %w", err)
		}
		next, entries, gone, err := parseClaim(cmd.Val())
		if err != nil {
			return err
		}
		if gone {
			in.own = true // there they have their ids, and can be acknowledged
		}
		if err := in.take(ctx, entries); err != nil {
			return err
		}
		if next == "0-0" || next == "" {
			return nil
		}
		from = next
	}
}

// take makes the jobs of entries and gives the entries up. What has been read is
// finished also when ctx ends meanwhile.
func (in *intake) take(ctx context.Context, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	finish := context.WithoutCancel(ctx)
	var failed error
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		if err := in.enqueue(finish, e); err != nil {
			failed = err
			if ctx.Err() != nil {
				break // another worker will have it
			}
			continue // one that can't be enqueued must not keep the others
		}
		ids = append(ids, e.id)
	}
	if err := in.done("enqueue"); err != nil {
		return err
	}
	if len(ids) > 0 {
		_, err := in.rdb.TxPipelined(finish, func(p redis.Pipeliner) error {
			p.XAck(finish, tasks.KeyRequests, group, ids...)
			p.XDel(finish, tasks.KeyRequests, ids...)
			return nil
		})
		if err != nil {
			return fmt.Errorf("acknowledge requests: %w", err)
		}
	}
	return failed
}

// enqueue makes the job of an entry. That there is one already is as good.
func (in *intake) enqueue(ctx context.Context, e entry) error {
	if e.fields == nil {
		return nil // it was deleted while it was pending
	}
	var job *asynq.Task
	if size := e.size(); size > maxEntry {
		reason := fmt.Sprintf("the request has %d bytes, want at most %d", size, maxEntry)
		job = asynq.NewTaskWithHeaders(tasks.JobType, e.keyPayload(), map[string]string{headerRefused: reason})
	} else {
		job = asynq.NewTask(tasks.JobType, e.payload())
	}
	_, err := in.queue.EnqueueContext(ctx, job, asynq.TaskID(e.id), asynq.Queue(tasks.JobQueue),
		asynq.MaxRetry(jobRetries), asynq.Retention(in.retain))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("make a job of request %s: %w", e.id, err)
	}
	return nil
}

// tidy forgets the consumers of workers that are long gone.
func (in *intake) tidy(ctx context.Context) error {
	consumers, err := in.rdb.XInfoConsumers(ctx, tasks.KeyRequests, group).Result()
	if err != nil {
		return fmt.Errorf("other workers: %w", err)
	}
	for _, c := range consumers {
		if c.Name != in.consumer && c.Idle > tidyIdle && c.Pending == 0 {
			if err := in.forget(ctx, c.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *intake) forget(ctx context.Context, consumer string) error {
	results, err := script.Run(ctx, in.rdb, script.Call{
		Script: forgetScript, Keys: []string{tasks.KeyRequests}, Args: []any{group, consumer},
	})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return fmt.Errorf("forget worker %s: %w", consumer, err)
	}
	return nil
}

// leave finishes what is pending with this consumer and removes it. What can't be
// finished stays, for another worker to claim.
func (in *intake) leave(ctx context.Context) {
	if !in.joined || in.outage.On() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	in.own = true
	for in.own {
		if err := in.takeOwn(ctx); err != nil {
			in.log.WithError(err).Warn("left requests to other workers")
			return
		}
	}
	if err := in.forget(ctx, in.consumer); err != nil {
		in.log.WithError(err).Warn("left its name in the group of workers")
	}
}
