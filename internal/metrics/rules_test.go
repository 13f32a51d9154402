package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const observability = "../../scripts/observability"

// vocabulary is what may be asked for: metrics, their labels and the values of these.
type vocabulary map[string]map[string][]string

// words are the metrics of s and of every Go program, as PromQL has them.
func words(t *testing.T, s *Server) vocabulary {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	v := vocabulary{"up": {"job": nil, "instance": nil}}
	own := all(t, s)
	for _, f := range families {
		labels := map[string][]string{"job": nil, "instance": nil} // which Prometheus adds; nil: any value
		for name, values := range own[f.GetName()].labels {
			labels[name] = values
		}
		if f.GetName() == "muster_build_info" {
			labels["version"], labels["goversion"] = nil, nil
		}
		names := []string{f.GetName()}
		if own[f.GetName()].kind == "histogram" {
			names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
		}
		for _, name := range names {
			v[name] = labels
			if strings.HasSuffix(name, "_bucket") {
				v[name] = map[string][]string{"le": nil}
				for label, values := range labels {
					v[name][label] = values
				}
			}
		}
	}
	return v
}

var (
	token    = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*|"(?:[^"\\]|\\.)*"|=~|!~|!=|==|[=(){},\[\]]|[^\s]`)
	grouping = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
)

// check returns what an expression asks for that there is not.
func (v vocabulary) check(expr string) (wrong []error) {
	tokens := token.FindAllString(expr, -1)
	asked := map[string]bool{} // labels that some metric in it has
	var grouped []string
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	metric := regexp.MustCompile(`^(muster|go|process)_\w+$|^up$`)
	found := 0
	for i := 0; i < len(tokens); i++ {
		switch {
		case slices.Contains(grouping, tokens[i]) && at(i+1) == "(":
			for i += 2; i < len(tokens) && tokens[i] != ")"; i++ {
				if tokens[i] != "," {
					grouped = append(grouped, tokens[i])
				}
			}
		case metric.MatchString(tokens[i]):
			found++
			name := tokens[i]
			labels, ok := v[name]
			if !ok {
				wrong = append(wrong, fmt.Errorf("there is no metric %s", name))
				continue
			}
			for label := range labels {
				asked[label] = true
			}
			if at(i+1) != "{" {
				continue
			}
			for i += 2; i < len(tokens) && tokens[i] != "}"; i++ {
				if tokens[i] == "," {
					continue
				}
				wrong = append(wrong, v.matcher(name, at(i), at(i+1), strings.Trim(at(i+2), `"`))...)
				i += 2
			}
		}
	}
	for _, label := range grouped {
		if !asked[label] {
			wrong = append(wrong, fmt.Errorf("no metric in it has the label %s", label))
		}
	}
	if found == 0 {
		wrong = append(wrong, errors.New("it asks for no metric"))
	}
	return wrong
}

// matcher holds one matcher to the label of a metric.
func (v vocabulary) matcher(name, label, operator, value string) (wrong []error) {
	values, ok := v[name][label]
	if !ok {
		return []error{fmt.Errorf("%s has no label %s", name, label)}
	}
	if !slices.Contains([]string{"=", "!=", "=~", "!~"}, operator) {
		return []error{fmt.Errorf("%s: %s is followed by %s", name, label, operator)}
	}
	if values == nil || strings.Contains(value, "$") { // of somebody else's, or a variable of the dashboard
		return nil
	}
	for one := range strings.SplitSeq(value, "|") {
		if !slices.Contains(values, one) {
			wrong = append(wrong, fmt.Errorf("%s: %s is never %q", name, label, one))
		}
	}
	return wrong
}

// The checker itself finds each kind of mistake.
func TestVocabulary(t *testing.T) {
	t.Parallel()
	v := words(t, whole(t))
	for _, good := range []string{
		`up{job=~"muster.*"} == 0`, `sum by (le, what) (rate(muster_redis_roundtrip_seconds_bucket{job=~"$job",what="script"}[5m]))`,
		`sum(muster_hosts_ended_total{state!~"offline|done"}) without (state)`, `go_goroutines`, `process_resident_memory_bytes{instance="a"}`,
	} {
		if wrong := v.check(good); wrong != nil {
			t.Errorf("%s: %v", good, wrong)
		}
	}
	for _, bad := range []string{
		`muster_nothing_total`, `muster_answer_delay_seconds`, `muster_hosts_ended_total{State="done"}`, `muster_hosts_ended_total{state="Done"}`,
		`muster_hosts_ended_total{state=~"done|gone"}`, `sum by (kind) (muster_hosts_ended_total)`, `muster_fleet_hosts_online_total > 1`,
		`muster_listener_hosts{le="1"}`, `1 > 2`, `go_nothing`, `muster_hosts_ended_total{state=="done"}`, `sum(muster_fleet_hosts) by (le)`,
	} {
		if wrong := v.check(bad); wrong == nil {
			t.Errorf("nothing is found wrong with %s", bad)
		}
	}
}

