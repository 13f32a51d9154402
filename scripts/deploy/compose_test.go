package deploy_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/internal/proctest"
)

// composeGo is the parser of today's docker compose; the docker-compose of older systems
// is another one.
const composeGo = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"

// composeFile is docker-compose.yml, with all that this project's uses and nothing else:
// what is not named here fails the test, so that it is thought over.
type composeFile struct {
	Services map[string]service
	Networks map[string]struct{ Internal bool }
	Volumes  map[string]struct{}
	Hardened any `yaml:"x-hardened"`
	Health   any `yaml:"x-health"`
	Muster   any `yaml:"x-muster"`
	Settings any `yaml:"x-settings"`
}

type service struct {
	Image      string
	PullPolicy string `yaml:"pull_policy"`
	Scale      int
	Build      struct {
		Context, Target string
		Args            map[string]string
	}
	User        string
	Command     []string
	Environment map[string]string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct {
		Test              []string
		Interval, Timeout time.Duration
		StartPeriod       time.Duration `yaml:"start_period"`
		Retries           int
		Disable           bool
	}
	Networks        []string
	Ports           []string
	Volumes         []string
	Tmpfs           []string
	Profiles        []string
	Init            bool
	Restart         string
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	Ulimits         map[string]int
	MemLimit        string        `yaml:"mem_limit"`
	PidsLimit       int           `yaml:"pids_limit"`
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
	Logging         struct {
		Driver  string
		Options map[string]string
	}
}

// target is the stage of the Dockerfile that a service's image is built from, empty for an
// image from elsewhere. One service builds it for all that have it: were it built for each,
// the images would differ in a label of Compose's and share a name.
func (f composeFile) target(t *testing.T, s service) (target string) {
	t.Helper()
	for name, other := range f.Services {
		if other.Image != s.Image || other.Build.Target == "" {
			continue
		}
		if target != "" || other.Build.Context != "." {
			t.Errorf("%s is built by %s, and by another one, or from elsewhere: %+v", s.Image, name, other.Build)
		}
		target = other.Build.Target
	}
	return target
}

// readCompose reads docker-compose.yml as it is where no variable is set.
func readCompose(t *testing.T) composeFile {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(content, &tree); err != nil {
		t.Fatal(err)
	}
	interpolate(t, &tree)
	flat, err := yaml.Marshal(&tree) // the strict reading is the decoder's only
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	dec := yaml.NewDecoder(bytes.NewReader(flat))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	return file
}

var variable = regexp.MustCompile(`\$\{(MUSTER_[A-Z_]+):-([^}]*)\}`)

// interpolate puts the defaults in the places of all variables. All are muster's own, and
// each has a default: no setting has to be made.
func interpolate(t *testing.T, n *yaml.Node) {
	t.Helper()
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") {
		n.SetString(variable.ReplaceAllString(n.Value, "$2"))
		if strings.Contains(n.Value, "$") {
			t.Errorf("docker-compose.yml:%d: %s: want ${MUSTER_NAME:-default}", n.Line, n.Value)
		}
		if _, err := strconv.Atoi(n.Value); err == nil {
			n.Tag = "!!int" // as Compose takes it where a number is wanted
		}
	}
	for _, c := range n.Content {
		interpolate(t, c)
	}
}

// longest is how long a process of each verb may take to end in good order.
var longest = map[string]time.Duration{
	"listener":  5 * time.Second, // for agents that move
	"worker":    8 * time.Second, // for jobs that are under way
	"agent":     5 * time.Second, // for a command that runs
	"dashboard": 5 * time.Second,
}

