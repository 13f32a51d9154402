package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/musterhq/muster/tasks"
)

const (
	// slowIntake is how old the oldest request that waits may be.
	slowIntake = 10 * time.Second
	// recently is how long a job that was archived is worth a warning; the queue keeps it
	// for 90 days.
	recently = 24 * time.Hour
)

func (d *doctor) lookAtListeners(ctx context.Context) finding {
	view, err := tasks.NewRoll(d.rdb).View(ctx)
	if err != nil {
		return failed(err)
	}
	d.view = view
	ids := view.ListenerIDs()
	if len(ids) == 0 {
		return fail("no listener holds a lease: no host can be online").to("start one: muster listener%s", redisArg(d.at.url))
	}
	return fine("%s: %s", plural(int64(len(ids)), "listener"), someOf(ids))
}

func (d *doctor) lookAtHosts(ctx context.Context) finding {
	if d.view == nil {
		return cantTell("the roll could not be read")
	}
	kinds := map[string]int64{}
	seen := map[string]bool{} // one may come twice
	err := d.view.Each(ctx, func(page []tasks.Presence) error {
		for _, h := range page {
			if !seen[h.Host] {
				seen[h.Host] = true
				kind, _, _ := strings.Cut(h.Client, " ")
				kinds[kind]++
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return failed(err)
	case len(seen) == 0:
		return warn("no host is online").to("start agents: muster agent --server HOST:PORT of a listener; their logs say why they do not get in")
	}
	text := plural(int64(len(seen)), "host") + " online"
	if old := kinds["json"] + kinds["text"]; old > 0 {
		text += ", " + plural(old, "old client") + " among them"
	}
	return fine("%s", text)
}

// lookAtWorkers finds workers by what their job servers say every 5 s: one that was killed
// counts for 10 s. That a consumer of the stream is idle says nothing: Redis notes an
// asking that got nothing only in some versions.
func (d *doctor) lookAtWorkers(context.Context) finding {
	servers, err := asynq.NewInspectorFromRedisClient(d.rdb).Servers()
	if err != nil {
		return failed(err)
	}
	var live int64
	for _, s := range servers {
		if _, ok := s.Queues[tasks.JobQueue]; ok {
			live++
		}
	}
	if d.noWorker = live == 0; d.noWorker {
		return fail("no worker runs").to("start one: muster worker%s", redisArg(d.at.url))
	}
	return fine("%s", plural(live, "worker"))
}

// lookAtRequests looks at the stream: an entry leaves it once it is a job.
func (d *doctor) lookAtRequests(ctx context.Context) finding {
	n, age, err := tasks.RequestsWaiting(ctx, d.rdb)
	if err != nil {
		return failed(err)
	}
	if n == 0 {
		return fine("none waits for a worker")
	}
	text := fmt.Sprintf("%s in the stream, the oldest for %v", plural(n, "request"), short(age))
	switch {
	case d.noWorker:
		return warn("%s", text).to("they are carried out when a worker runs")
	case age > slowIntake:
		return warn("%s", text).to("workers do not keep up: start another one, and see their logs")
	}
	return fine("%s", text)
}

// lookAtJobs looks at the queue that requests become jobs of.
func (d *doctor) lookAtJobs(ctx context.Context) finding {
	inspector := asynq.NewInspectorFromRedisClient(d.rdb)
	known, err := inspector.Queues()
	if err != nil {
		return failed(err)
	}
	if !slices.Contains(known, tasks.JobQueue) {
		return fine("there was none yet")
	}
	queue, err := inspector.GetQueueInfo(tasks.JobQueue)
	if err != nil {
		return cantTell("the job queue does not say: %v", err)
	}
	// By the key of the queue's library, scored by when: its list of such jobs begins with
	// the oldest, and reads the requests, which may have 20 MiB each.
	since := strconv.FormatInt(time.Now().Add(-recently).Unix(), 10)
	recent, err := d.rdb.ZCount(ctx, "asynq:{"+tasks.JobQueue+"}:archived", since, "+inf").Result()
	if err != nil {
		return failed(err)
	}
	return jobsOf(queue, recent)
}

// jobsOf words what the queue says of itself; recent is how many of its archived jobs are
// so since recently.
func jobsOf(queue *asynq.QueueInfo, recent int64) finding {
	text := fmt.Sprintf("%d pending, %d active", queue.Pending, queue.Active)
	if queue.Retry > 0 {
		text += fmt.Sprintf(", %d to be tried again", queue.Retry)
	}
	if queue.Archived > 0 {
		text += fmt.Sprintf(", %d archived", queue.Archived)
	}
	switch {
	case queue.Paused:
		return fail("the job queue is paused: %s", text).to("let it go on: redis-cli DEL 'asynq:{%s}:paused'", tasks.JobQueue)
	case queue.Pending > 0 && queue.Latency > slowIntake:
		return warn("%s, the oldest pending for %v", text, short(queue.Latency)).
			to("workers do not keep up: start another one, or give them a higher --concurrency")
	case recent > 0:
		return warn("%s: %s rejected or given up within a day", text, plural(recent, "request")).
			to("muster events --last 1000 says why (request.rejected), and the page /queues of muster dashboard shows the jobs; they go by themselves after 90 days")
	}
	return fine("%s", text)
}
