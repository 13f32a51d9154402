package tasks_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/musterhq/muster/tasks"
)

// Values that embed Info. Each overrides what its name leaves out.
type (
	noHosts    struct{ tasks.Info }
	noCommands struct{ tasks.Info }
	noKey      struct{ *tasks.Info }
	everything struct{ tasks.Info }
	byPointer  struct{ *tasks.Info }
	nested     struct{ noHosts }
	completed  struct{ *noHosts } // overrides what noHosts has forgotten
	appending  struct{ everything }
	asksInfo   struct{ everything }
)

var one = map[string]float64{"uptime": 1}

func (noHosts) DisCommands() map[string]float64 { return one }
func (noHosts) Key() string                     { return "" }

func (noCommands) IPList() []string { return []string{"web-1"} }
func (noCommands) Key() string      { return "" }

func (noKey) IPList() []string                { return []string{"web-1"} }
func (noKey) DisCommands() map[string]float64 { return one }

func (everything) IPList() []string                { return nil }
func (everything) DisCommands() map[string]float64 { return one }
func (everything) Key() string                     { return "" }

func (*byPointer) IPList() []string                { return []string{"web-1"} }
func (*byPointer) DisCommands() map[string]float64 { return one }
func (*byPointer) Key() string                     { return "ACpointer" }

func (completed) IPList() []string { return []string{"web-2"} }

func (a appending) IPList() []string { return append(a.everything.IPList(), "web-3") }

func (a asksInfo) IPList() []string { return append(a.Info.IPList(), "web-3") }

// A method that is not overridden fails the dispatch and is named; a forgotten IPList
// is never every host.
func TestNotOverridden(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	for _, c := range []struct {
		d            tasks.Dispatchable
		method, name string
	}{
		{noHosts{}, "IPList", "tasks_test.noHosts"},
		{&noHosts{}, "IPList", "tasks_test.noHosts"},
		{noCommands{}, "DisCommands", "tasks_test.noCommands"},
		{noKey{&tasks.Info{}}, "Key", "tasks_test.noKey"},
		{noKey{}, "Key", "tasks_test.noKey"},
		{&noKey{}, "Key", "tasks_test.noKey"},
		{nested{}, "IPList", "tasks_test.nested"},
		{&nested{}, "IPList", "tasks_test.nested"},
		{asksInfo{}, "IPList", "tasks_test.asksInfo"},
		{tasks.Info{}, "IPList", "tasks.Info"},
		{&tasks.Info{}, "IPList", "tasks.Info"},
	} {
		_, err := client.Dispatch(t.Context(), c.d)
		var left *tasks.NotOverriddenError
		if !errors.As(err, &left) || left.Method != c.method || left.Type != c.name {
			t.Errorf("%T: %v, want %s of %s", c.d, err, c.method, c.name)
			continue
		}
		if want := "tasks: " + c.method + " is not overridden by " + c.name; err.Error() != want {
			t.Errorf("%T: %q, want %q", c.d, err, want)
		}
	}
	if n := f.rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Fatalf("%d keys were written", n)
	}
}

// Embedding Info costs nothing where its methods are overridden, at whatever depth.
func TestOverridden(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	for _, c := range []struct {
		d     tasks.Dispatchable
		hosts []string // nil: every host
	}{
		{everything{}, nil},
		{&everything{}, nil},
		{&byPointer{}, []string{"web-1"}}, // its *Info is nil, and is never asked
		{completed{&noHosts{}}, []string{"web-2"}},
		{appending{}, []string{"web-3"}},
	} {
		d, err := client.Dispatch(t.Context(), c.d)
		f.must(err)
		for _, job := range f.pendingJobs() {
			if job.ID != d.Request {
				continue
			}
			r, err := tasks.ParseRequest(job.Payload)
			f.must(err)
			if !reflect.DeepEqual(r.Hosts, c.hosts) {
				t.Errorf("%T goes to %q, want %q", c.d, r.Hosts, c.hosts)
			}
		}
	}
}

// faulty has methods that fail.
type faulty struct {
	patch
	how any
}

func (f faulty) DisCommands() map[string]float64 {
	if f.how == "index" {
		return []map[string]float64{}[len(f.key):][0]
	}
	panic(f.how)
}

// cyclic embeds a pointer to itself, and fails.
type cyclic struct {
	*cyclic
	faulty
}

// Whatever is wrong with a value is an error that says which, and no panic.
func TestWrongValues(t *testing.T) {
	t.Parallel()
	f := open(t)
	client := tasks.NewClient(f.rdb)
	cause := errors.New("no such inventory")
	ring := &cyclic{faulty: faulty{how: "index"}}
	ring.cyclic = ring
	for _, c := range []struct {
		d    tasks.Dispatchable
		want string
	}{
		{nil, "nothing to dispatch: the value is nil"},
		{(*patch)(nil), "nothing to dispatch: the *tasks_test.patch is nil"},
		{(*byPointer)(nil), "commands"}, // its methods can do without a value
		{(*noHosts)(nil), "nothing to dispatch: the *tasks_test.noHosts is nil"},
		{(*tasks.Info)(nil), "nothing to dispatch: the *tasks.Info is nil"},
		{patch{}, "commands: DisCommands returned none; that no longer means console mode, for which there is muster console"},
		{patch{commands: map[string]float64{}}, "muster console"},
		{patch{commands: one, key: "131"}, `key: "131" is no task number`},
		{patch{commands: one, hosts: []string{"web-1", ""}}, `hosts: "" is no host id`},
		{patch{commands: map[string]float64{"": 1}}, "commands: a command of 0 bytes"},
		{faulty{how: "boom"}, "tasks: DisCommands of tasks_test.faulty panicked: boom"},
		{&faulty{how: cause}, "tasks: DisCommands of tasks_test.faulty panicked: no such inventory"},
		{faulty{how: "index"}, "tasks: DisCommands of tasks_test.faulty panicked: runtime error: index out of range"},
		{ring, "tasks: DisCommands of tasks_test.cyclic panicked: runtime error: index out of range"},
	} {
		d, err := client.Dispatch(t.Context(), c.d)
		if _, fine := c.d.(*byPointer); fine {
			if err != nil || d.Number != "ACpointer" {
				t.Errorf("%T: %+v, %v", c.d, d, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T: %v, want %s", c.d, err, c.want)
		}
	}
	_, err := client.Dispatch(t.Context(), faulty{how: fmt.Errorf("read: %w", cause)})
	if !errors.Is(err, cause) {
		t.Errorf("%v does not wrap what the method has panicked with", err)
	}
	if jobs := f.pendingJobs(); len(jobs) != 1 {
		t.Errorf("%d requests were made, want that of *byPointer alone", len(jobs))
	}
}
