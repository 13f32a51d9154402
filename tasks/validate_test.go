package tasks_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/tasks"
)

func good() tasks.Request {
	return tasks.Request{Commands: []tasks.Command{{Line: "uptime", Priority: 1}}}
}

// hostNames are n hosts with different names.
func hostNames(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprint("host-", i)
	}
	return hosts
}

// commandsOf are n commands of size bytes each.
func commandsOf(n, size int) []tasks.Command {
	list := make([]tasks.Command, n)
	for i := range list {
		list[i].Line = fmt.Sprintf("%0*d", size, i)
	}
	return list
}

func TestValidateDefaults(t *testing.T) {
	t.Parallel()
	r, err := good().Validate()
	if err != nil {
		t.Fatal(err)
	}
	if r.Timeout != 10*time.Minute || r.Deadline != time.Hour || r.Offline != "report" || r.Key != "" || r.Hosts != nil {
		t.Fatalf("validated %+v", r)
	}
}

// Every bound, at it and one beyond.
func TestValidateLimits(t *testing.T) {
	t.Parallel()
	with := func(change func(*tasks.Request)) tasks.Request {
		r := good()
		change(&r)
		return r
	}
	host128 := "h" + strings.Repeat("x", 127)
	for _, c := range []struct {
		name  string
		r     tasks.Request
		field string // that is wrong; empty if all is right
	}{
		{"key of 64", with(func(r *tasks.Request) { r.Key = tasks.Number("AC" + strings.Repeat("x", 62)) }), ""},
		{"key of 65", with(func(r *tasks.Request) { r.Key = tasks.Number("AC" + strings.Repeat("x", 63)) }), "key"},
		{"key of 3", with(func(r *tasks.Request) { r.Key = "AC." }), ""},
		{"key of 2", with(func(r *tasks.Request) { r.Key = "AC" }), "key"},
		{"key of another form", with(func(r *tasks.Request) { r.Key = "ac131" }), "key"},
		{"key with a line end", with(func(r *tasks.Request) { r.Key = "AC131\n" }), "key"},
		{"key with a brace", with(func(r *tasks.Request) { r.Key = "AC{1}" }), "key"},

		{"no commands", tasks.Request{}, "commands"},
		{"1,000 commands", with(func(r *tasks.Request) { r.Commands = commandsOf(1000, 10) }), ""},
		{"1,001 commands", with(func(r *tasks.Request) { r.Commands = commandsOf(1001, 10) }), "commands"},
		{"an empty command", with(func(r *tasks.Request) { r.Commands[0].Line = "" }), "commands"},
		{"8,192 bytes", with(func(r *tasks.Request) { r.Commands = commandsOf(1, 8192) }), ""},
		{"8,193 bytes", with(func(r *tasks.Request) { r.Commands = commandsOf(1, 8193) }), "commands"},
		{"128 KiB", with(func(r *tasks.Request) { r.Commands = commandsOf(16, 8192) }), ""},
		{"128 KiB and 1", with(func(r *tasks.Request) {
			r.Commands = append(commandsOf(16, 8192), tasks.Command{Line: "w"})
		}), "commands"},
		{"not UTF-8", with(func(r *tasks.Request) { r.Commands[0].Line = "a\xff" }), "commands"},
		{"NaN", with(func(r *tasks.Request) { r.Commands[0].Priority = math.NaN() }), "commands"},
		{"infinite", with(func(r *tasks.Request) { r.Commands[0].Priority = math.Inf(-1) }), "commands"},
		{"the greatest priority", with(func(r *tasks.Request) { r.Commands[0].Priority = math.MaxFloat64 }), ""},
		{"twice", with(func(r *tasks.Request) { r.Commands = append(r.Commands, tasks.Command{Line: "uptime", Priority: 2}) }), "commands"},

		{"one host", with(func(r *tasks.Request) { r.Hosts = hostNames(1) }), ""},
		{"100,000 hosts", with(func(r *tasks.Request) { r.Hosts = hostNames(100_000) }), ""},
		{"100,000 hosts, one twice", with(func(r *tasks.Request) { r.Hosts = append(hostNames(100_000), "host-7") }), ""},
		{"100,001 hosts", with(func(r *tasks.Request) { r.Hosts = hostNames(100_001) }), "hosts"},
		{"no hosts", with(func(r *tasks.Request) { r.Hosts = []string{} }), "hosts"},
		{"a host of 128", with(func(r *tasks.Request) { r.Hosts = []string{host128} }), ""},
		{"a host of 129", with(func(r *tasks.Request) { r.Hosts = []string{host128 + "x"} }), "hosts"},
		{"an empty host", with(func(r *tasks.Request) { r.Hosts = []string{""} }), "hosts"},
		{"an IPv6 host", with(func(r *tasks.Request) { r.Hosts = []string{"::1", "fe80::1"} }), ""},
		{"a host with a blank", with(func(r *tasks.Request) { r.Hosts = []string{"web-1", "web 2"} }), "hosts"},
		{"a host with a dot first", with(func(r *tasks.Request) { r.Hosts = []string{".web"} }), "hosts"},

		{"1 s", with(func(r *tasks.Request) { r.Timeout, r.Deadline = time.Second, time.Second }), ""},
		{"a week", with(func(r *tasks.Request) { r.Timeout, r.Deadline = 604_800*time.Second, 604_800*time.Second }), ""},
		{"a limit over a week", with(func(r *tasks.Request) { r.Timeout = 604_801 * time.Second }), "timeout_s"},
		{"a deadline over a week", with(func(r *tasks.Request) { r.Deadline = 604_801 * time.Second }), "deadline_s"},
		{"a negative limit", with(func(r *tasks.Request) { r.Timeout = -time.Second }), "timeout_s"},
		{"a negative deadline", with(func(r *tasks.Request) { r.Deadline = -1 }), "deadline_s"},
		{"half a second", with(func(r *tasks.Request) { r.Timeout = time.Second / 2 }), "timeout_s"},
		{"a second and a half", with(func(r *tasks.Request) { r.Deadline = 3 * time.Second / 2 }), "deadline_s"},

		{"report", with(func(r *tasks.Request) { r.Offline = "report" }), ""},
		{"wait", with(func(r *tasks.Request) { r.Offline = "wait" }), ""},
		{"later", with(func(r *tasks.Request) { r.Offline = "later" }), "offline"},
	} {
		_, err := c.r.Validate()
		var wrong *tasks.InvalidError
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.field != "" && (!errors.As(err, &wrong) || wrong.Field != c.field || !strings.HasPrefix(err.Error(), c.field+": ")):
			t.Errorf("%s: %v, want an InvalidError of %s", c.name, err, c.field)
		case c.field != "" && !utf8.ValidString(err.Error()):
			t.Errorf("%s: the reason is not UTF-8: %q", c.name, err)
		}
	}
}

