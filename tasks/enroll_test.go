package tasks_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// Every verdict of every change, whoever holds the host.
func TestChanges(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	e := f.ear()
	const (
		here      = "10.0.0.1:6655@me"
		online    = "host.online, client json, listener me"
		onlineI1  = "host.online, client agent i1, listener me"
		offline   = "host.offline: connection ended, listener me"
		duplicate = "host.duplicate: another instance is connected to other, listener me"
	)
	for i, c := range []struct {
		change  string // the host is %s
		before  spot
		verdict string // and for refused the holder
		after   spot
		events  []string
		heard   string
	}{
		// It has connected.
		{"on %s json", spot{}, "on", spot{here, "json", "me", false}, []string{online}, ""},
		{"on %s agent i1", spot{}, "on", spot{here, "agent i1", "me", false}, []string{onlineI1}, ""},
		{"on %s json", spot{"10.0.0.9:1@me", "json", "me", false}, "held", spot{here, "json", "me", false}, nil, ""},
		{"on %s agent i2", spot{here, "agent i1", "me", false}, "held", spot{here, "agent i2", "me", false}, nil, ""},
		{"on %s json", spot{"10.0.0.9:1@dead", "json", "dead", false}, "held", spot{here, "json", "dead me", false}, nil, ""},
		{"on %s agent i2", spot{"10.0.0.9:1@dead", "agent i1", "dead", false}, "held", spot{here, "agent i2", "dead me", false}, nil, ""},
		{"on %s json", spot{"10.0.0.9:1@never", "json", "never", false}, "held", spot{here, "json", "me never", false}, nil, ""},
		{"on %s json", spot{"garbage", "json", "", false}, "held", spot{here, "json", "me", false}, nil, ""},
		{"on %s agent i1", spot{"10.0.0.9:1@", "", "", false}, "held", spot{here, "agent i1", "me", false}, nil, ""},
		{"on %s json", spot{"10.0.0.9:1@other", "json", "other", false}, "held", spot{here, "json", "me other", false}, nil, ""},
		{"on %s text", spot{"10.0.0.9:1@other", "json", "other", false}, "held", spot{here, "text", "me other", false}, nil, ""},
		{"on %s json", spot{"10.0.0.9:1@other", "", "other", false}, "held", spot{here, "json", "me other", false}, nil, ""},
		{"on %s agent i1", spot{"10.0.0.9:1@other", "agent i1", "other", false}, "held", spot{here, "agent i1", "me", false}, nil, "to:other %s"},
		{"on %s agent i1", spot{"nonsense@x@other", "agent i1", "other", false}, "held", spot{here, "agent i1", "me", false}, nil, "to:other %s"},
		{"on %s agent i2", spot{"10.0.0.9:1@other", "agent i1", "other", false}, "refused other", spot{"10.0.0.9:1@other", "agent i1", "other", false}, []string{duplicate}, ""},
		{"on %s json", spot{"10.0.0.9:1@other", "agent i1", "other", false}, "refused other", spot{"10.0.0.9:1@other", "agent i1", "other", false}, []string{duplicate}, ""},
		{"on %s agent i1", spot{"10.0.0.9:1@other", "json", "other", false}, "refused other", spot{"10.0.0.9:1@other", "json", "other", false}, []string{duplicate}, ""},
		{"on %s agent i1", spot{"10.0.0.9:1@other", "", "other", false}, "refused other", spot{"10.0.0.9:1@other", "", "other", false}, []string{duplicate}, ""},
		{"on %s json", spot{"", "", "", true}, "on", spot{here, "json", "me", false}, []string{offline, online}, ""},
		{"on %s json", spot{"", "agent i1", "me", true}, "on", spot{here, "json", "me", false}, []string{offline, online}, ""},
		{"on %s json", spot{here, "json", "me", true}, "held", spot{here, "json", "me", false}, []string{offline}, ""},

		// It is still connected.
		{"hold %s json", spot{}, "on", spot{here, "json", "me", false}, []string{online}, ""},
		{"hold %s json", spot{"", "", "", true}, "on", spot{here, "json", "me", false}, []string{offline, online}, ""},
		{"hold %s json", spot{here, "json", "me", false}, "held", spot{here, "json", "me", false}, nil, ""},
		{"hold %s json", spot{here, "", "", false}, "held", spot{here, "json", "me", false}, nil, ""},
		{"hold %s json", spot{"10.0.0.9:1@dead", "json", "dead", false}, "held", spot{here, "json", "dead me", false}, nil, ""},
		{"hold %s agent i1", spot{"10.0.0.9:1@dead", "agent i2", "", false}, "held", spot{here, "agent i1", "me", false}, nil, ""},
		{"hold %s json", spot{"10.0.0.9:1@never", "", "", false}, "held", spot{here, "json", "me", false}, nil, ""},
		{"hold %s json", spot{"garbage", "", "", false}, "held", spot{here, "json", "me", false}, nil, ""},
		{"hold %s json", spot{"10.0.0.9:1@other", "json", "other", false}, "held", spot{"10.0.0.9:1@other", "json", "me other", false}, nil, ""},
		{"hold %s json", spot{"10.0.0.9:1@other", "", "", false}, "held", spot{"10.0.0.9:1@other", "", "me", false}, nil, ""},
		{"hold %s agent i1", spot{"10.0.0.9:1@other", "agent i1", "me other", false}, "refused other", spot{"10.0.0.9:1@other", "agent i1", "me other", false}, nil, ""},
		{"hold %s agent i2", spot{"10.0.0.9:1@other", "agent i1", "other", false}, "refused other", spot{"10.0.0.9:1@other", "agent i1", "other", false}, nil, ""},
		{"hold %s json", spot{"10.0.0.9:1@other", "agent i1", "other", false}, "refused other", spot{"10.0.0.9:1@other", "agent i1", "other", false}, nil, ""},
		{"hold %s agent i1", spot{"10.0.0.9:1@other", "json", "other", false}, "refused other", spot{"10.0.0.9:1@other", "json", "other", false}, nil, ""},

		// It has no connection any more.
		{"off %s", spot{}, "kept", spot{}, nil, ""},
		{"off %s", spot{"", "json", "me", false}, "kept", spot{}, nil, ""},
		{"off %s", spot{"", "", "", true}, "off", spot{"", "", "", true}, nil, ""},
		{"off %s", spot{"", "json", "me", true}, "off", spot{"", "", "", true}, nil, ""},
		{"off %s", spot{here, "json", "me", false}, "off", spot{"", "", "", true}, nil, "off %s"},
		{"off %s", spot{here, "", "", false}, "off", spot{"", "", "", true}, nil, "off %s"},
		{"off %s", spot{"garbage", "json", "me", false}, "off", spot{"", "", "", true}, nil, "off %s"},
		{"off %s", spot{here, "agent i1", "me other", false}, "off", spot{"", "", "other", true}, nil, "off %s"},
		{"off %s", spot{here, "json", "dead me never", false}, "off", spot{"", "", "dead never", true}, nil, "off %s"},
		{"off %s", spot{here, "json", "dead me other", false}, "kept", spot{"10.0.0.1:6655@other", "json", "dead other", false}, nil, "to:other %s"},
		{"off %s", spot{"[::1]:1@x@me", "", "me other", false}, "kept", spot{"[::1]:1@x@other", "", "other", false}, nil, "to:other %s"},
		{"off %s", spot{"garbage", "json", "me other", false}, "kept", spot{"garbage@other", "json", "other", false}, nil, "to:other %s"},
		{"off %s", spot{"10.0.0.9:1@other", "json", "me other", false}, "kept", spot{"10.0.0.9:1@other", "json", "other", false}, nil, ""},
		{"off %s", spot{"10.0.0.9:1@other", "agent i1", "me", false}, "kept", spot{"10.0.0.9:1@other", "agent i1", "", false}, nil, ""},
		{"off %s", spot{"10.0.0.9:1@dead", "json", "dead me", false}, "kept", spot{"10.0.0.9:1@dead", "json", "dead", false}, nil, ""},
		{"off %s", spot{"10.0.0.9:1@never", "json", "me", false}, "kept", spot{"10.0.0.9:1@never", "json", "", false}, nil, ""},
	} {
		host := fmt.Sprint("h", i)
		name := fmt.Sprintf(c.change+" from %+v", host, c.before)
		f.put(host, c.before)
		verdict, holder, _ := strings.Cut(c.verdict, " ")
		got := f.apply(verdict, fmt.Sprintf(c.change, host))[0]
		if got.Holder != holder {
			t.Errorf("%s: the holder is %q, want %q", name, got.Holder, holder)
		}
		if after := f.spot(host); after != c.after {
			t.Errorf("%s:\n  %+v, want\n  %+v", name, after, c.after)
		}
		if got.When != f.wentAt(host) {
			t.Errorf("%s: went at %d, and written is %d", name, got.When, f.wentAt(host))
		}
		if c.before.gone && got.When != 0 && got.When != wentBefore {
			t.Errorf("%s: went at %d, and before it was %d", name, got.When, wentBefore)
		}
		f.told(host, c.events...)
		want := c.heard
		if want != "" {
			want = fmt.Sprintf(want, host)
		}
		if heard := e.heard(); heard != want {
			t.Errorf("%s: heard %q, want %q", name, heard, want)
		}
	}
	if n := f.rdb.ZCard(t.Context(), tasks.KeyListeners).Val(); n != 3 {
		t.Errorf("changes have written leases: %d", n)
	}
}

