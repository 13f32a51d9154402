package deploy_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/proctest"
	"github.com/musterhq/muster/internal/redistest"
)

// TestComposeUp is docker compose up --scale agent=3 --scale worker=2, then the demo, then
// down, with processes for containers: the words, the variables, the users and the health
// checks are those of docker-compose.yml.
func TestComposeUp(t *testing.T) {
	t.Parallel()
	redistest.NeedReal(t)
	proctest.Need(t, "redis-cli")
	s := newSystem(t)
	for _, name := range []string{"dashboard", "worker", "agent"} {
		s.up(name, map[string]int{"agent": 3, "worker": 2})
	}

	demo := s.container("demo", 1)
	if status, stdout, stderr := demo.once(t); status != 0 {
		t.Errorf("the demo ends with %d\n%s%s", status, stdout, stderr)
	}

	// The same with --json says what there is to look at.
	status, stdout, stderr := s.container("demo", 2, append(slices.Clone(demo.service.Command), "--json")...).once(t)
	if status != 0 {
		t.Fatalf("the demo ends with %d\n%s%s", status, stdout, stderr)
	}
	var set struct {
		Key string
	}
	if err := json.NewDecoder(strings.NewReader(stdout)).Decode(&set); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	type result struct {
		Host     string
		ExitCode *int `json:"exit_code"`
		Stdout   string
	}
	var results []result
	_, stdout, _ = s.container("demo", 3, "results", set.Key, "--json").once(t)
	for dec := json.NewDecoder(strings.NewReader(stdout)); dec.More(); {
		var r result
		if err := dec.Decode(&r); err != nil {
			t.Fatalf("%v\n%s", err, stdout)
		}
		if r.ExitCode == nil || *r.ExitCode != 0 || r.Stdout == "" {
			t.Errorf("%s: %s", r.Host, stdout)
		}
		results = append(results, r)
	}
	if len(results) != 6 {
		t.Errorf("want two results of each of three agents:\n%s", stdout)
	}
	if status, stdout, stderr := s.container("demo", 4, "verify", set.Key).once(t); status != 0 {
		t.Errorf("verify ends with %d\n%s%s", status, stdout, stderr)
	}
	s.told(t)

	for _, page := range []string{"/", "/queues/"} {
		if status, body := get(t, "http://"+s.names["dashboard"]+":8080"+page, "127.0.0.1:8080"); status != http.StatusOK {
			t.Errorf("%s: %d\n%s", page, status, body)
		}
	}

	slices.Reverse(s.containers)
	for _, c := range s.containers {
		c.stop(t, c.service.StopGracePeriod)
	}
}

// told holds where workers send to where agents wait: the address of the container, and
// the port that its agent has named.
func (s *system) told(t *testing.T) {
	t.Helper()
	_, stdout, _ := s.container("demo", 5, "hosts", "--json").once(t)
	roll := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(stdout)); dec.More(); {
		var h struct{ Host, Address string }
		if err := dec.Decode(&h); err != nil {
			t.Fatalf("%v\n%s", err, stdout)
		}
		roll[h.Host] = h.Address
	}
	want := map[string]string{}
	for _, c := range s.containers {
		if strings.HasPrefix(c.name, "agent-") {
			want[c.name] = c.ip + ":6655"
		}
	}
	if !maps.Equal(roll, want) {
		t.Errorf("the roll is %v, want %v", roll, want)
	}
}
