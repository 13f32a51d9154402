package dashboard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// breakKey puts a text in the place of a key. mend puts back what was there.
func (s *site) breakKey(key string) (mend func()) {
	s.t.Helper()
	s.must(s.rdb.Rename(s.t.Context(), key, "{muster}:kept").Err())
	s.must(s.rdb.Set(s.t.Context(), key, "no such thing", 0).Err())
	return func() {
		s.t.Helper()
		s.must(s.rdb.Rename(s.t.Context(), "{muster}:kept", key).Err())
	}
}

// A key that all pages are made of and that can't be read is named, and takes away nothing
// that comes from others, not even from a dashboard that has never seen it whole.
func TestBrokenKeysOfTheFleet(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.join("l1", "web-1")
	s.put("AC1", "web-1")
	s.must(tasks.RecordAll(t.Context(), s.rdb, []tasks.Event{{Type: "request.rejected", Request: "r1", Reason: "no good"}}))
	shown := map[string][]string{ // what stands on pages, and the keys that it needs
		"/ roll web-1":             {tasks.KeyOnline, tasks.KeyListeners},
		"/ news web-1":             {tasks.KeyEvents},
		"/ running AC1":            {tasks.KeySets},
		"/ listeners l1":           {tasks.KeyListeners},
		"/tasks sets AC1":          {tasks.KeySets},
		"/tasks rejected no good":  {tasks.KeyEvents},
		"/hosts/web-1 host online": {tasks.KeyOnline, tasks.KeyListeners},
		"/hosts/web-1 host came":   {tasks.KeyEvents},
	}
	all := func(s *site, without string) {
		t.Helper()
		for what, keys := range shown {
			path, rest, _ := strings.Cut(what, " ")
			region, text, _ := strings.Cut(rest, " ")
			if without == "" || !strings.Contains(strings.Join(keys, " "), without) {
				s.eventually(path, "without "+without+": "+what, func(p *page) bool { return strings.Contains(p.region(region), text) })
			}
		}
	}
	all(s, "")
	for _, at := range fleetPlaces() {
		mend := s.breakKey(at.key)
		named := func(p *page) bool { return strings.HasPrefix(p.region("redis"), at.key+" is a string and not a ") }
		s.eventually("/", at.key+" is named", named)
		for _, path := range []string{"/tasks", "/tasks/AC1", "/hosts/web-1", "/nothing"} {
			status := http.StatusOK
			if path == "/nothing" {
				status = http.StatusNotFound
			}
			if p := s.get(path, status); !named(p) || p.id("redis-away") != "none" {
				t.Errorf("%s without %s: %q", path, at.key, p.region("redis"))
			}
		}
		all(s, at.key)
		other := serveOn(t, s.redis, brisk())
		other.eventually("/", at.key+" is named", named)
		all(other, at.key)
		if p := other.get("/hosts/web-1", http.StatusOK); at.key == tasks.KeyOnline && p.id("host-state") != "not known" {
			t.Errorf("whether a host is online is not known: %q", p.id("host-state"))
		}
		mend()
		other.eventually("/", "mended", func(p *page) bool { return p.region("redis") == "" })
		all(other, "")
		other.end()
	}
}