// A change that a listener made long ago takes no host from who has it by now, whether
// the listener was asleep so long that its lease has ended or the change under way.
func TestLateChanges(t *testing.T) {
	t.Parallel()
	agent, old := spot{"10.0.0.9:1@other", "agent i1", "other", false}, spot{"10.0.0.9:1@other", "json", "other", false}
	for _, asleep := range []bool{true, false} {
		f := openRoll(t)
		e := f.ear()
		at := func(s string, until time.Duration) tasks.Change {
			c := change(s)
			c.Until = f.now().Add(until)
			return c
		}
		apply := func(want string, list ...tasks.Change) {
			t.Helper()
			changed, _, err := f.roll.Apply(t.Context(), "me", list)
			f.must(err)
			var got []string
			for _, c := range changed {
				got = append(got, string(c.Verdict))
			}
			if s := strings.Join(got, ", "); s != want {
				t.Errorf("asleep %v: %s, want %s", asleep, s, want)
			}
		}
		until := -time.Millisecond
		if asleep {
			f.lease("me", -time.Millisecond)
			until = time.Hour
		}
		f.put("web-1", agent)
		f.put("old", old)
		f.put("gone", spot{"10.0.0.9:1@dead", "agent i1", "dead", false})
		apply("refused, kept, held, kept, held, on", at("on web-1 agent i1", until), change("off web-1"),
			at("on old json", until), change("off old"), at("on gone agent i1", until), at("on new json", until))
		if got := f.spot("web-1"); got != agent {
			t.Errorf("the agent is %+v", got)
		}
		if got := f.spot("old"); got != old {
			t.Errorf("the old client is %+v", got)
		}
		for _, host := range []string{"gone", "new"} {
			if got := f.spot(host).place; got != "10.0.0.1:6655@me" {
				t.Errorf("%s, whom nobody holds, is at %q", host, got)
			}
		}
		for _, host := range []string{"web-1", "old", "gone"} {
			f.told(host)
		}
		if heard := e.heard(); heard != "" {
			t.Errorf("heard %q", heard)
		}
		if !asleep {
			apply("held, held", at("on web-1 agent i1", time.Hour), at("on old json", time.Hour))
			if got := f.spot("web-1").place + f.spot("old").place; got != "10.0.0.1:6655@me10.0.0.1:6655@me" {
				t.Errorf("those that connect in time are at %s", got)
			}
		}
	}
}

