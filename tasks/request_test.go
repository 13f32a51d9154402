package tasks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/tasks"
)

func TestParseRequest(t *testing.T) {
	t.Parallel()
	got, err := tasks.ParseRequest([]byte(` {"key":"AC131", "commands":{"df -h":5,"uptime":10,"\u0065cho \ud83d\ude00 \\ud800":-1.5e2},
		"hosts":["web-1","web-2","web-1"],"timeout_s":30,"deadline_s":604800,"offline":"report"} `))
	if err != nil {
		t.Fatal(err)
	}
	want := tasks.Request{
		Key:      "AC131",
		Commands: []tasks.Command{{Line: "uptime", Priority: 10}, {Line: "df -h", Priority: 5}, {Line: `echo 😀 \ud800`, Priority: -150}},
		Hosts:    []string{"web-1", "web-2"}, Timeout: 30 * time.Second, Deadline: 604_800 * time.Second, Offline: "report",
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("parsed %+v, want %+v", got, want)
	}
}

// Each bad request names its field and says what is wrong with it.
func TestParseRequestRefuses(t *testing.T) {
	t.Parallel()
	many := func(n int, format string) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(format, i))
		}
		return strings.Join(list, ",")
	}
	for _, c := range []struct{ payload, field, reason string }{
		{"", "", "not a JSON object"},
		{"null", "", "not a JSON object"},
		{"[]", "", "not a JSON object"},
		{`"AC131"`, "", "not a JSON object"},
		{"{", "", "malformed"},
		{`{"commands":{"a":1}`, "", "malformed"},
		{`{"commands":{"a":1}} {}`, "", "malformed"},
		{`{"commands":{"a":1},}`, "", "malformed"},
		{"{\"commands\":{\"a\xff\":1}}", "", "UTF-8"},
		{`{}`, "commands", "missing"},
		{`{"commands":{"a":1},"commands":{"b":1}}`, "commands", "twice"},
		{`{"commands":{"a":1},"command\u0073":{"b":1}}`, "commands", "twice"},
		{`{"commands":{"a":1},"color":"red"}`, "color", "unknown"},
		{`{"Commands":{"a":1}}`, "Commands", "unknown"},
		{`{"commands":{"a":1},"signature":"x"}`, "signature", "reserved"},
		{`{"commands":{"a":1},"signature":null}`, "signature", "reserved"},

		{`{"commands":{"a":1},"key":131}`, "key", "not a string"},
		{`{"commands":{"a":1},"key":null}`, "key", "not a string"},
		{`{"commands":{"a":1},"key":""}`, "key", "no task number"},
		{`{"commands":{"a":1},"key":"131"}`, "key", "no task number"},
		{`{"commands":{"a":1},"key":"AC1\ud800"}`, "key", "surrogate"},

		{`{"commands":{}}`, "commands", "0 commands"},
		{`{"commands":null}`, "commands", "not a JSON object"},
		{`{"commands":["a"]}`, "commands", "not a JSON object"},
		{`{"commands":"{\"a\":1}"}`, "commands", "not a JSON object"},
		{`{"commands":{"a":1,"a":2}}`, "commands", "twice"},
		{`{"commands":{"a":1,"\u0061":2}}`, "commands", "twice"},
		{`{"commands":{"":1}}`, "commands", "0 bytes"},
		{`{"commands":{"a":"1"}}`, "commands", "not a number"},
		{`{"commands":{"a":null}}`, "commands", "not a number"},
		{`{"commands":{"a":true}}`, "commands", "not a number"},
		{`{"commands":{"a":[1]}}`, "commands", "not a number"},
		{`{"commands":{"a":1e999}}`, "commands", "not a finite number"},
		{`{"commands":{"a":-1e999}}`, "commands", "not a finite number"},
		{`{"commands":{"a":NaN}}`, "", "malformed"},
		{`{"commands":{"rm \ud800":1}}`, "commands", "surrogate"},
		{`{"commands":{"rm \udc00\ud800":1}}`, "commands", "surrogate"},
		{`{"commands":{"rm \ud83d\ude00\ud83d":1}}`, "commands", "surrogate"},
		{`{"commands":{` + many(1001, `"%d":1`) + `}}`, "commands", "1001 commands"},
		{`{"commands":{"` + strings.Repeat("x", 8193) + `":1}}`, "commands", "8193 bytes"},

		{`{"commands":{"a":1},"hosts":[]}`, "hosts", "empty list"},
		{`{"commands":{"a":1},"hosts":null}`, "hosts", "not a JSON list"},
		{`{"commands":{"a":1},"hosts":"web-1"}`, "hosts", "not a JSON list"},
		{`{"commands":{"a":1},"hosts":{"web-1":1}}`, "hosts", "not a JSON list"},
		{`{"commands":{"a":1},"hosts":[1]}`, "hosts", "not a JSON list"},
		{`{"commands":{"a":1},"hosts":["web-1",null]}`, "hosts", "null"},
		{`{"commands":{"a":1},"hosts":["web-1",""]}`, "hosts", "no host id"},
		{`{"commands":{"a":1},"hosts":["-web"]}`, "hosts", "no host id"},
		{`{"commands":{"a":1},"hosts":["{web}"]}`, "hosts", "no host id"},
		{`{"commands":{"a":1},"hosts":[` + many(100_001, `"h%d"`) + `]}`, "hosts", "more than 100000"},

		{`{"commands":{"a":1},"timeout_s":0}`, "timeout_s", "whole number"},
		{`{"commands":{"a":1},"timeout_s":-1}`, "timeout_s", "whole number"},
		{`{"commands":{"a":1},"timeout_s":1.5}`, "timeout_s", "whole number"},
		{`{"commands":{"a":1},"timeout_s":604801}`, "timeout_s", "whole number"},
		{`{"commands":{"a":1},"timeout_s":"30"}`, "timeout_s", "whole number"},
		{`{"commands":{"a":1},"timeout_s":null}`, "timeout_s", "whole number"},
		{`{"commands":{"a":1},"timeout_s":9223372037}`, "timeout_s", "whole number"},
		{`{"commands":{"a":1},"deadline_s":0}`, "deadline_s", "whole number"},
		{`{"commands":{"a":1},"deadline_s":604801}`, "deadline_s", "whole number"},
		{`{"commands":{"a":1},"deadline_s":[]}`, "deadline_s", "whole number"},

		{`{"commands":{"a":1},"offline":"later"}`, "offline", "later"},
		{`{"commands":{"a":1},"offline":""}`, "offline", "empty"},
		{`{"commands":{"a":1},"offline":null}`, "offline", "not a string"},
	} {
		_, err := tasks.ParseRequest([]byte(c.payload))
		var wrong *tasks.InvalidError
		if !errors.As(err, &wrong) || wrong.Field != c.field || !strings.Contains(wrong.Reason, c.reason) {
			t.Errorf("%.80s\n\tgives %v\n\twant field %q and %q", c.payload, err, c.field, c.reason)
		}
		if err != nil && len(err.Error()) > 700 {
			t.Errorf("%.80s: a reason of %d bytes", c.payload, len(err.Error()))
		}
	}
}

func TestRequestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, r := range []tasks.Request{
		good(),
		{
			Key: "AC131", Hosts: []string{"web-1", "::1"}, Timeout: time.Second, Deadline: time.Minute, Offline: "report",
			Commands: []tasks.Command{{Line: `echo "a" <b> & \ 日本` + "\x00\u2028\n", Priority: 0.1}, {Line: "z", Priority: -1e300}, {Line: "y", Priority: 5e-324}},
		},
	} {
		payload, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tasks.ParseRequest(payload)
		if err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		want, err := r.Validate()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nis %+v\nwant %+v", payload, got, want)
		}
	}
}

// Whatever is parsed is valid, and written and parsed again it is the same.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		`{"key":"AC131","commands":{"uptime":10,"df -h":5},"hosts":["web-1"],"timeout_s":600,"deadline_s":3600,"offline":"report"}`,
		`{"commands":{"a\ud83d\ude00":1e-7,"\ud800":-0}}`, `{"commands":{"a":1,"a":2}}`, `{"hosts":[]}`, `{"commands":{"\\ud800":0.1}}`, `[]`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := tasks.ParseRequest(payload)
		if err != nil {
			var wrong *tasks.InvalidError
			if !errors.As(err, &wrong) || wrong.Reason == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		for _, c := range r.Commands {
			if !utf8.ValidString(c.Line) {
				t.Fatalf("command %q", c.Line)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		same, err := tasks.ParseRequest(again)
		if err != nil || !reflect.DeepEqual(r, same) {
			t.Fatalf("%s\nwas %+v\nis  %+v, %v", again, r, same, err)
		}
	})
}