// Each key of a task set that can't be read is named on the pages of the set, which show
// what the others tell.
func TestBrokenKeysOfASet(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	const n = tasks.Number("AC131")
	b := benchOf(t, s.rdb, s.Server)
	b.set(n, "ab", "web-1", "web-2")
	b.report(ended(n, "web-1", "a", 0, "what it printed"), tasks.Report{Number: n, Host: "web-1", Phase: 2, Working: "b"})
	s.must(s.rdb.HSet(t.Context(), tasks.KeySends(n), "web-2", "2").Err())
	s.must(s.rdb.HSet(t.Context(), tasks.KeyWorking(n), "web-1", "b").Err())
	shown := map[string]string{ // what stands on pages, and the key that it needs
		"/tasks/AC131 ledger Deadline":                     tasks.KeyMeta(n),
		"/tasks/AC131 outputs what it printed":             tasks.KeyResults(n) + tasks.KeySet(n),
		"/tasks/AC131 members web-2":                       tasks.KeyHosts(n),
		"/tasks/AC131 members 1 of 2":                      tasks.KeyCompleteOf(n, "web-1") + tasks.KeyHosts(n),
		"/tasks/AC131/hosts/web-1 results what it printed": tasks.KeyResults(n),
		"/tasks/AC131/hosts/web-1 results 1 of 2":          tasks.KeyCompleteOf(n, "web-1"),
	}
	for _, at := range append(setPlaces(n), completeOf(n, "web-1")) {
		mend := s.breakKey(at.key)
		for what, keys := range shown {
			path, rest, _ := strings.Cut(what, " ")
			region, text, _ := strings.Cut(rest, " ")
			if strings.Contains(keys, at.key) {
				continue
			}
			if p := s.get(path, http.StatusOK); !strings.Contains(p.region(region), text) {
				t.Errorf("without %s: %s is not there: %s", at.key, what, p.region(region))
			}
		}
		for _, path := range []string{"/tasks/AC131", "/tasks/AC131/hosts/web-1"} {
			if at.key == tasks.KeyCompleteOf(n, "web-1") && path == "/tasks/AC131" {
				continue
			}
			if got := words(s.get(path, http.StatusOK).root); !strings.Contains(got, at.key+" is a string and not a ") {
				t.Errorf("%s: %s is not named: %s", path, at.key, got)
			}
		}
		if at.key == tasks.KeyMeta(n) {
			s.must(s.sets.read(t.Context(), []tasks.Number{n}))
			if got := s.get("/tasks", http.StatusOK).region("sets"); !strings.Contains(got, at.key+" is a string") {
				t.Errorf("it is missing in the list in silence: %s", got)
			}
		}
		mend()
	}
	s.must(s.sets.reconcile(t.Context()))
	if got := s.get("/tasks", http.StatusOK).region("sets"); strings.Contains(got, "is a string") || !strings.Contains(got, "AC131") {
		t.Errorf("mended: %s", got)
	}
	if got := words(s.get("/tasks/AC131", http.StatusOK).root); strings.Contains(got, "is a string") {
		t.Errorf("mended: %s", got)
	}
}

// The same of a host, and of a task set that it may be in.
func TestBrokenKeysOfAHost(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.join("l1", "web-1")
	s.put("AC1", "web-1")
	s.put("AC2", "web-1")
	s.must(s.rdb.HSet(t.Context(), tasks.KeyHost("web-1", "info"), "hostname", "front").Err())
	s.must(s.rdb.RPush(t.Context(), tasks.KeyHost("web-1", "ipv4"), "10.9.8.7").Err())
	s.must(s.rdb.SAdd(t.Context(), tasks.KeyWaiting("web-1"), "AClater").Err())
	redistest.Eventually(t, "it is online", func() bool { return s.fleet.host("web-1") != nil })
	shown := map[string]string{"front": "info", "10.9.8.7": "ipv4", "AClater": "waiting", "AC1": "{AC1}:hosts", "AC2": "{AC2}:hosts", "came": ""}
	for _, at := range append(hostPlaces("web-1"), place{tasks.KeyHosts("AC2"), ""}) {
		mend := s.breakKey(at.key)
		got := words(s.get("/hosts/web-1", http.StatusOK).root)
		for text, key := range shown {
			if !strings.HasSuffix(at.key, key) == !strings.Contains(got, text+" ") && key != "" {
				t.Errorf("without %s: %s: %s", at.key, text, got)
			}
		}
		if !strings.Contains(got, at.key+" is a string and not a ") {
			t.Errorf("%s is not named: %s", at.key, got)
		}
		mend()
	}
	if got := words(s.get("/hosts/web-1", http.StatusOK).root); strings.Contains(got, "is a string") {
		t.Errorf("mended: %s", got)
	}
}