// Several changes of one host in one call are made one after the other.
func TestChangesOfOneHost(t *testing.T) {
	t.Parallel()
	const (
		here    = "10.0.0.1:6655@me"
		offline = "host.offline: connection ended, listener me"
		online  = "host.online, client json, listener me"
		agent   = "host.online, client agent i1, listener me"
	)
	f := openRoll(t)
	e := f.ear()
	for i, c := range []struct {
		before  spot
		changes []string
		want    string
		after   spot
		events  []string
		heard   string
	}{
		{spot{}, []string{"on", "off", "on"}, "on, off, on", spot{here, "json", "me", false}, []string{online, offline, online}, "off %[1]s"},
		{spot{}, []string{"on", "off"}, "on, off", spot{"", "", "", true}, []string{online}, "off %[1]s"},
		{spot{}, []string{"on", "off", "off"}, "on, off, off", spot{"", "", "", true}, []string{online}, "off %[1]s"},
		{spot{}, []string{"on", "off", "on", "off"}, "on, off, on, off", spot{"", "", "", true}, []string{online, offline, online}, "off %[1]s, off %[1]s"},
		{spot{"", "", "", true}, []string{"on", "hold", "on"}, "on, held, held", spot{here, "json", "me", false}, []string{offline, online}, ""},
		{spot{here, "json", "me", false}, []string{"off", "hold"}, "off, on", spot{here, "json", "me", false}, []string{offline, online}, "off %[1]s"},
		{spot{here, "json", "me", false}, []string{"off", "on agent i1"}, "off, on", spot{here, "agent i1", "me", false}, []string{offline, agent}, "off %[1]s"},
		{spot{here, "json", "me other", false}, []string{"off", "on", "off"}, "kept, held, kept", spot{here[:13] + "@other", "json", "other", false}, nil, "to:other %[1]s, to:other %[1]s"},
		{spot{"10.0.0.9:1@other", "agent i1", "other", false}, []string{"on agent i1", "off"}, "held, off", spot{"", "", "", true}, nil, "to:other %[1]s, off %[1]s"},
	} {
		host := fmt.Sprint("h", i)
		f.put(host, c.before)
		// Another host between them has nothing to do with it.
		bystander := "b" + host
		var changes []string
		for _, s := range c.changes {
			kind, client, _ := strings.Cut(s, " ")
			if client == "" {
				client = "json"
			}
			changes = append(changes, kind+" "+host+" "+client, "hold "+bystander+" json")
		}
		var verdicts []string
		for j, v := range strings.Split(c.want, ", ") {
			verdicts = append(verdicts, v, "held")
			if j == 0 {
				verdicts[1] = "on"
			}
		}
		changed := f.apply(strings.Join(verdicts, ", "), changes...)
		if got := f.spot(host); got != c.after {
			t.Errorf("%q from %+v:\n  %+v, want\n  %+v", c.changes, c.before, got, c.after)
		}
		last := changed[len(changed)-2]
		if last.When != f.wentAt(host) {
			t.Errorf("%q: went at %d, written is %d", c.changes, last.When, f.wentAt(host))
		}
		f.told(host, c.events...)
		f.told(bystander, online)
		if got := f.spot(bystander); got != (spot{here, "json", "me", false}) {
			t.Errorf("the bystander: %+v", got)
		}
		if got, want := e.heard(), strings.ReplaceAll(c.heard, "%[1]s", host); got != want {
			t.Errorf("%q: heard %q, want %q", c.changes, got, want)
		}
	}
}

