package worker

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/musterhq/muster/tasks"
)

func TestParseReplies(t *testing.T) {
	t.Parallel()
	raw := []any{
		[]any{"1-0", []any{"key", "AC1", "key", "AC2"}},
		[]any{"2-0", nil}, // deleted while it was pending
	}
	want := []entry{{"1-0", []string{"key", "AC1", "key", "AC2"}}, {"2-0", nil}}
	for name, reply := range map[string]any{
		"RESP2": []any{[]any{"muster:requests", raw}},
		"RESP3": map[any]any{"muster:requests": raw},
	} {
		got, err := parseRead(reply)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, none := range []any{nil, []any{}, map[any]any{}, []any{[]any{"muster:requests", nil}}} {
		if got, err := parseRead(none); err != nil || len(got) != 0 {
			t.Errorf("%v: %v, %v", none, got, err)
		}
	}
	for _, bad := range []any{"x", []any{"x"}, []any{[]any{"s", "x"}}, []any{[]any{"s", []any{"x"}}}} {
		if _, err := parseRead(bad); err == nil {
			t.Errorf("%v is taken for a reply", bad)
		}
	}

	next, got, gone, err := parseClaim([]any{"7-0", raw, []any{"3-0"}})
	if err != nil || next != "7-0" || gone || !reflect.DeepEqual(got, want) {
		t.Errorf("claim: %q %v %v %v", next, got, gone, err)
	}
	next, got, gone, err = parseClaim([]any{"0-0", []any{nil, raw[0]}})
	if err != nil || next != "0-0" || !gone || !reflect.DeepEqual(got, want[:1]) {
		t.Errorf("claim before Redis 7: %q %v %v %v", next, got, gone, err)
	}
	if _, _, _, err = parseClaim("x"); err == nil {
		t.Error("a text is taken for a reply")
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fields, want string }{
		{`key|AC1|commands|{"a": 1}|hosts|["h"]|timeout_s|7`, `{"key":"AC1","commands":{"a": 1},"hosts":["h"],"timeout_s":7}`},
		{`key|7|offline|true|signature|{}|other|[1]`, `{"key":"7","offline":"true","signature":"{}","other":"[1]"}`}, // plain text
		{`commands|{"a": 1|hosts|h|timeout_s||deadline_s|1,"key":"x"`, `{"commands":"{\"a\": 1","hosts":"h","timeout_s":"","deadline_s":"1,\"key\":\"x\""}`},
		{`key|AC1|key|AC2`, `{"key":"AC1","key":"AC2"}`},
		{"k\"\\\n|\x00é\xff", `{"k\"\\\u000a":"\u0000é` + "\xff" + `"}`},
		{"", `{}`},
	} {
		e := entry{id: "1-0"}
		if c.fields != "" {
			e.fields = strings.Split(c.fields, "|")
		}
		if got := string(e.payload()); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.fields, got, c.want)
		}
	}
}

// What an entry holds comes through as it is, the good and the bad.
func TestPayloadIsJudgedAsTheEntry(t *testing.T) {
	t.Parallel()
	r, err := tasks.ParseRequest(entry{fields: []string{
		"key", "AC1", "commands", ` {"echo \"é\"": 1.5} `, "hosts", `["a","b"]`, "deadline_s", "60", "offline", "report",
	}}.payload())
	if err != nil || r.Key != "AC1" || r.Commands[0] != (tasks.Command{Line: `echo "é"`, Priority: 1.5}) || len(r.Hosts) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	var invalid *tasks.InvalidError
	_, err = tasks.ParseRequest(entry{fields: []string{"key", "AC\xff", "commands", `{"a":1}`}}.payload())
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("not UTF-8: %v", err)
	}
}

func TestKeyPayload(t *testing.T) {
	t.Parallel()
	if got := string(entry{fields: []string{"x", "y", "key", "AC1"}}.keyPayload()); got != `{"key":"AC1"}` {
		t.Error(got)
	}
	if got := string(entry{fields: []string{"key", strings.Repeat("A", 101), "x", "y"}}.keyPayload()); got != `{}` {
		t.Error(got)
	}
}