// TestComposeHardening holds each service to what a container needs to be closed, to be
// started again, to end well and not to fill the disk.
func TestComposeHardening(t *testing.T) {
	t.Parallel()
	file := readCompose(t)
	if names := slices.Sorted(maps.Keys(file.Services)); !slices.Equal(names, []string{"agent", "dashboard", "demo", "listener", "redis", "worker"}) {
		t.Errorf("services: %q", names)
	}
	for name, s := range file.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s: read_only %v, cap_drop %q, security_opt %q", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(s.User) {
			t.Errorf("%s: user %q: want the numbers of one who is not root", name, s.User)
		}
		if !regexp.MustCompile(`^[a-z-]+:.+$`).MatchString(s.Image) || strings.HasSuffix(s.Image, ":latest") {
			t.Errorf("%s: image %q", name, s.Image)
		}
		least := 1024 // threads: a machine may have some hundred cores
		if name == "redis" {
			least = 64
		}
		if s.MemLimit == "" || s.PidsLimit < least {
			t.Errorf("%s: mem_limit %q, pids_limit %d", name, s.MemLimit, s.PidsLimit)
		}
		if s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
			t.Errorf("%s: its log has no limit", name)
		}
		for _, v := range s.Volumes {
			if source, _, named := strings.Cut(v, ":"); named {
				if _, there := file.Volumes[source]; !there { // a path of the machine, or a mistake
					t.Errorf("%s: volume %s", name, v)
				}
			}
		}
		if len(s.Ports) > 0 && (name != "dashboard" || !slices.Equal(s.Ports, []string{"127.0.0.1:8080:8080"})) {
			t.Errorf("%s: ports %q", name, s.Ports)
		}
		for on, d := range s.DependsOn {
			if d.Condition != "service_healthy" || file.Services[on].Healthcheck.Test == nil {
				t.Errorf("%s depends on %s: %s", name, on, d.Condition)
			}
		}
		if name == "demo" {
			if s.Restart != "no" || !s.Healthcheck.Disable || !slices.Equal(s.Profiles, []string{"demo"}) {
				t.Errorf("demo: restart %q, healthcheck %+v, profiles %q", s.Restart, s.Healthcheck, s.Profiles)
			}
			continue
		}
		if s.Restart != "unless-stopped" || len(s.Profiles) > 0 {
			t.Errorf("%s: restart %q, profiles %q", name, s.Restart, s.Profiles)
		}
		h := s.Healthcheck
		if len(h.Test) < 2 || h.Test[0] != "CMD" || h.Interval <= 0 || h.Timeout <= 0 || h.StartPeriod <= 0 || h.Retries <= 0 {
			t.Errorf("%s: healthcheck %+v", name, h)
		}
		if name != "redis" && s.StopGracePeriod <= longest[name] {
			t.Errorf("%s: it may take %v to end, and is killed after %v", name, longest[name], s.StopGracePeriod)
		}
	}
}

// TestComposeServices holds the services to what they are for.
func TestComposeServices(t *testing.T) {
	t.Parallel()
	file := readCompose(t)
	stages := readDockerfile(t)
	for name, s := range file.Services {
		if name == "redis" {
			continue
		}
		st, there := stages[file.target(t, s)]
		if !there || s.PullPolicy != "never" {
			t.Errorf("%s: nobody builds %s, or it is fetched: %q", name, s.Image, s.PullPolicy)
			continue
		}
		// Redis may be elsewhere, where an internal network does not lead.
		if !slices.ContainsFunc(s.Networks, func(n string) bool { return !file.Networks[n].Internal }) {
			t.Errorf("%s: no way out of %q", name, s.Networks)
		}
		// run takes the scale of the file for what it depends on, so that has to be a setting.
		if many := slices.Contains([]string{"listener", "worker", "agent"}, name); many != (s.Scale == 1) {
			t.Errorf("%s: scale %d", name, s.Scale)
		}
		if user := st.the(t, "USER").rest; s.User != user {
			t.Errorf("%s: user %s, in its image %s", name, s.User, user)
		}
		if verb := s.Command[0]; verb != name && name != "demo" {
			t.Errorf("%s: command %q", name, s.Command)
		}
		if s.Healthcheck.Disable {
			continue
		}
		health := st.the(t, "HEALTHCHECK")
		_, health.rest, _ = strings.Cut(health.rest, "CMD ")
		if !slices.Equal(s.Healthcheck.Test[1:], health.list(t)) {
			t.Errorf("%s: healthcheck %q, in its image %s", name, s.Healthcheck.Test, health.rest)
		}
		if own, image := s.Environment["MUSTER_METRICS_BIND"], st.env()["MUSTER_METRICS_BIND"]; own != image {
			t.Errorf("%s: MUSTER_METRICS_BIND %s, in its image %s", name, own, image)
		}
	}
	redis := file.Services["redis"]
	words := strings.Join(redis.Command, " ")
	for _, want := range []string{"--appendonly yes", "--maxmemory-policy noeviction", "--maxmemory "} {
		if !strings.Contains(words, want) {
			t.Errorf("redis has no %s: %s", want, words)
		}
	}
	if !slices.Equal(redis.Volumes, []string{"redis:/data"}) {
		t.Errorf("redis: volumes %q", redis.Volumes)
	}
	if !file.Networks["store"].Internal || !slices.Equal(redis.Networks, []string{"store"}) {
		t.Errorf("redis is on %q, of %+v", redis.Networks, file.Networks)
	}
	agent := file.Services["agent"]
	if !slices.Equal(agent.Networks, []string{"hosts"}) || !agent.Init {
		t.Errorf("agent: networks %q, init %v", agent.Networks, agent.Init)
	}
	// A volume without a name is one for each container, so that agents can be many.
	if state := agent.Environment["MUSTER_STATE_DIR"]; !slices.Equal(agent.Volumes, []string{state}) || stages["agent"].the(t, "VOLUME").rest != state {
		t.Errorf("agent: its journal is in %q, its volumes are %q", state, agent.Volumes)
	}
	// The default names differ with each container.
	for _, name := range []string{"listener", "agent"} {
		if id, there := file.Services[name].Environment["MUSTER_ID"]; there {
			t.Errorf("%s: all of them have the id %q", name, id)
		}
	}
}