// After an error the whole is done again, and must come to the same.
func TestChangesAgain(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	f.put("web-1", spot{"10.0.0.1:6655@me", "agent i1", "me", false})
	f.put("old", spot{"10.0.0.1:6655@me", "json", "me other", false})
	f.put("moved", spot{"10.0.0.9:1@other", "agent i1", "other", false})
	changes := []string{"off web-1", "off old", "on moved agent i1", "on new json", "hold held json"}
	first := f.apply("off, kept, held, on, on", changes...)
	hosts := []string{"web-1", "old", "moved", "new", "held"}
	var before []string
	for _, host := range hosts {
		before = append(before, fmt.Sprint(f.spot(host), f.story(host)))
	}
	again := f.applyAgain(changes)
	if again[0] != first[0] {
		t.Errorf("the same departure again: %+v, want %+v", again[0], first[0])
	}
	for i, want := range []tasks.Verdict{tasks.WentOff, tasks.Kept, tasks.Held, tasks.Held, tasks.Held} {
		if again[i].Verdict != want {
			t.Errorf("%s again: %s, want %s", changes[i], again[i].Verdict, want)
		}
	}
	for i, host := range hosts {
		if got := fmt.Sprint(f.spot(host), f.story(host)); got != before[i] {
			t.Errorf("%s is changed by the second time:\n  %s, before\n  %s", host, got, before[i])
		}
	}
}

func (f rollFixture) applyAgain(changes []string) []tasks.Changed {
	f.Helper()
	list := make([]tasks.Change, len(changes))
	for i, s := range changes {
		list[i] = change(s)
	}
	changed, _, err := f.roll.Apply(f.Context(), "me", list)
	f.must(err)
	return changed
}

// A host of another live listener is the other's, however few leases there are.
func TestHeldByTheOnlyListener(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	f.must(f.rdb.ZRem(t.Context(), tasks.KeyListeners, "me", "dead").Err())
	f.put("web-1", spot{"10.0.0.9:1@other", "agent i1", "other", false})
	f.apply("refused", "on web-1 agent i2")
}

