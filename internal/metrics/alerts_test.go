package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// alerts are the names in alerts.yml.
func alerts(t *testing.T) (names []string) {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	readYAML(t, "alerts.yml", &file)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
		}
	}
	if len(names) < 10 {
		t.Fatalf("alerts.yml has %d alerts", len(names))
	}
	return names
}

func readYAML(t *testing.T, name string, to any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(observability, name))
	if err == nil {
		err = yaml.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var alertName = regexp.MustCompile(`alertname=\\?"(\w+)\\?"`)

// Each alert has a case in which it fires, and one in which it does not.
func TestAlertsHaveCases(t *testing.T) {
	t.Parallel()
	var file struct {
		Tests []struct {
			Exprs []struct {
				Expr    string
				Samples []any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	readYAML(t, "alerts_test.yml", &file)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, e := range test.Exprs {
			m := alertName.FindStringSubmatch(e.Expr)
			switch {
			case m == nil:
				t.Errorf("%s is of no alert", e.Expr)
			case len(e.Samples) == 0:
				quiet[m[1]] = true
			case !strings.Contains(e.Expr, `alertstate="firing"`):
				t.Errorf("%s may be of an alert that is pending", e.Expr)
			default:
				fires[m[1]] = true
			}
		}
	}
	for _, name := range alerts(t) {
		if !fires[name] || !quiet[name] {
			t.Errorf("%s has a case in which it fires: %t, and one in which it does not: %t", name, fires[name], quiet[name])
		}
	}
}

// The cases can fail: an alert that fires whatever there is, and one that never does, are
// found for each name.
func TestAlertCasesFail(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skipf("needs promtool, of Debian's package prometheus: %v", err)
	}
	rules, err := os.ReadFile(filepath.Join(observability, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile(filepath.Join(observability, "alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	expr := regexp.MustCompile(`(?m)^        expr: (?:[^|\n].*|\|(?:\n {10}.+)+)$`)
	failure := regexp.MustCompile(`expr: (".*"), time: .*\n\s*exp: *(.*)\n`)
	for _, run := range []struct {
		name, expr string
		expected   bool // whether the cases that are to fail expect the alert
	}{{"fires always", "vector(1)", false}, {"fires never", "vector(0) > 1", true}} {
		t.Run(run.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			changed := expr.ReplaceAllLiteral(rules, []byte("        expr: "+run.expr))
			for name, b := range map[string][]byte{"alerts.yml": changed, "alerts_test.yml": cases} {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), tool, "test", "rules", "alerts_test.yml")
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("all cases hold:\n%s", out)
			}
			found := map[string]bool{}
			for _, m := range failure.FindAllStringSubmatch(string(out), -1) {
				if name := alertName.FindStringSubmatch(m[1]); name != nil && (m[2] != "nil") == run.expected {
					found[name[1]] = true
				}
			}
			for _, name := range alerts(t) {
				if !found[name] {
					t.Errorf("no case of %s fails", name)
				}
			}
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
}
