package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// intake returns an intake that the test drives itself.
func (f *fixture) intake() *intake {
	f.Helper()
	w, err := New(Config{Redis: f.rdb, Log: f.log})
	if err != nil {
		f.Fatal(err)
	}
	return newIntake(w.cfg, watchRedis(w.cfg.Log).Part("requests"))
}

// takenByDead lets a worker that is dead since read all entries.
func (f *fixture) takenByDead(idle time.Duration) {
	f.Helper()
	ctx := f.Context()
	if err := f.rdb.XGroupCreateMkStream(ctx, tasks.KeyRequests, group, "0").Err(); err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		f.Fatal(err)
	}
	streams, err := f.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: "dead", Streams: []string{tasks.KeyRequests, ">"}, Block: -1,
	}).Result()
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range streams[0].Messages {
		err := f.rdb.Do(ctx, "XCLAIM", tasks.KeyRequests, group, "dead", 0, m.ID, "IDLE", idle.Milliseconds()).Err()
		if err != nil {
			f.Fatal(err)
		}
	}
}

func (f *fixture) jobs() int {
	f.Helper()
	list, err := asynq.NewInspectorFromRedisClient(f.rdb).ListPendingTasks(tasks.JobQueue, asynq.PageSize(1000))
	if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
		f.Fatal(err)
	}
	return len(list)
}

// Requests that were there before the first worker are not passed over.
func TestEntriesBeforeTheFirstWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var ids []string
	for i := range 3*readCount + 1 {
		ids = append(ids, f.add("key", fmt.Sprintf("AC%d", i), "commands", `{"uptime": 1}`))
	}
	f.start(Config{})
	for _, id := range ids {
		f.event("task.sent", id)
	}
	f.drained()
	if n := len(f.events("task.accepted")); n != len(ids) {
		t.Errorf("%d sets of %d requests", n, len(ids))
	}
}

// An entry that a dead worker has read is taken over, whether its job exists
// already or not, and is one dispatch.
func TestEntryOfDeadWorker(t *testing.T) {
	t.Parallel()
	for _, enqueued := range []bool{false, true} {
		t.Run(fmt.Sprintf("enqueued %v", enqueued), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			h := listen(t)
			f.online("10.0.0.5", "json", h.addr)
			id := f.add("key", "AC1", "commands", `{"uptime": 1}`)
			f.takenByDead(claimIdle + time.Second)
			if enqueued {
				in := f.intake()
				if err := in.join(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := in.enqueue(t.Context(), entry{id, []string{"key", "AC1", "commands", `{"uptime": 1}`}}); err != nil {
					t.Fatal(err)
				}
			}
			f.start(Config{})
			f.event("task.sent", id)
			f.drained()
			h.wants("AC1")
			if n := len(f.events("task.accepted")); n != 1 {
				t.Errorf("%d dispatches", n)
			}
		})
	}
}

// What another worker has read a moment ago is left to it.
func TestEntryOfLiveWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.add("key", "AC1", "commands", `{"uptime": 1}`)
	f.takenByDead(0)
	in := f.intake()
	if err := in.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := in.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := f.rdb.XPending(t.Context(), tasks.KeyRequests, group).Val(); p.Consumers["dead"] != 1 {
		t.Errorf("pending %+v", p)
	}
}

// More entries of a dead worker than one claim takes.
func TestClaimInPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 2*readCount + 1 {
		f.add("key", fmt.Sprintf("AC%d", i), "commands", `{"uptime": 1}`)
	}
	f.takenByDead(claimIdle + time.Second)
	in := f.intake()
	if err := in.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := in.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.drained()
	if n := f.jobs(); n != 2*readCount+1 {
		t.Errorf("%d jobs", n)
	}
}

// An entry that was deleted while it was pending leaves nothing pending.
func TestDeletedWhilePending(t *testing.T) {
	t.Parallel()
	f := fixtureOn(t, redistest.OpenReal(t)) // the embedded one keeps such an entry pending for ever
	ctx := t.Context()
	in := f.intake()
	if err := in.join(ctx); err != nil {
		t.Fatal(err)
	}
	for _, whose := range []string{in.consumer, "dead"} {
		id := f.add("key", "AC1", "commands", `{"uptime": 1}`)
		f.takenByDead(claimIdle + time.Second)
		if whose == in.consumer {
			f.rdb.XClaim(ctx, &redis.XClaimArgs{Stream: tasks.KeyRequests, Group: group, Consumer: whose, Messages: []string{id}})
		}
		f.rdb.XDel(ctx, tasks.KeyRequests, id)
		in.own = whose == in.consumer
		if in.own {
			if err := in.takeOwn(ctx); err != nil {
				t.Fatal(err)
			}
		} else if err := in.claim(ctx); err != nil {
			t.Fatal(err)
		}
		f.drained()
	}
	if n := f.jobs(); n != 0 {
		t.Errorf("%d jobs of entries that are gone", n)
	}
}

