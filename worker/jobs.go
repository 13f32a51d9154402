package worker

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/tasks"
)

const (
	jobHeld  = 3 * time.Second // how long a job is believed to be worked on
	jobRenew = time.Second     // how often that is said again
	// A job that is active and of which nobody says that he works on it was taken a
	// moment ago, or its worker died before it could say so.
	jobNoted  = 2 * time.Second
	jobsEvery = 500 * time.Millisecond
	// So long must Redis have answered before jobs are taken from others: while it was
	// away nobody could say anything.
	jobsCalm = jobHeld
)

//go:embed lua/reclaim.lua
var reclaimLua string

var reclaimScript = script.New(reclaimLua) // never changes

// jobs sees to it that a job goes on soon when its worker dies. The job queue itself
// takes up to two minutes for it.
//
//	{muster}:jobs   job -> until when it is worked on
//
//	taken:     held, and renewed while it runs ──> struck at its end
//	died:      not renewed ──> due after 3 s ──> given back to the queue by any worker
//
// A worker that was only slow, or cut off, may go on all the same: a job may run beside
// itself.
type jobs struct {
	rdb    redis.UniversalClient
	agenda *tasks.Agenda
	log    logrus.FieldLogger
	away   *outage.Part

	mu      sync.Mutex
	running map[string]int // runs here by job
}

func newJobs(rdb redis.UniversalClient, log logrus.FieldLogger, away *outage.Part) *jobs {
	return &jobs{
		rdb: rdb, agenda: tasks.NewAgenda(rdb, tasks.KeyJobs), log: log, away: away, running: map[string]int{},
	}
}

// hold says that a job is worked on here, until release is called.
func (j *jobs) hold(ctx context.Context, job string) (release func(), err error) {
	if err := j.agenda.Hold(ctx, jobHeld, job); err != nil {
		return nil, err
	}
	j.mu.Lock()
	j.running[job]++
	j.mu.Unlock()
	return func() { j.release(context.WithoutCancel(ctx), job) }, nil
}

// release says no longer that a job is worked on here. Where it can't be said it comes
// due, and the job is found to be over.
func (j *jobs) release(ctx context.Context, job string) {
	j.mu.Lock()
	j.running[job]--
	last := j.running[job] == 0
	if last {
		delete(j.running, job)
	}
	j.mu.Unlock()
	if last {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = j.agenda.Strike(ctx, job)
	}
}

// renew says again what is worked on here, until ctx ends or round, which is called each
// time, fails.
func (j *jobs) renew(ctx context.Context, round func() error) error {
	for ctx.Err() == nil {
		if err := round(); err != nil {
			return err
		}
		j.mu.Lock()
		held := slices.Collect(maps.Keys(j.running))
		j.mu.Unlock()
		if len(held) > 0 {
			_ = j.agenda.Hold(ctx, jobHeld, held...) // others of this worker say that Redis is away
		}
		pause.For(ctx, jobRenew)
	}
	return nil
}

// watch gives jobs of dead workers back to the queue, until ctx ends or round, which is
// called each time, fails.
func (j *jobs) watch(ctx context.Context, round func() error) error {
	var since time.Time // of the first answer after the last failure
	for ctx.Err() == nil {
		if err := round(); err != nil {
			return err
		}
		if err := j.look(ctx, !since.IsZero() && time.Since(since) >= jobsCalm); err != nil {
			since = time.Time{}
			j.away.Failed(ctx, err)
			continue
		}
		j.away.Works()
		if since.IsZero() {
			since = time.Now()
		}
		pause.For(ctx, jobsEvery)
	}
	return nil
}

// look notes jobs of which nobody says that he works on them; if may is true it gives
// back those that are due.
func (j *jobs) look(ctx context.Context, may bool) error {
	active, err := j.rdb.LRange(ctx, queueKey("active"), 0, tasks.Chunk-1).Result()
	if err != nil {
		return fmt.Errorf("active jobs: %w", err)
	}
	missing, err := j.agenda.Missing(ctx, active)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := j.agenda.Note(ctx, jobNoted, missing...); err != nil {
			return err
		}
	}
	if !may {
		return nil
	}
	due, err := j.agenda.Claim(ctx, tasks.Chunk)
	if err != nil {
		return err
	}
	for _, job := range due.Members {
		if err := j.reclaim(ctx, job); err != nil {
			return err
		}
		if err := j.agenda.Settle(ctx, due, job, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

func (j *jobs) reclaim(ctx context.Context, job string) error {
	results, err := script.Run(ctx, j.rdb, script.Call{
		Script: reclaimScript, Args: []any{job},
		Keys: []string{queueKey("active"), queueKey("lease"), queueKey("pending"), queueKey("t:" + job)},
	})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return fmt.Errorf("give job %s back: %w", job, err)
	}
	if results[0].Value == int64(1) {
		j.log.WithField("request", job).Warn("job of a dead worker given back to the queue")
	}
	return nil
}

// queueKey is a key of the job queue's library.
func queueKey(name string) string { return "asynq:{" + tasks.JobQueue + "}:" + name }
