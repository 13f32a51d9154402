package worker

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// take takes a job from the queue, as a worker does that dies right after.
func (f *fixture) take(id, payload string) {
	f.Helper()
	ctx := f.Context()
	client := asynq.NewClientFromRedisClient(f.rdb)
	if _, err := client.EnqueueContext(ctx, job(payload), asynq.TaskID(id), asynq.Queue(tasks.JobQueue)); err != nil {
		f.Fatal(err)
	}
	moved, err := f.rdb.LMove(ctx, queueKey("pending"), queueKey("active"), "RIGHT", "LEFT").Result()
	if err != nil || moved != id {
		f.Fatalf("%q, %v", moved, err)
	}
	f.rdb.HSet(ctx, queueKey("t:"+id), "state", "active")
	f.rdb.ZAdd(ctx, queueKey("lease"), redis.Z{Score: float64(time.Now().Add(30 * time.Second).Unix()), Member: id})
}

func (f *fixture) held() *jobs { return newJobs(f.rdb, f.log, watchRedis(f.log).Part("jobs")) }

func (f *fixture) look(j *jobs, may bool) {
	f.Helper()
	if err := j.look(f.Context(), may); err != nil {
		f.Fatal(err)
	}
}

// lapse ends what is said of a job.
func (f *fixture) lapse(id string) {
	f.rdb.ZAdd(f.Context(), tasks.KeyJobs, redis.Z{Score: 1, Member: id})
}

func (f *fixture) state(id string) string {
	f.Helper()
	info, err := asynq.NewInspectorFromRedisClient(f.rdb).GetTaskInfo(tasks.JobQueue, id)
	if err != nil {
		f.Fatal(err)
	}
	return info.State.String()
}

// A job of which nobody says that he works on it is noted, and given back when that
// has lapsed; one that is held is left alone, and one that is over is forgotten.
func TestReclaim(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	j := f.held()
	f.take("r1", `{"commands":{"a":1}}`)
	f.take("r2", `{"commands":{"a":1}}`)
	release, err := j.hold(ctx, "r2")
	if err != nil {
		t.Fatal(err)
	}
	f.lapse("r3") // it ended, and that could not be said
	f.look(j, false)
	if got := f.rdb.ZCard(ctx, tasks.KeyJobs).Val(); got != 3 {
		t.Fatalf("%d jobs are noted, want 3", got)
	}
	f.look(j, true)
	if f.state("r1") != "active" || f.state("r2") != "active" {
		t.Fatal("given back too early")
	}
	f.lapse("r1")
	f.look(j, false)
	if f.state("r1") != "active" {
		t.Fatal("given back while it may not be")
	}
	f.look(j, true)
	if f.state("r1") != "pending" || f.state("r2") != "active" {
		t.Fatalf("r1 is %s, r2 is %s", f.state("r1"), f.state("r2"))
	}
	if f.rdb.ZScore(ctx, queueKey("lease"), "r1").Err() == nil {
		t.Error("r1 keeps its lease")
	}
	f.look(j, true)
	if n := f.rdb.LLen(ctx, queueKey("pending")).Val(); n != 1 {
		t.Errorf("r1 is pending %d times", n)
	}
	release()
	if got := f.rdb.ZRange(ctx, tasks.KeyJobs, 0, -1).Val(); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// What runs here twice at once is held until the last of the two has ended.
func TestHeldByTwoRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	j := f.held()
	one, err := j.hold(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	two, err := j.hold(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	one()
	if f.rdb.ZCard(t.Context(), tasks.KeyJobs).Val() != 1 {
		t.Error("no longer held")
	}
	two()
	if f.rdb.ZCard(t.Context(), tasks.KeyJobs).Val() != 0 {
		t.Error("still held")
	}
}

// A running worker renews what it holds, and takes up what a dead one has left, long
// before the queue would.
func TestJobOfADeadWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.take("r1", `{"key":"AC1","commands":{"a":1},"hosts":["h1"]}`)
	f.online("h1", "agent i1", netip.MustParseAddrPort("127.0.0.1:7"))
	f.start(Config{})
	f.event("task.sent", "r1")
	redistest.Eventually(t, "the job is over", func() bool {
		_, err := asynq.NewInspectorFromRedisClient(f.rdb).GetTaskInfo(tasks.JobQueue, "r1")
		return errors.Is(err, asynq.ErrTaskNotFound)
	})
}

// What takes long is renewed, so that nobody takes it up beside.
func TestLongJobIsHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	j := f.held()
	release, err := j.hold(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	f.lapse("r1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = j.renew(ctx, always)
	}()
	redistest.Eventually(t, "it is renewed", func() bool {
		score, _ := f.rdb.ZScore(t.Context(), tasks.KeyJobs, "r1").Result()
		return score > float64(time.Now().UnixMilli())
	})
	cancel()
	<-done
}
