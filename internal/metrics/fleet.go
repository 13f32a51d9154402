package metrics

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

const (
	fleetAgain = 2 * time.Second // a look at the fleet is shown for so long
	fleetTime  = 5 * time.Second // it may take
	jobsTime   = time.Second     // then each command that asks for the jobs may take
)

// fleet shows what there is in the whole fleet. Redis is asked when somebody asks for it.
type fleet struct {
	count *tasks.Enumerator
	queue *asynq.Inspector

	readable, hosts, listeners, sets, passedOver, states *prometheus.Desc
	requests, oldest, jobs, pending                      *prometheus.Desc

	mu    sync.Mutex
	asked time.Time
	seen  tasks.Census
	jobsN *asynq.QueueInfo // nil if there is no queue yet
	err   error
}

// AddFleet adds what is true of the whole fleet, whichever process says it. Config.Redis
// must be set.
func (s *Server) AddFleet() {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	s.cfg.Redis.AddHook(inTime{})
	s.registry.MustRegister(&fleet{
		count: tasks.NewEnumerator(s.cfg.Redis), queue: asynq.NewInspectorFromRedisClient(s.cfg.Redis),
		readable:   d("muster_fleet_readable", "1 if Redis could be asked for the metrics of the fleet, else 0, and then they are missing."),
		hosts:      d("muster_fleet_hosts_online", "Hosts that are online."),
		listeners:  d("muster_fleet_listeners", "Listeners whose lease runs."),
		sets:       d("muster_fleet_open_sets", "Task sets that are not closed."),
		passedOver: d("muster_fleet_sets_passed_over", "Task sets that were not looked at, because there are too many."),
		states:     d("muster_fleet_hosts", "Hosts of task sets that are not closed, by state.", "state"),
		requests:   d("muster_fleet_requests", "Requests in the stream that are no job yet."),
		oldest:     d("muster_fleet_oldest_request_seconds", "Age of the oldest request in the stream, 0 if there is none."),
		jobs:       d("muster_queue_jobs", "Jobs in the queue, by state.", "state"),
		pending:    d("muster_queue_oldest_pending_seconds", "Age of the oldest job that waits for a worker, 0 if there is none."),
	})
}

// Describe implements prometheus.Collector.
func (f *fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.readable, f.hosts, f.listeners, f.sets, f.passedOver, f.states, f.requests, f.oldest, f.jobs, f.pending} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked.IsZero() || time.Since(f.asked) >= fleetAgain {
		f.look()
		f.asked = time.Now()
	}
	show := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if f.err != nil {
		show(f.readable, 0)
		return
	}
	show(f.readable, 1)
	show(f.hosts, float64(f.seen.Hosts))
	show(f.listeners, float64(f.seen.Listeners))
	show(f.sets, float64(f.seen.Open))
	show(f.passedOver, float64(f.seen.PassedOver))
	for _, s := range tasks.States() {
		show(f.states, float64(f.seen.States[s]), string(s))
	}
	show(f.requests, float64(f.seen.Requests))
	show(f.oldest, f.seen.Oldest.Seconds())
	q := f.jobsN
	if q == nil {
		q = &asynq.QueueInfo{}
	}
	for state, n := range map[string]int{
		"pending": q.Pending, "active": q.Active, "scheduled": q.Scheduled, "retry": q.Retry,
		"archived": q.Archived, "completed": q.Completed,
	} {
		show(f.jobs, float64(n), state)
	}
	show(f.pending, max(0, q.Latency.Seconds()))
}

// look asks Redis.
func (f *fleet) look() {
	ctx, cancel := context.WithTimeout(context.Background(), fleetTime)
	defer cancel()
	if f.seen, f.err = f.count.Census(ctx); f.err != nil {
		return
	}
	f.jobsN = nil
	queues, err := f.queue.Queues()
	if err == nil && slices.Contains(queues, tasks.JobQueue) {
		f.jobsN, err = f.queue.GetQueueInfo(tasks.JobQueue)
	}
	f.err = err
}

// inTime ends each command that has no deadline: asynq's Inspector gives it none.
type inTime struct{}

// DialHook implements redis.Hook.
func (inTime) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (inTime) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if _, has := ctx.Deadline(); has {
			return next(ctx, cmd)
		}
		ctx, cancel := context.WithTimeout(ctx, jobsTime)
		defer cancel()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (inTime) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