// An entry that could not be made a job is tried again, before new ones and without
// keeping them.
func TestEnqueueFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	in := f.intake()
	if err := in.join(ctx); err != nil {
		t.Fatal(err)
	}
	in.own = false
	id := f.add("key", "AC1", "commands", `{"uptime": 1}`)
	f.add("key", "AC2", "commands", `{"uptime": 1}`)
	task := "asynq:{" + tasks.JobQueue + "}:pending"
	f.rdb.Set(ctx, task, "not a list", 0)
	if err := in.round(ctx); err == nil {
		t.Fatal("no error")
	}
	if p := f.rdb.XPending(ctx, tasks.KeyRequests, group).Val(); p.Count != 2 {
		t.Fatalf("pending %+v", p)
	}
	// The queue has written the first half of the job.
	f.rdb.Del(ctx, task, "asynq:{"+tasks.JobQueue+"}:t:"+id)
	in.joined = false // as run does after an error
	if err := in.round(ctx); err != nil {
		t.Fatal(err)
	}
	f.drained()
}

// Redis is emptied under a running worker.
func TestEmptiedRedis(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start(Config{})
	f.event("task.sent", f.add("key", "AC1", "commands", `{"uptime": 1}`))
	f.rdb.FlushAll(t.Context())
	id := f.add("key", "AC1", "commands", `{"uptime": 1}`)
	f.event("task.sent", id)
	f.drained()
	if queues, err := asynq.NewInspectorFromRedisClient(f.rdb).Queues(); err != nil || len(queues) != 1 {
		t.Errorf("the queue is not known: %v, %v", queues, err)
	}
}

// Consumers that are long gone are forgotten, but none with an entry pending.
func TestTidy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.add("key", "AC1", "commands", `{"uptime": 1}`)
	f.takenByDead(0)
	f.rdb.XGroupCreateConsumer(ctx, tasks.KeyRequests, group, "gone")
	in := f.intake()
	if err := in.tidy(ctx); err != nil {
		t.Fatal(err)
	}
	names := func() map[string]bool {
		names := map[string]bool{}
		for _, c := range f.rdb.XInfoConsumers(ctx, tasks.KeyRequests, group).Val() {
			names[c.Name] = true
		}
		return names
	}
	if got := names(); !got["dead"] || !got["gone"] {
		t.Errorf("forgotten before an hour: left are %v", got)
	}
	for _, c := range []string{"dead", "gone"} {
		if err := in.forget(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(); !got["dead"] || got["gone"] {
		t.Errorf("left are %v", got)
	}
	if p := f.rdb.XPending(ctx, tasks.KeyRequests, group).Val(); p.Count != 1 {
		t.Errorf("pending %+v", p)
	}
}

// At its end an intake finishes what it has read, and takes its name off the group.
func TestLeave(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	in := f.intake()
	if err := in.join(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range readCount + 1 {
		f.add("key", fmt.Sprintf("AC%d", i), "commands", `{"uptime": 1}`)
		if entries, err := in.read(ctx, ">"); err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
	}
	in.leave(context.Background())
	f.drained()
	if n := f.jobs(); n != readCount+1 {
		t.Errorf("%d jobs", n)
	}
	if left := f.rdb.XInfoConsumers(ctx, tasks.KeyRequests, group).Val(); len(left) != 0 {
		t.Errorf("consumers left: %+v", left)
	}
}

// What dead workers hold is looked for again and again, not only at the start.
func TestClaimsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	in := f.intake()
	if err := in.join(ctx); err != nil {
		t.Fatal(err)
	}
	in.own = false
	f.add("key", "AC1", "commands", `{"uptime": 1}`)
	f.takenByDead(claimIdle + time.Second)
	in.claimAfter = time.Now().Add(time.Minute)
	if err := in.round(ctx); err != nil {
		t.Fatal(err)
	}
	if n := f.jobs(); n != 0 {
		t.Errorf("%d jobs before it is time", n)
	}
	in.claimAfter = time.Now()
	if err := in.round(ctx); err != nil {
		t.Fatal(err)
	}
	f.drained()
	if wait := time.Until(in.claimAfter); wait > claimEvery || wait < -time.Minute {
		t.Errorf("the next time is in %v", wait)
	}
}

// The id of a job is held after its end, so that an entry whose worker died before
// it acknowledged it becomes no second job; and no outage of a few tries ends a job.
func TestJobIsHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start(Config{})
	id := f.add("key", "AC1", "commands", `{"uptime": 1}`)
	inspector := asynq.NewInspectorFromRedisClient(f.rdb)
	redistest.Eventually(t, "the job is completed and held", func() bool {
		info, err := inspector.GetTaskInfo(tasks.JobQueue, id)
		return err == nil && info.State == asynq.TaskStateCompleted &&
			info.Retention == retentionMost && info.MaxRetry == jobRetries
	})
}
