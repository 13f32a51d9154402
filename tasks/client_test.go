package tasks_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// pendingJobs are the jobs on the dispatch queue.
func (f fixture) pendingJobs() []*asynq.TaskInfo {
	f.Helper()
	inspector := asynq.NewInspectorFromRedisClient(f.rdb)
	jobs, err := inspector.ListPendingTasks("dispatch")
	if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
		f.Fatal(err)
	}
	return jobs
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	if client.Redis() != f.rdb {
		t.Fatal("the client has another Redis")
	}
	in := tasks.Request{
		Key: "AC131", Commands: []tasks.Command{{Line: "df -h", Priority: 5}, {Line: "uptime", Priority: 10}},
		Hosts: []string{"web-1", "web-2", "web-1"}, Deadline: time.Minute,
	}
	id, err := client.Submit(t.Context(), in)
	f.must(err)
	jobs := f.pendingJobs()
	if len(jobs) != 1 || jobs[0].ID != id || jobs[0].Type != "muster:dispatch" || jobs[0].Queue != "dispatch" {
		t.Fatalf("jobs %+v, want one with the id %s", jobs, id)
	}
	got, err := tasks.ParseRequest(jobs[0].Payload)
	f.must(err)
	want, err := in.Validate()
	f.must(err)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the payload %s is %+v, want %+v", jobs[0].Payload, got, want)
	}
	other, err := client.Submit(t.Context(), in)
	f.must(err)
	if other == id || id == "" {
		t.Fatalf("two requests with the id %q", id)
	}
}

// patch is what an application may have.
type patch struct {
	hosts    []string
	commands map[string]float64
	key      string
}

func (p patch) IPList() []string                { return p.hosts }
func (p patch) DisCommands() map[string]float64 { return p.commands }
func (p patch) Key() string                     { return p.key }

func TestDispatch(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	for _, p := range []patch{
		{[]string{"10.0.0.1"}, map[string]float64{"uptime": 1, "df": 2.5}, "AC131"},
		{nil, map[string]float64{"uptime": 1}, ""},
		{[]string{}, map[string]float64{"uptime": 1}, ""}, // empty: every host online, as in the old system
	} {
		d, err := client.Dispatch(t.Context(), p)
		f.must(err)
		if want := cmp.Or(tasks.Number(p.key), "AC"+tasks.Number(d.Request)); d.Number != want {
			t.Errorf("the number of %+v is %s, want %s", p, d.Number, want)
		}
		var got tasks.Request
		for _, job := range f.pendingJobs() {
			if job.ID == d.Request {
				got, err = tasks.ParseRequest(job.Payload)
				f.must(err)
			}
		}
		commands := map[string]float64{}
		for _, c := range got.Commands {
			commands[c.Line] = c.Priority
		}
		if string(got.Key) != p.key || !reflect.DeepEqual(commands, p.commands) || len(got.Hosts) != len(p.hosts) || (got.Hosts == nil) != (len(p.hosts) == 0) {
			t.Errorf("%+v was enqueued as %+v", p, got)
		}
	}
}

func TestBadRequestsAreNotEnqueued(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	_, err1 := client.Submit(t.Context(), tasks.Request{Key: "AC1"})
	_, err2 := client.Dispatch(t.Context(), patch{commands: map[string]float64{"uptime": 1}, key: "131"})
	_, err3 := client.Dispatch(t.Context(), patch{commands: map[string]float64{"uptime": 1}, hosts: []string{""}})
	for field, err := range map[string]error{"commands": err1, "key": err2, "hosts": err3} {
		var wrong *tasks.InvalidError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%v, want an InvalidError of %s", err, field)
		}
	}
	if n := f.rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Fatalf("%d keys were written", n)
	}
}

// A Redis client repeats a call whose answer was lost: that is one request, and no error.
func TestSubmitWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	f := open(t)
	twice := redis.NewClient(&redis.Options{Addr: f.srv.Addr, DisableIdentity: true})
	defer twice.Close()
	twice.AddHook(repeatingEach{})
	id, err := tasks.NewClient(twice).Submit(t.Context(), request("AC1", "a"))
	f.must(err)
	if jobs := f.pendingJobs(); len(jobs) != 1 || jobs[0].ID != id {
		t.Fatalf("jobs %+v, want one with the id %s", jobs, id)
	}
}

// Many goroutines dispatch with one client, each a value of its own and one that all
// share: each call is a request of its own.
func TestDispatchSideBySide(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	shared := patch{hosts: []string{"web-1"}, commands: map[string]float64{"uptime": 1, "df": 2}}
	const callers, calls = 8, 10
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range calls {
				own := patch{hosts: []string{"web-1"}, commands: map[string]float64{"uptime": 1}, key: fmt.Sprintf("AC%d.%d", i, j)}
				d, err := client.Dispatch(t.Context(), own)
				if err != nil || string(d.Number) != own.key || !slices.Equal(d.Offline, own.hosts) {
					t.Errorf("%+v, %v", d, err)
				}
				if _, err := client.Dispatch(t.Context(), shared); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	keys := map[tasks.Number]bool{}
	inspector := asynq.NewInspectorFromRedisClient(f.rdb)
	jobs, err := inspector.ListPendingTasks("dispatch", asynq.PageSize(2*callers*calls+1))
	f.must(err)
	for _, job := range jobs {
		r, err := tasks.ParseRequest(job.Payload)
		f.must(err)
		if r.Key != "" {
			keys[r.Key] = true
		}
	}
	if len(jobs) != 2*callers*calls || len(keys) != callers*calls {
		t.Errorf("%d requests of %d, and %d numbers of %d", len(jobs), 2*callers*calls, len(keys), callers*calls)
	}
}

func TestNumberFor(t *testing.T) {
	t.Parallel()
	seen := map[tasks.Number]string{}
	for _, id := range []string{
		"1763840000000-0", "0b6cb5a1-7e2b-4c9f-9a53-2a1b6f1c9d10", "a.b_c", "a b", "a\tb", "a/b", "", "é", "\xff", "\xfe", "{x}", "--",
		strings.Repeat("x", 62), strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("é", 500),
	} {
		n := tasks.NumberFor(id)
		if _, err := tasks.ParseNumber(string(n)); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if other, taken := seen[n]; taken {
			t.Errorf("%q and %q both are %s", id, other, n)
		}
		seen[n] = id
		if n != tasks.NumberFor(id) {
			t.Errorf("%q has two numbers", id)
		}
	}
	if n := tasks.NumberFor("1763840000000-0"); n != "AC1763840000000-0" {
		t.Errorf("an entry's number is %s", n)
	}
}

// repeatingEach sends every command twice and gives the second answer.
type repeatingEach struct{}

func (repeatingEach) DialHook(next redis.DialHook) redis.DialHook { return next }
func (repeatingEach) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (repeatingEach) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		_ = next(ctx, cmd) // its answer is lost
		cmd.SetErr(nil)
		return next(ctx, cmd)
	}
}
