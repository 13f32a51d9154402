package tasks_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/hibiken/asynq"

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
		id, err := client.Dispatch(t.Context(), p)
		f.must(err)
		var got tasks.Request
		for _, job := range f.pendingJobs() {
			if job.ID == id {
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
