package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/outage"
	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

// janitorEvery lets the queue forget 100 finished jobs a second.
const janitorEvery = time.Second

func (w *Worker) serverConfig(jobs context.Context, d *dispatcher, away *outage.Part) asynq.Config {
	return asynq.Config{
		Concurrency:              w.cfg.Concurrency,
		Queues:                   map[string]int{tasks.JobQueue: 1},
		TaskCheckInterval:        w.cfg.PollInterval,
		DelayedTaskCheckInterval: time.Second,
		JanitorInterval:          janitorEvery,
		RetryDelayFunc:           retryDelay,
		BaseContext:              func() context.Context { return jobs },
		ErrorHandler:             asynq.ErrorHandlerFunc(d.logFailure),
		Logger:                   queueLog{w.cfg.Log, away},
		LogLevel:                 asynq.InfoLevel,
	}
}

// retryDelay is how long a job that failed for the nth time waits: a second, since
// most of what fails a job is a Redis that is about to come back, and a minute at
// most.
func retryDelay(n int, _ error, _ *asynq.Task) time.Duration {
	const patient = 5
	if n < patient {
		return time.Second
	}
	return min(time.Second<<min(n-patient+1, 6), time.Minute)
}

// patient is a client for the job queue, whose library asks again at once when it
// was refused: a Redis that is full would be asked thousands of times a second.
type patient struct{ redis.UniversalClient }

const refusedWait = 250 * time.Millisecond

// EvalSha implements redis.Scripter. All that the queue asks in a loop is a script.
func (p patient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	cmd := p.UniversalClient.EvalSha(ctx, sha, keys, args...)
	if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		pause.For(ctx, refusedWait)
	}
	return cmd
}

// queueLog is what the job queue's library logs to. It speaks of its own inner life
// at the level info, and repeats itself every few seconds while Redis is away.
type queueLog struct {
	log  logrus.FieldLogger
	away *outage.Part
}

func (l queueLog) write(level func(logrus.FieldLogger, string), args []any) {
	text := strings.TrimSpace(fmt.Sprint(args...))
	log := l.log.WithField("detail", text)
	// A job that is given up for good has been logged with its reason, and that Redis
	// can't be worked with is said once, by the worker itself.
	if l.away.On() || strings.HasPrefix(text, "Retry exhausted") || strings.Contains(text, "redis") {
		log.Debug(queueSays)
		return
	}
	level(log, queueSays)
}

const queueSays = "job queue"

// Debug drops the message: there is one each time that an idle queue is asked.
func (l queueLog) Debug(...any) {}

// Info logs at the level debug.
func (l queueLog) Info(args ...any) {
	l.write(func(log logrus.FieldLogger, s string) { log.Debug(s) }, args)
}

// Warn logs at the level warning.
func (l queueLog) Warn(args ...any) {
	l.write(func(log logrus.FieldLogger, s string) { log.Warn(s) }, args)
}

// Error logs at the level error.
func (l queueLog) Error(args ...any) {
	l.write(func(log logrus.FieldLogger, s string) { log.Error(s) }, args)
}

// Fatal logs at the level error: only main ends the process.
func (l queueLog) Fatal(args ...any) { l.Error(args...) }