// The rotation of a listener says again and again what the roll knows: that must not
// be a write, which replicas and the append-only file would get too.
func TestWhatIsKnownIsNotWritten(t *testing.T) {
	t.Parallel()
	f := rollFixture{fixture: on(t, redistest.OpenReal(t))} // the embedded one counts no writes
	f.roll = tasks.NewRoll(f.rdb)
	f.apply("on, on, off", "on h1 json", "on h2 agent i1", "off h2")
	writes := func() string {
		t.Helper()
		info, err := f.rdb.InfoMap(t.Context(), "persistence").Result()
		f.must(err)
		return info["Persistence"]["rdb_changes_since_last_save"]
	}
	before := writes()
	changed := f.applyAgain([]string{"hold h1 json", "off h2", "off h3"})
	if got := fmt.Sprintf("%s %s %s", changed[0].Verdict, changed[1].Verdict, changed[2].Verdict); got != "held off kept" {
		t.Errorf("verdicts %s", got)
	}
	if after := writes(); after != before || before == "" {
		t.Errorf("%s writes, and before %s", after, before)
	}
}

// More changes than one call of the script takes are made in their order, and each
// has its answer.
func TestManyChanges(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	const hosts = 400
	var changes, want []string
	for i := range hosts {
		changes, want = append(changes, fmt.Sprintf("on h%d json", i)), append(want, "on")
	}
	for i := range hosts / 2 {
		changes, want = append(changes, fmt.Sprintf("off h%d", 2*i)), append(want, "off")
	}
	changes, want = append(changes, "on h0 agent i1", "off none"), append(want, "on", "kept")
	changed := f.apply(strings.Join(want, ", "), changes...)
	ctx := t.Context()
	if n := f.rdb.HLen(ctx, tasks.KeyOnline).Val(); n != hosts/2+1 {
		t.Errorf("%d hosts on the roll, want %d", n, hosts/2+1)
	}
	if a, b := f.rdb.SCard(ctx, tasks.KeyAt("me")).Val(), f.rdb.HLen(ctx, tasks.KeyClients).Val(); a != hosts/2+1 || b != a {
		t.Errorf("%d in the set, %d clients, want %d", a, b, hosts/2+1)
	}
	if at := f.wentAt("h398"); at == 0 || at != changed[len(changed)-3].When {
		t.Errorf("h398 went at %d, the answer is %+v", at, changed[len(changed)-3])
	}
	if n := f.rdb.ZCard(ctx, tasks.KeyDeparted).Val(); n != hosts/2-1 {
		t.Errorf("%d departures, want %d", n, hosts/2-1)
	}
	if got, _, err := f.roll.Apply(ctx, "me", nil); len(got) != 0 || err != nil {
		t.Errorf("no changes: %v, %v", got, err)
	}
}

// What Redis refuses to do is an error, and no verdict is claimed.
func TestRollErrors(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	for _, key := range []string{tasks.KeyOnline, tasks.KeyListeners, tasks.KeyDeparted, tasks.KeyAt("me")} {
		f.must(f.rdb.Del(ctx, key).Err())
		f.must(f.rdb.Set(ctx, key, "no roll", 0).Err())
	}
	gone := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	gone.Close()
	for where, roll := range map[string]*tasks.Roll{"broken": f.roll, "away": tasks.NewRoll(gone)} {
		for name, call := range map[string]func() error{
			"Apply": func() error {
				changed, _, err := roll.Apply(ctx, "me", []tasks.Change{change("on h1 json")})
				if changed != nil {
					t.Errorf("changed %v", changed)
				}
				return err
			},
			"Depart":  func() error { return roll.Depart(ctx, nil, []tasks.Departure{{Host: "h1", When: 1}}, nil) },
			"Lease":   func() error { _, err := roll.Lease(ctx, "me"); return err },
			"Release": func() error { return roll.Release(ctx, "none") },
			"Scan":    func() error { _, err := roll.Scan(ctx, "me", &tasks.Cursor{}); return err },
			"Leases":  func() error { _, err := roll.Leases(ctx); return err },
			"Sweep": func() error {
				_, err := tasks.NewSweeper(roll, nil, 1).Sweep(ctx)
				return err
			},
		} {
			if err := call(); err == nil {
				t.Errorf("%s: %s works", where, name)
			}
		}
	}
}
