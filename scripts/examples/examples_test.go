// Package examples_test runs the examples of dispatching, and those in the documents,
// against a listener, a worker and agents on a real Redis. What an example needs and this
// machine has not (Node, a Redis client for Python) skips it, with the reason.
package examples_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/internal/proctest"
	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/worker"
)

// system is all of muster, with the hosts local-1 and local-2.
func system(t *testing.T) *redistest.Server {
	t.Helper()
	srv := redistest.OpenReal(t)
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	t.Cleanup(func() {
		stop()
		parts.Wait()
	})
	start := func(run func(context.Context) error, err error) { // with what New has said
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		parts.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door, err := listener.New(listener.Config{Redis: srv.Client})
	start(func(ctx context.Context) error { return door.Serve(ctx, ln) }, err)
	w, err := worker.New(worker.Config{Redis: srv.Client})
	start(w.Run, err)
	hosts := []string{"local-1", "local-2"}
	for _, id := range hosts {
		a, err := agent.New(agent.Config{
			Servers: []string{ln.Addr().String()}, ID: id, BindIP: netip.MustParseAddr("127.0.0.1"), StateDir: t.TempDir(),
		})
		start(a.Run, err)
	}
	client := tasks.NewClient(srv.Client)
	redistest.Eventually(t, "both hosts online", func() bool {
		online, err := client.Online(t.Context(), hosts...)
		return err == nil && len(online) == len(hosts)
	})
	return srv
}

// Each of these finds out how to run an example, or skips the test. dir is where the
// example is to be run.
var ways = map[string]func(t *testing.T) (dir string, words []string){
	"redis-cli": func(t *testing.T) (string, []string) {
		proctest.Need(t, "sh", "redis-cli", "awk", "paste")
		return ".", []string{"sh", "dispatch.sh"}
	},
	"Python": func(t *testing.T) (string, []string) { return ".", []string{python(t), "dispatch.py"} },
	"Node":   func(t *testing.T) (string, []string) { return withNode(t), []string{"node", "dispatch.mjs"} },
	"Go": func(t *testing.T) (string, []string) {
		return ".", []string{build(t, "./dispatch")}
	},
}

// python is a Python that has the Redis client: the first on the PATH, or the system's,
// for which the distribution has it.
func python(t *testing.T) string {
	t.Helper()
	var last string
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if _, err := exec.LookPath(p); err != nil {
			last = err.Error()
			continue
		}
		status, _, stderr := proctest.Run(t, ".", nil, p, "-c", "import redis")
		if status == 0 {
			return p
		}
		last = stderr
	}
	t.Skipf("needs Python with the Redis client (apt install python3-redis): %s", last)
	return ""
}

// withNode is a folder with the Node example and the package that it needs, which the
// package manager brings.
func withNode(t *testing.T) string {
	t.Helper()
	proctest.Need(t, "node", "npm")
	dir := t.TempDir()
	for _, name := range []string{"package.json", "dispatch.mjs"} {
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	status, _, stderr := proctest.Run(t, dir, nil, "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries", "1")
	if status != 0 {
		t.Skipf("needs the npm package redis, which could not be had: %s", stderr)
	}
	return dir
}

// build makes a program of Go source and returns its path. What muster is made of is
// compiled as for a release, which scripts/test has done already.
func build(t *testing.T, source string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	status, _, stderr := proctest.Run(t, ".", []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false", "-o", program, source)
	if status != 0 {
		t.Fatalf("%s does not compile: %s", source, stderr)
	}
	return program
}

// Each example dispatches, waits, and tells how it ended.
func TestDispatching(t *testing.T) {
	t.Parallel()
	srv := system(t)
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, words := way(t)
			example := func(status int, args ...string) (stdout, stderr string) {
				t.Helper()
				got, stdout, stderr := proctest.Run(t, dir, []string{"REDIS_URL=" + srv.URL}, append(words, args...)...)
				if got != status {
					t.Fatalf("%q: status %d, want %d\n%s%s", args, got, status, stdout, stderr)
				}
				return stdout, stderr
			}
			want := func(text string, patterns ...string) {
				t.Helper()
				for _, p := range patterns {
					if !regexp.MustCompile("(?m)" + p).MatchString(text) {
						t.Errorf("there is no %s in\n%s", p, text)
					}
				}
			}
			stdout, _ := example(0, `{"echo '\"quoted\"'; echo more": 2, "echo low >&2": 1}`, "local-1", "local-2")
			want(stdout, `^AC\S+ is closed$`, `^local-1\tdone$`, `^local-2\tdone$`,
				"^local-1  exit 0  echo '\"quoted\"'; echo more\n\"quoted\"\nmore\n", "^local-2  exit 0  echo low >&2\nlow\n")
			stdout, _ = example(0, `{"echo everyone": 1}`)
			want(stdout, `^local-1\tdone$`, `^local-2\tdone$`)
			stdout, _ = example(1, `{"exit 3": 1}`, "local-1", "web-9")
			want(stdout, `^local-1\tfailed$`, `^web-9\toffline$`, `^local-1  exit 3  exit 3$`)
			_, stderr := example(2, `{"true": 1}`, "local-1", "web/9")
			want(stderr, `hosts: "web/9" is no host id$`)
		})
	}
}