// The dashboard asks for metrics and labels that there are.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(observability, "muster.json"))
	if err != nil {
		t.Fatal(err)
	}
	type panel struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ H, W, X, Y int }
		Targets                  []struct{ Expr, LegendFormat string }
	}
	var board struct {
		Panels     []panel
		Templating struct{ List []struct{ Name, Type string } }
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	v := words(t, whole(t))
	rows, ids := map[string]bool{}, map[int]bool{}
	taken := map[[2]int]string{}
	asked := map[string]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels are number %d", p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] > 23 {
					t.Errorf("%s lies over %s, or beyond the edge", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			rows[p.Title] = true
			continue
		}
		if p.Datasource.UID != "${datasource}" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("%s: source %q, described as %q, asks %d questions", p.Title, p.Datasource.UID, p.Description, len(p.Targets))
		}
		for _, target := range p.Targets {
			for _, wrong := range v.check(target.Expr) {
				t.Errorf("%s: %s: %v", p.Title, target.Expr, wrong)
			}
			if !strings.Contains(target.Expr, `{job=~"$job"`) {
				t.Errorf("%s: %s is not of the chosen job", p.Title, target.Expr)
			}
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				// A label that is summed away would be empty.
				if by := regexp.MustCompile(`(?:by|count by) \(([^)]*)\)`).FindStringSubmatch(target.Expr); by != nil && !slices.Contains(strings.Split(by[1], ", "), m[1]) {
					t.Errorf("%s: %s is not left of %s", p.Title, m[1], target.Expr)
				}
			}
			for _, name := range regexp.MustCompile(`muster_\w+`).FindAllString(target.Expr, -1) {
				asked[strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")] = true
			}
		}
	}
	for _, row := range []string{"Fleet", "Dispatch", "Wire", "Redis", "Queues"} {
		if !rows[row] {
			t.Errorf("there is no row %s", row)
		}
	}
	var variables []string
	for _, l := range board.Templating.List {
		variables = append(variables, l.Name+" "+l.Type)
	}
	if !slices.Equal(variables, []string{"datasource datasource", "job query"}) {
		t.Errorf("variables %q", variables)
	}
	for name := range all(t, whole(t)) {
		aside := strings.HasPrefix(name, "muster_agent_") || name == "muster_fleet_readable" || name == "muster_fleet_sets_passed_over" || name == "muster_redis_pool_misses_total"
		if !asked[name] && !aside {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// Each alert asks for metrics and labels that there are, and says what it is and what to
// do.
func TestAlerts(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(observability, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	v := words(t, whole(t))
	alerts := strings.Split(string(b), "      - alert: ")[1:]
	if len(alerts) < 10 {
		t.Fatalf("%d alerts", len(alerts))
	}
	seen := map[string]bool{}
	for _, text := range alerts {
		name, rest, _ := strings.Cut(text, "\n")
		if seen[name] || !regexp.MustCompile(`^Muster[A-Za-z]+$`).MatchString(name) {
			t.Errorf("%s: twice, or no good name", name)
		}
		seen[name] = true
		m := regexp.MustCompile(`(?s)^        expr: (?:\|\n)?(.*?)\n        (?:for|labels):`).FindStringSubmatch(rest)
		if m == nil {
			t.Errorf("%s: no expression", name)
			continue
		}
		for _, wrong := range v.check(m[1]) {
			t.Errorf("%s: %v", name, wrong)
		}
		for _, part := range []string{"labels: {severity: (critical|warning)}", "          summary: .{20,}", "          description: .{50,}"} {
			if !regexp.MustCompile(part).MatchString(rest) {
				t.Errorf("%s has no %s", name, part)
			}
		}
		// What the texts name is there, too.
		for _, metric := range regexp.MustCompile(`muster_[a-z_]+`).FindAllString(rest, -1) {
			if _, ok := v[metric]; !ok {
				t.Errorf("%s speaks of %s, which there is not", name, metric)
			}
		}
	}
	tests, err := os.ReadFile(filepath.Join(observability, "alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`alertname="(\w+)"`).FindAllStringSubmatch(string(tests), -1) {
		if !seen[m[1]] {
			t.Errorf("there is a test of %s, and no such alert", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`series: '([^']+)'`).FindAllStringSubmatch(string(tests), -1) {
		for _, wrong := range v.check(m[1]) {
			t.Errorf("a test has %s: %v", m[1], wrong)
		}
	}
}

// What Prometheus's own tool says of the rules, their tests and the example.
func TestPromtool(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skipf("needs promtool, of Debian's package prometheus: %v", err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}, {"check", "config", "prometheus.yml"}} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = observability
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	code, metrics := get(whole(t), "GET", "/metrics")
	cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(metrics)
	if out, err := cmd.CombinedOutput(); err != nil || code != 200 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