// TestComposeParsers has what docker compose itself reads the file with read it, today's
// and the one of older systems, and compares what they make of the services.
func TestComposeParsers(t *testing.T) {
	t.Parallel()
	want := readCompose(t)
	t.Run("docker-compose", func(t *testing.T) {
		t.Parallel()
		proctest.Need(t, "docker-compose")
		same(t, want, "docker-compose", "--profile", "demo", "config")
	})
	t.Run("compose-go", func(t *testing.T) {
		t.Parallel()
		bin := t.TempDir()
		if status, _, stderr := proctest.Run(t, bin, []string{"GOBIN=" + bin}, "go", "install", composeGo); status != 0 {
			t.Skipf("%s can't be had: %s", composeGo, stderr)
		}
		same(t, want, filepath.Join(bin, "cmd"), "--format", "json", "docker-compose.yml")
	})
}

// same compares the services with those of a program that prints the whole file.
func same(t *testing.T, want composeFile, words ...string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // where there is no .env of somebody's
	if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MUSTER_") && !strings.HasPrefix(v, "COMPOSE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", words, err, &stderr)
	}
	type part struct {
		Command     []string
		User, Image string
		Environment map[string]string
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		PullPolicy  string                                `yaml:"pull_policy"`
		ReadOnly    bool                                  `yaml:"read_only"`
		CapDrop     []string                              `yaml:"cap_drop"`
		Profiles    []string
		Healthcheck struct{ Test []string }
	}
	var file struct{ Services map[string]part }
	if err := yaml.Unmarshal(printed, &file); err != nil { // JSON is YAML
		t.Fatalf("%q prints: %v\n%s", words, err, printed)
	}
	if len(file.Services) == 0 {
		t.Fatalf("%q shows no service", words)
	}
	for name, s := range want.Services {
		if len(s.Profiles) > 0 && file.Services[name].Image == "" && !slices.Contains(words, "--profile") {
			continue // not without its profile
		}
		expect := part{Command: s.Command, User: s.User, Image: s.Image, Environment: s.Environment, DependsOn: s.DependsOn,
			PullPolicy: s.PullPolicy, ReadOnly: s.ReadOnly, CapDrop: s.CapDrop, Profiles: s.Profiles, Healthcheck: struct{ Test []string }{s.Healthcheck.Test}}
		got := file.Services[name]
		if s.Healthcheck.Disable && slices.Equal(got.Healthcheck.Test, []string{"NONE"}) {
			got.Healthcheck.Test = nil
		}
		if !reflect.DeepEqual(normal(t, expect), normal(t, got)) {
			t.Errorf("%s is, to %s\n%s\nwant\n%s", name, words[0], normal(t, got), normal(t, expect))
		}
	}
}

// normal is a value as text in which nothing and empty are the same.
func normal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`: (null|\{\}|\[\])`).ReplaceAllString(string(b), ": -")
}