func TestValidateKeepsWhatItWasGiven(t *testing.T) {
	t.Parallel()
	in := tasks.Request{
		Commands: []tasks.Command{{Line: "low", Priority: 1}, {Line: "high", Priority: 9}, {Line: "high too", Priority: 9}},
		Hosts:    []string{"b", "a", "b", "c", "a"},
	}
	r, err := in.Validate()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.Commands); got != "[{high too 9} {high 9} {low 1}]" {
		t.Errorf("commands %v", got)
	}
	if !slices.Equal(r.Hosts, []string{"b", "a", "c"}) {
		t.Errorf("hosts %v", r.Hosts)
	}
	if in.Commands[0].Line != "low" || len(in.Hosts) != 5 {
		t.Errorf("the request given has changed: %+v", in)
	}
}

func TestInvalidError(t *testing.T) {
	t.Parallel()
	if got := (&tasks.InvalidError{Reason: "is odd"}).Error(); got != "is odd" {
		t.Errorf("without a field: %q", got)
	}
	// What a peer wrote is shortened, and not through the middle of a character.
	for _, s := range []string{strings.Repeat("x", 100_000), strings.Repeat("日", 1000), strings.Repeat("\xff", 1000)} {
		_, err := tasks.ParseNumber(s)
		if err == nil || len(err.Error()) > 600 || strings.Contains(err.Error(), `\xe6`) {
			t.Errorf("of a long text: %v", err)
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	var open, final, soft []tasks.State
	for _, s := range tasks.States() {
		switch {
		case s.Open() && s.Final():
			t.Errorf("%s is open and final", s)
		case s.Open():
			open = append(open, s)
		case s.Final():
			final = append(final, s)
		default:
			soft = append(soft, s)
		}
	}
	got := fmt.Sprint(open, final, soft)
	if want := "[waiting sent acknowledged received working] [done failed cancelled expired] [offline missing unanswered]"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
}
