package metrics

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/worker"
)

// parts adds the parts of processes to Servers, each of which does nothing.
type parts map[string]func(*Server)

func newParts(t *testing.T, rdb redis.UniversalClient) parts {
	t.Helper()
	l, err := listener.New(listener.Config{Redis: rdb})
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Config{Redis: rdb})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Config{Servers: []string{"127.0.0.1:1"}, ID: "a", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, end := context.WithCancel(context.Background())
		end()
		if err := a.Run(ended); err != nil { // releases what it took
			t.Error(err)
		}
	})
	return parts{
		"listener": func(s *Server) { s.AddListener(func() *listener.Server { return l }) },
		"worker":   func(s *Server) { s.AddWorker(func() *worker.Worker { return w }) },
		"agent":    func(s *Server) { s.AddAgent(a) },
		"fleet":    (*Server).AddFleet,
		"page":     func(s *Server) { s.AddCheck(func() error { return nil }, nil) },
	}
}

// whole returns a Server with every part that there is, in a process that does nothing.
func whole(t *testing.T) *Server {
	t.Helper()
	r := redistest.Open(t)
	s := newServer(t, Config{Version: "1.2.3", Redis: r.Client})
	s.Watch(r.Client)
	for _, add := range newParts(t, r.Client) {
		add(s)
	}
	return s
}

// shown is a metric: its type, its labels and their values.
type shown struct {
	kind   string
	labels map[string][]string
}

// all are the metrics of muster's own that s shows, by name.
func all(t *testing.T, s *Server) map[string]shown {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]shown{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "muster_") {
			continue
		}
		m := shown{strings.ToLower(f.GetType().String()), map[string][]string{}}
		for _, one := range f.GetMetric() {
			for _, l := range one.GetLabel() {
				m.labels[l.GetName()] = append(m.labels[l.GetName()], l.GetValue())
			}
		}
		for name, values := range m.labels {
			slices.Sort(values)
			m.labels[name] = slices.Compact(values)
		}
		found[f.GetName()] = m
		lint(t, f)
	}
	return found
}

// lint holds a metric to the rules for names.
func lint(t *testing.T, f *dto.MetricFamily) {
	name := f.GetName()
	if !regexp.MustCompile(`^muster(_[a-z]+)+$`).MatchString(name) {
		t.Errorf("%s: not lower case with _ between words", name)
	}
	if total := strings.HasSuffix(name, "_total"); total != (f.GetType() == dto.MetricType_COUNTER) {
		t.Errorf("%s is a %v", name, f.GetType())
	}
	if f.GetType() == dto.MetricType_HISTOGRAM && !strings.HasSuffix(name, "_seconds") {
		t.Errorf("%s has no unit", name)
	}
	if !strings.HasSuffix(f.GetHelp(), ".") {
		t.Errorf("%s: help %q", name, f.GetHelp())
	}
}

// docs/OBSERVING.md has a row for each metric: its name, its type, its labels and their
// values, and no other row.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/OBSERVING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := all(t, whole(t))
	rows := regexp.MustCompile("(?m)^\\| `(muster_[a-z_]+)` \\| (\\w+) \\|([^|]*)\\|").FindAllStringSubmatch(string(b), -1)
	if len(rows) == 0 {
		t.Fatal("there is no table")
	}
	kinds := regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| [^|]+ \\|$").FindAllStringSubmatch(string(b), -1)
	documented := map[string]bool{}
	for _, row := range rows {
		name, kind, labels := row[1], row[2], row[3]
		if documented[name] {
			t.Errorf("%s has two rows", name)
		}
		documented[name] = true
		m, ok := found[name]
		if !ok {
			t.Errorf("there is a row for %s, and no such metric", name)
			continue
		}
		if kind != m.kind {
			t.Errorf("%s is a %s, documented as a %s", name, m.kind, kind)
		}
		words := regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(labels, -1)
		var named []string
		for _, w := range words {
			named = append(named, w[1])
		}
		switch {
		case strings.Contains(labels, "#abnormal-data"):
			for _, k := range kinds {
				named = append(named, k[1])
			}
		case strings.Contains(labels, "REDIS.md"): // it has the states
			named = append(named, m.labels["state"]...)
		case name == "muster_build_info": // their values are not ours to choose
			m.labels = map[string][]string{"version": nil, "goversion": nil}
		}
		var want []string
		for label, values := range m.labels {
			want = append(append(want, label), values...)
		}
		slices.Sort(want)
		slices.Sort(named)
		if !slices.Equal(named, want) {
			t.Errorf("%s has the labels and values %q, documented are %q", name, want, named)
		}
	}
	for name := range found {
		if !documented[name] {
			t.Errorf("there is no row for %s", name)
		}
	}
}

// docs/OBSERVING.md says of each metric which processes show it. An agent is one without
// Redis here.
func TestWhoShowsWhatIsDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/OBSERVING.md")
	if err != nil {
		t.Fatal(err)
	}
	r := redistest.Open(t)
	add := newParts(t, r.Client)
	shows := map[string][]string{} // processes, by metric
	for _, process := range []struct {
		name  string
		redis bool
		parts []string
	}{
		{"listener", true, []string{"listener"}},
		{"worker", true, []string{"worker", "fleet"}},
		{"dashboard", true, []string{"page", "fleet"}},
		{"agent", false, []string{"agent"}},
	} {
		var cfg Config
		if process.redis {
			cfg.Redis = r.Client
		}
		s := newServer(t, cfg)
		s.Watch(r.Client)
		for _, part := range process.parts {
			add[part](s)
		}
		// What happened is shown from the first time on: all of it happens.
		s.Observer().Answered(time.Second)
		s.Observer().Closed(tasks.Ledger{})
		for name := range all(t, s) {
			shows[name] = append(shows[name], process.name)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `(muster_[a-z_]+)` \\| \\w+ \\|[^|]*\\| ([^|]+) \\|").FindAllStringSubmatch(string(b), -1)
	if len(rows) != len(shows) {
		t.Errorf("%d rows of %d metrics", len(rows), len(shows))
	}
	for _, row := range rows {
		by := strings.Join(shows[row[1]], ", ")
		switch by {
		case "listener, worker, dashboard":
			by = "all with Redis"
		case "listener, worker, dashboard, agent":
			by = "all"
		}
		if by != row[2] {
			t.Errorf("%s is shown by %s, documented is %s", row[1], by, row[2])
		}
	}
}
