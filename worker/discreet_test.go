package worker

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/tasks"
)

// Whatever is wrong with a request, no command of it gets into a log.
func TestReasonsAreDiscreet(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("hidden ", 100)
	for payload, want := range map[string]string{
		`{"commands":{"hidden":"hidden"}}`:               "commands: the priority of ",
		`{"commands":{"` + long + `":"` + long + `"}}`:   "commands: the priority of ",
		`{"commands":{"hidden \" x":"hidden"}}`:          "commands: the priority of ",
		`{"commands":"hidden"}`:                          "commands: not a JSON object",
		`{"commands":{"hidden":1,"hidden":2}}`:           "commands: ",
		`{"hidden":1,"commands":{"a":1}}`:                "a field that requests do not have: ",
		`"hidden"`:                                       "the request is not a JSON object",
		`{"commands":{"a":1},"hosts":"hidden"}`:          "hosts: ",
		`{"commands":{"a":1},"hosts":["hidden hidden"]}`: "hosts: ",
		`{"commands":{"a":1},"key":"131"}`:               `key: "131" is no task number`,
	} {
		_, err := tasks.ParseRequest([]byte(payload))
		if err == nil {
			t.Errorf("%s is no error", payload)
			continue
		}
		if got := discreet(err); strings.Contains(got, "hidden") || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s...", payload, got, want)
		}
	}
}
