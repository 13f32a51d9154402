package tasks_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

func TestRecordAndRead(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	last, err := tasks.LastEvent(ctx, f.rdb)
	f.must(err)
	if last != "0" {
		t.Fatalf("the last of no events is %q", last)
	}
	before := f.now()
	total, counts := int64(3), map[tasks.State]int64{tasks.Done: 2, tasks.Failed: 1}
	in := []tasks.Event{
		{Type: "host.online", Host: "web-1"},
		{Type: "request.rejected", Request: "17-0", Reason: "commands: \xff is odd"},
		{Type: "task.closed", Key: "AC1", Request: "18-0", Counts: counts, Total: &total, More: map[string]string{"color": "red", "b": "7", "none": ""}},
	}
	for _, e := range in {
		f.must(tasks.Record(ctx, f.rdb, e))
	}
	got, err := tasks.Events(ctx, f.rdb, "0", 10, 0)
	f.must(err)
	if len(got) != 3 {
		t.Fatalf("%d events, want 3", len(got))
	}
	for i, e := range got {
		if e.ID == "" || e.Time.Before(before.Truncate(time.Millisecond)) || e.Time.After(f.now()) {
			t.Errorf("event %q at %v, want after %v", e.ID, e.Time, before)
		}
		got[i].ID, got[i].Time = "", time.Time{}
	}
	full := map[tasks.State]int64{}
	for _, s := range tasks.States() {
		full[s] = counts[s]
	}
	none, nothing := map[tasks.State]int64{}, map[string]string{}
	want := []tasks.Event{
		{Type: "host.online", Host: "web-1", Counts: none, More: nothing},
		{Type: "request.rejected", Request: "17-0", Reason: `commands: \xff is odd`, Counts: none, More: nothing},
		{Type: "task.closed", Key: "AC1", Request: "18-0", Counts: full, Total: &total, More: map[string]string{"color": "red", "b": "7"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("events\n%+v\nwant\n%+v", got, want)
	}
	raw, err := f.rdb.XRange(ctx, tasks.KeyEvents, "-", "+").Result()
	f.must(err)
	if fmt.Sprint(raw[0].Values) != "map[host:web-1 type:host.online]" { // fields that do not apply are left out
		t.Fatalf("the first is %v", raw[0].Values)
	}
	last, err = tasks.LastEvent(ctx, f.rdb)
	f.must(err)
	if last != raw[2].ID {
		t.Fatalf("the last event is %q, want %q", last, raw[2].ID)
	}

	some, err := tasks.Events(ctx, f.rdb, raw[0].ID, 1, 0)
	f.must(err)
	if len(some) != 1 || some[0].ID != raw[1].ID {
		t.Fatalf("one after the first: %+v", some)
	}
	if rest, err := tasks.Events(ctx, f.rdb, last, 10, 0); err != nil || len(rest) != 0 {
		t.Fatalf("after the last: %v, %v", rest, err)
	}
	// A wait shorter than Redis can count is no wait for ever.
	if rest, err := tasks.Events(ctx, f.rdb, last, 10, time.Microsecond); err != nil || len(rest) != 0 {
		t.Fatalf("after the last: %v, %v", rest, err)
	}
}

// Events of others may hold anything.
func TestForeignEvents(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.must(f.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: tasks.KeyEvents, Values: []string{
		"done", "many", "total", "all", "failed", "2", "color", "red",
	}}).Err())
	got, err := tasks.Events(t.Context(), f.rdb, "0", 10, 0)
	f.must(err)
	e := got[0]
	if e.Type != "" || e.Total != nil || e.Counts[tasks.Failed] != 2 || e.More["done"] != "many" || e.More["color"] != "red" {
		t.Fatalf("event %+v", e)
	}
}

func TestEventsWait(t *testing.T) {
	t.Parallel()
	f := open(t)
	type answer struct {
		events []tasks.Event
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		for len(a.events) == 0 && a.err == nil {
			a.events, a.err = tasks.Events(t.Context(), f.rdb, "0", 10, time.Second)
		}
		answers <- a
	}()
	f.must(tasks.Record(t.Context(), f.rdb, tasks.Event{Type: "host.offline", Host: "web-1"}))
	select {
	case a := <-answers:
		if a.err != nil || a.events[0].Host != "web-1" {
			t.Fatalf("waited for %+v, %v", a.events, a.err)
		}
	case <-time.After(time.Minute):
		t.Fatal("no event within a minute")
	}
}

func TestEventsAreCapped(t *testing.T) {
	t.Parallel()
	f := on(t, redistest.OpenReal(t)) // the embedded one takes a minute for so many
	f.must(f.rdb.Eval(t.Context(), `for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'type', 'x') end return 1`,
		[]string{tasks.KeyEvents}, tasks.EventsCap+500).Err())
	f.must(tasks.Record(t.Context(), f.rdb, tasks.Event{Type: "host.online"}))
	if n := f.rdb.XLen(t.Context(), tasks.KeyEvents).Val(); n < tasks.EventsCap || n > tasks.EventsCap+200 {
		t.Fatalf("%d events are kept, want about %d", n, tasks.EventsCap)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                "",
		"uptime":          "uptime",
		"日本\n\x1b":        "日本\n\x1b",
		"a\xffb":          `a\xffb`,
		"\xe6\x97":        `\xe6\x97`,
		"\xed\xa0\x80":    `\xed\xa0\x80`, // half of a surrogate pair
		"\ufffd\x80日\xc0": "\ufffd" + `\x80日\xc0`,
	} {
		got := tasks.Printable(in)
		if got != want || !utf8.ValidString(got) {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}
