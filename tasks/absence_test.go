package tasks_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/musterhq/muster/tasks"
)

// who makes the caller's value for one list of hosts.
func who(hosts ...string) patch { return patch{hosts: hosts, commands: one} }

// Who is offline is known by the roll, and by the leases of the listeners.
func TestDispatchSaysWhoIsOffline(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	client := tasks.NewClient(f.rdb)
	dispatch := func(d patch, offline []string, nobody bool) {
		t.Helper()
		got, err := client.Dispatch(t.Context(), d)
		f.must(err)
		if !slices.Equal(got.Offline, offline) || got.Nobody != nobody {
			t.Errorf("%q: offline %q, nobody %v; want %q, %v", d.hosts, got.Offline, got.Nobody, offline, nobody)
		}
	}
	f.put("lost", spot{place: "10.0.0.9:6655@dead", client: "json"})
	dispatch(who(), nil, true) // the one on the roll is a dead listener's
	dispatch(who("lost"), []string{"lost"}, false)

	f.put("web-1", spot{place: "10.0.0.1:6655@me", client: "json"})
	f.put("web-2", spot{place: "10.0.0.2:6655@other", client: "agent 1"})
	dispatch(who(), nil, false)
	dispatch(who("web-1", "web-2"), nil, false)
	dispatch(who("web-9", "web-1", "lost", "web-9", "web-8"), []string{"web-9", "lost", "web-8"}, false)

	// More than are looked up at once.
	var many, offline []string
	for i := range 3 * tasks.Chunk {
		h := fmt.Sprintf("h%d", i)
		many = append(many, h)
		if i%3 == 0 {
			f.put(h, spot{place: "10.0.0.3:6655@me"})
		} else {
			offline = append(offline, h)
		}
	}
	dispatch(who(many...), offline, false)

	// Who asks the roll itself may name a host twice.
	a, err := f.roll.Absence(t.Context(), []string{"lost", "web-1", "lost"})
	f.must(err)
	if !slices.Equal(a.Offline, []string{"lost"}) || a.Nobody {
		t.Errorf("%+v", a)
	}
}

func TestOnline(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	client := tasks.NewClient(f.rdb)
	online := func(want []string, hosts ...string) {
		t.Helper()
		got, err := client.Online(t.Context(), hosts...)
		f.must(err)
		if !slices.Equal(got, want) {
			t.Errorf("online of %q: %q, want %q", hosts, got, want)
		}
	}
	online(nil)
	online(nil, "web-1")
	f.put("web-2", spot{place: "10.0.0.2:6655@other", client: "agent 1"})
	f.put("web-1", spot{place: "10.0.0.1:6655@me", client: "json"})
	f.put("lost", spot{place: "10.0.0.9:6655@dead", client: "json"})
	online([]string{"web-1", "web-2"})
	online([]string{"web-2", "web-1"}, "lost", "web-2", "web-1", "web-2", "web-9")
	var wrong *tasks.InvalidError
	if _, err := client.Online(t.Context(), "web-1", ""); !errors.As(err, &wrong) || wrong.Field != "hosts" {
		t.Errorf("a host without a name: %v", err)
	}
}
