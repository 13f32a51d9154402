package tasks_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

func TestParsePush(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]tasks.Push{
		"web-1":                {Action: tasks.PushLook, Hosts: []string{"web-1"}},
		"::1":                  {Action: tasks.PushLook, Hosts: []string{"::1"}},
		"start":                {Action: tasks.PushLook, Hosts: []string{"start"}}, // a host may be called so
		"start AC131 web-1":    {Action: tasks.PushStart, Number: "AC131", Hosts: []string{"web-1"}},
		"cancel AC131 a b ::1": {Action: tasks.PushCancel, Number: "AC131", Hosts: []string{"a", "b", "::1"}},
	} {
		if got, ok := tasks.ParsePush(payload); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", payload, got, ok)
		}
	}
	for _, payload := range []string{
		"", " ", "web-1 ", " web-1", "start AC131", "start AC131 ", "start AC131 a  b", "start XX web-1", "start AC web-1",
		"later AC131 web-1", "look web-1", "look AC131 web-1", "START AC131 web-1",
	} {
		if got, ok := tasks.ParsePush(payload); ok || got.Action != "" {
			t.Errorf("%q is understood: %+v", payload, got)
		}
	}
}

// What is pushed is heard, in messages of less than 64 KiB, and all in one round trip.
func TestPush(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	sub := f.rdb.Subscribe(ctx, tasks.ChannelFor("me"))
	defer sub.Close()
	_, err := sub.Receive(ctx)
	f.must(err)
	hosts := make([]string, 2000)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("%s%d", strings.Repeat("x", 124), 1000+i) // the longest there are
	}
	for _, p := range []tasks.Push{
		{Action: tasks.PushStart, Number: "AC1", Hosts: hosts},
		{Action: tasks.PushCancel, Number: tasks.Number("AC" + strings.Repeat("9", 62)), Hosts: hosts},
		{Action: tasks.PushStart, Number: "AC1", Hosts: hosts[:1]},
		{Action: tasks.PushLook, Hosts: hosts[:2]},
	} {
		n := &counter{}
		rdb := f.client()
		f.must(tasks.NewRoll(rdb).Push(ctx, "nobody", tasks.Push{Action: tasks.PushLook, Hosts: hosts[:1]})) // connects
		rdb.AddHook(n)
		f.must(tasks.NewRoll(rdb).Push(ctx, "me", p))
		if n.n != 1 {
			t.Errorf("%s: %d round trips", p.Action, n.n)
		}
		var heard []string
		for len(heard) < len(p.Hosts) {
			m, err := sub.ReceiveMessage(ctx)
			f.must(err)
			got, ok := tasks.ParsePush(m.Payload)
			if !ok || got.Action != p.Action || got.Number != p.Number || len(m.Payload) >= 64<<10 {
				t.Fatalf("%s: %d bytes, %v, %s %s", p.Action, len(m.Payload), ok, got.Action, got.Number)
			}
			heard = append(heard, got.Hosts...)
		}
		if !slices.Equal(heard, p.Hosts) {
			t.Errorf("%s: %d hosts, not those that were pushed", p.Action, len(heard))
		}
	}
	f.must(f.roll.Push(ctx, "me", tasks.Push{Action: tasks.PushStart, Number: "AC1"}))
	f.must(f.roll.Push(ctx, "nobody", tasks.Push{Action: tasks.PushStart, Number: "AC1", Hosts: hosts}))
	if err := f.roll.Push(ctx, "me", tasks.Push{Action: "later", Hosts: hosts}); err == nil {
		t.Error("an unknown action is pushed")
	}
	f.must(f.rdb.Publish(ctx, tasks.ChannelFor("me"), "mark").Err())
	if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "mark" {
		t.Errorf("heard %v, %v after no hosts", m, err)
	}
}

// Of the hosts that arrive those are noted for which something waits.
func TestArrived(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	ctx := t.Context()
	f.must(f.roll.Arrived(ctx, nil))
	f.must(f.roll.Arrived(ctx, []string{"web-1", "web-2"}))
	if n := f.rdb.Exists(ctx, tasks.KeyArrived).Val(); n != 0 {
		t.Error("noted although nothing waits")
	}
	f.must(f.rdb.SAdd(ctx, tasks.KeyHost("web-2", "waiting"), "AC1").Err())
	f.must(f.rdb.SAdd(ctx, tasks.KeyHost("::1", "waiting"), "AC1").Err())
	before := f.now().UnixMilli()
	f.must(f.roll.Arrived(ctx, []string{"web-1", "web-2", "::1"}))
	got, err := f.rdb.ZRangeWithScores(ctx, tasks.KeyArrived, 0, -1).Result()
	f.must(err)
	names := map[any]bool{}
	for _, z := range got {
		names[z.Member] = true
		if at := int64(z.Score); at < before || at > f.now().UnixMilli() {
			t.Errorf("%v arrived at %d, it was %d", z.Member, at, before)
		}
	}
	if !reflect.DeepEqual(names, map[any]bool{"web-2": true, "::1": true}) {
		t.Errorf("noted are %v", got)
	}
	// One that a worker has under way is due again at once.
	f.must(f.rdb.ZAdd(ctx, tasks.KeyArrived, redis.Z{Score: 4e12 + 0.5, Member: "web-2"}).Err())
	f.must(f.roll.Arrived(ctx, []string{"web-2"}))
	if at := f.rdb.ZScore(ctx, tasks.KeyArrived, "web-2").Val(); at > float64(f.now().UnixMilli()) {
		t.Errorf("web-2 is due at %f", at)
	}
	broken := errors.New("no answer")
	for _, at := range []string{"exists", "zadd"} {
		hooked := f.client()
		hooked.AddHook(&counter{before: func(cmd redis.Cmder) error {
			if cmd.Name() == at {
				return broken
			}
			return nil
		}})
		if err := tasks.NewRoll(hooked).Arrived(ctx, []string{"web-2"}); !errors.Is(err, broken) {
			t.Errorf("broken at %s: %v", at, err)
		}
	}
}

// A listener that was asleep longer than its lease does not sweep its own hosts.
func TestSpare(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	s := f.sweeper(f.rdb)
	s.Spare("dead")
	f.lease("dead2", -1)
	f.put("h1", spot{"10.0.0.9:1@dead", "json", "dead", false})
	f.put("h2", spot{"10.0.0.9:1@dead2", "json", "dead2", false})
	swept, err := s.Sweep(t.Context())
	f.must(err)
	if !slices.Equal(swept, []string{"dead2"}) || f.spot("h1").place == "" || f.spot("h2").place != "" {
		t.Errorf("swept %q, h1 is %+v, h2 is %+v", swept, f.spot("h1"), f.spot("h2"))
	}
}

func TestHeld(t *testing.T) {
	t.Parallel()
	f := openRoll(t)
	var want []string
	for i := range 1200 {
		host := fmt.Sprintf("h%04d", i)
		want = append(want, host)
		f.must(f.rdb.SAdd(t.Context(), tasks.KeyAt("me"), host).Err())
	}
	got, err := f.roll.Held(t.Context(), "me")
	f.must(err)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%d hosts, want %d", len(got), len(want))
	}
	if got, err := f.roll.Held(t.Context(), "none"); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