// A worker's reason comes back to who waits.
func TestNumberInUse(t *testing.T) {
	t.Parallel()
	client := tasks.NewClient(system(t).Client)
	for _, inUse := range []bool{false, true} {
		d, err := client.Dispatch(t.Context(), named{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := client.Wait(t.Context(), d)
		var rejected *tasks.RejectedError
		if errors.As(err, &rejected) != inUse || !inUse && l.Counts[tasks.Done] != 2 {
			t.Errorf("in use %v: %+v, %v", inUse, l, err)
		}
		if inUse && !strings.Contains(err.Error(), "AC131") {
			t.Errorf("the reason is %q", err)
		}
	}
}

type named struct{ tasks.Info }

func (named) IPList() []string                { return nil }
func (named) DisCommands() map[string]float64 { return map[string]float64{"true": 1} }
func (named) Key() string                     { return "AC131" }

// The programs that the documents show run as they stand there, but for the port of
// Redis.
func TestDocuments(t *testing.T) {
	t.Parallel()
	srv := system(t)
	block := regexp.MustCompile("(?ms)^```(go|python|js|sh)\n(.*?)^```$")
	for _, name := range []string{"README.md", "docs/CALLING.md"} {
		b, err := os.ReadFile(filepath.FromSlash("../../" + name))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, m := range block.FindAllStringSubmatch(string(b), -1) {
			language, text := m[1], m[2]
			seen[language] = true
			t.Run(name+" "+language, func(t *testing.T) {
				t.Parallel()
				_, port, _ := strings.Cut(srv.Addr, ":")
				moved := strings.NewReplacer("6379", port, "redis-cli ", "redis-cli -p "+port+" ").Replace(text)
				if moved == text {
					t.Fatal("it does not say where Redis is")
				}
				stdout := runText(t, language, moved)
				if !regexp.MustCompile(`(?m)^AC\S+ `).MatchString(stdout) {
					t.Errorf("it has printed\n%s", stdout)
				}
			})
		}
		if !seen["go"] || !seen["python"] {
			t.Errorf("%s shows %v, want Go and Python", name, seen)
		}
	}
}

// runText runs a program and returns what it prints.
func runText(t *testing.T, language, text string) string {
	t.Helper()
	dir := t.TempDir()
	var words []string
	switch file := filepath.Join(dir, "snippet."+language); language {
	case "go":
		write(t, file, text)
		words = []string{build(t, file)}
	case "python":
		words = []string{python(t), "-c", text}
	case "js":
		dir = withNode(t)
		file = filepath.Join(dir, "snippet.mjs")
		write(t, file, text)
		words = []string{"node", file}
	case "sh":
		proctest.Need(t, "sh", "redis-cli")
		words = []string{"sh", "-euc", text}
	}
	status, stdout, stderr := proctest.Run(t, dir, nil, words...)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	return stdout
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
