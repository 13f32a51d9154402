package deploy_test

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/proctest"
)

// instruction is one of a Dockerfile, its lines joined.
type instruction struct {
	line int    // on which it begins
	word string // FROM, RUN...
	rest string
}

// list reads a value in the form of a JSON list, which is run without a shell.
func (i instruction) list(t *testing.T) (words []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(i.rest), &words); err != nil {
		t.Errorf("Dockerfile:%d: %s %s: want a JSON list, or a shell runs it: %v", i.line, i.word, i.rest, err)
	}
	return words
}

// stage is what begins with a FROM.
type stage struct {
	name, base string
	body       []instruction
}

// the returns the last instruction of a kind, which is the one in force.
func (s stage) the(t *testing.T, word string) instruction {
	t.Helper()
	for i := len(s.body) - 1; i >= 0; i-- {
		if s.body[i].word == word {
			return s.body[i]
		}
	}
	t.Fatalf("Dockerfile: stage %s has no %s", s.name, word)
	return instruction{}
}

// env are the variables that the image gives to what runs in it.
func (s stage) env() map[string]string {
	env := map[string]string{}
	for _, i := range s.body {
		if i.word == "ENV" {
			for _, pair := range strings.Fields(i.rest) { // none of them has a blank
				name, value, _ := strings.Cut(pair, "=")
				env[name] = value
			}
		}
	}
	return env
}

// readDockerfile reads the Dockerfile as far as this project's needs it: comments, lines
// that go on, no heredocs.
func readDockerfile(t *testing.T) map[string]stage {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]stage{}
	var now stage
	var joined string
	begin := 0
	for n, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if joined == "" {
			begin = n + 1
		}
		if before, goesOn := strings.CutSuffix(line, `\`); goesOn {
			joined += before + " "
			continue
		}
		word, rest, _ := strings.Cut(joined+line, " ")
		joined = ""
		i := instruction{begin, word, strings.TrimSpace(rest)}
		if word == "FROM" {
			words := strings.Fields(i.rest)
			if strings.HasPrefix(words[0], "--platform=") {
				words = words[1:]
			}
			if len(words) != 3 || !strings.EqualFold(words[1], "AS") {
				t.Fatalf("Dockerfile:%d: want FROM image AS name", i.line)
			}
			now = stage{name: words[2], base: words[0]}
		}
		now.body = append(now.body, i)
		stages[now.name] = now
	}
	return stages
}

// TestDockerfile holds the Dockerfile to what keeps an image small, repeatable and
// closed.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	stages := readDockerfile(t)
	if len(stages) != 3 {
		t.Fatalf("the Dockerfile has %d stages", len(stages))
	}
	known := map[string]bool{"FROM": true, "WORKDIR": true, "ENV": true, "ARG": true, "COPY": true, "RUN": true, "LABEL": true,
		"VOLUME": true, "EXPOSE": true, "USER": true, "STOPSIGNAL": true, "HEALTHCHECK": true, "ENTRYPOINT": true, "CMD": true}
	pinned := regexp.MustCompile(`^[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z]+)?$`)
	for _, s := range stages {
		if s.base != "scratch" && !pinned.MatchString(s.base) {
			t.Errorf("stage %s: %s names no version", s.name, s.base)
		}
		for _, i := range s.body {
			if !known[i.word] { // ADD fetches, SHELL and ONBUILD surprise
				t.Errorf("Dockerfile:%d: %s is not used here", i.line, i.word)
			}
			if i.word == "RUN" && regexp.MustCompile(`\b(sudo|curl|wget|apk|apt|apt-get|chmod)\b`).MatchString(i.rest) {
				t.Errorf("Dockerfile:%d: nothing is installed or made executable here", i.line)
			}
			if i.word == "COPY" {
				copies(t, stages, i)
			}
		}
	}
	goLine, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(goLine))[1]
	if base := stages["build"].base; !strings.HasPrefix(base, "golang:"+language+"-") {
		t.Errorf("%s builds, and go.mod is for %s", base, language)
	}
}

// copies looks for what a COPY copies, and for its owner.
func copies(t *testing.T, stages map[string]stage, i instruction) {
	t.Helper()
	words := strings.Fields(i.rest)
	from := ""
	for len(words) > 0 && strings.HasPrefix(words[0], "--") {
		if name, ok := strings.CutPrefix(words[0], "--from="); ok {
			from = name
		}
		words = words[1:]
	}
	if from != "" {
		if _, there := stages[from]; !there {
			t.Errorf("Dockerfile:%d: there is no stage %s", i.line, from)
		}
		return
	}
	ignored := readIgnored(t)
	for _, source := range words[:len(words)-1] {
		if _, err := os.Stat(filepath.Join(root, source)); err != nil {
			t.Errorf("Dockerfile:%d: %v", i.line, err)
		}
		if source != "." && ignored(source) {
			t.Errorf("Dockerfile:%d: .dockerignore leaves %s out", i.line, source)
		}
	}
}

// TestImages holds what is run to: not as root, without a shell, with a health check, and
// ended by SIGTERM.
func TestImages(t *testing.T) {
	t.Parallel()
	stages := readDockerfile(t)
	for _, name := range []string{"muster", "agent"} {
		s := stages[name]
		user := s.the(t, "USER")
		uid, gid, _ := strings.Cut(user.rest, ":")
		for _, id := range []string{uid, gid} {
			if n, err := strconv.Atoi(id); err != nil || n == 0 { // by number: an orchestrator sees that it is not root
				t.Errorf("Dockerfile:%d: USER %s", user.line, user.rest)
			}
		}
		entry := s.the(t, "ENTRYPOINT")
		if entry.line < user.line {
			t.Errorf("Dockerfile:%d: USER comes after ENTRYPOINT", user.line)
		}
		if words := entry.list(t); len(words) != 1 || words[0] != "/muster" {
			t.Errorf("stage %s: ENTRYPOINT %q", name, words)
		}
		if words := s.the(t, "CMD").list(t); len(words) != 1 {
			t.Errorf("stage %s: CMD %q", name, words)
		}
		if signal := s.the(t, "STOPSIGNAL").rest; signal != "SIGTERM" {
			t.Errorf("stage %s: STOPSIGNAL %s", name, signal)
		}
		health := s.the(t, "HEALTHCHECK")
		_, health.rest, _ = strings.Cut(health.rest, "CMD ")
		if words := health.list(t); strings.Join(words, " ") != "/muster health" {
			t.Errorf("stage %s: HEALTHCHECK %q", name, words)
		}
		if s.env()["MUSTER_METRICS_BIND"] == "" {
			t.Errorf("stage %s: the health check has no address to ask", name)
		}
		labels := s.the(t, "LABEL").rest
		for _, label := range []string{"title", "description", "source", "licenses", "version"} {
			if !strings.Contains(labels, "org.opencontainers.image."+label+"=") {
				t.Errorf("stage %s: no label %s", name, label)
			}
		}
		for _, i := range s.body {
			if i.word == "RUN" { // it would need an emulator to build for another kind of machine
				t.Errorf("Dockerfile:%d: RUN in stage %s", i.line, name)
			}
		}
	}
	if s := stages["muster"]; s.base != "scratch" {
		t.Errorf("listener, worker and dashboard are built on %s", s.base)
	}
	content, _ := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if all := regexp.MustCompile(`(?m)^FROM .* AS (\w+)$`).FindAllStringSubmatch(string(content), -1); all[len(all)-1][1] != "muster" {
		t.Errorf("without a target, %s is built", all[len(all)-1][1])
	}
}

// TestDockerignore holds .dockerignore to what the binary is made of, and to secrets.
func TestDockerignore(t *testing.T) {
	t.Parallel()
	ignored := readIgnored(t)
	for _, name := range []string{"muster.json", ".env", ".env.local", ".git", ".git/config", "dist/x.deb", "docs/CLI.md", "README.md",
		"tasks/tasks_test.go", "wire/testdata/fuzz/x", "scripts/release"} {
		if !ignored(name) {
			t.Errorf(".dockerignore lets %s in", name)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "LICENSE"} {
		if ignored(name) {
			t.Errorf(".dockerignore leaves %s out", name)
		}
	}
	var pkg struct {
		Dir                   string
		GoFiles, EmbedFiles   []string
		Standard              bool
		ImportPath            string
		IgnoredGoFiles, SFile []string
	}
	for dec := json.NewDecoder(strings.NewReader(proctest.Output(t, root, nil, "go", "list", "-deps", "-json=Dir,GoFiles,EmbedFiles,Standard,ImportPath", "./cmd/muster"))); dec.More(); {
		pkg.GoFiles, pkg.EmbedFiles, pkg.Standard = nil, nil, false
		if err := dec.Decode(&pkg); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(pkg.ImportPath, "github.com/musterhq/muster/") {
			continue
		}
		for _, file := range append(pkg.GoFiles, pkg.EmbedFiles...) {
			name := path.Join(strings.TrimPrefix(pkg.ImportPath, "github.com/musterhq/muster/"), file)
			if ignored(name) {
				t.Errorf(".dockerignore leaves %s out", name)
			}
		}
	}
}

// readIgnored reads .dockerignore, and returns whether it leaves a file out: by a pattern
// for it or for a folder that it is in. There are no exceptions, "!", in it.
func readIgnored(t *testing.T) func(name string) bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var patterns []*regexp.Regexp
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "!") {
			t.Fatalf(".dockerignore: %s: exceptions are not understood here", line)
		}
		expr := regexp.QuoteMeta(strings.TrimPrefix(line, "/"))
		expr = strings.ReplaceAll(expr, `\*\*/`, `(.*/)?`)
		expr = strings.ReplaceAll(expr, `\*`, `[^/]*`)
		patterns = append(patterns, regexp.MustCompile(`^`+expr+`(/.*)?$`))
	}
	return func(name string) bool {
		for _, p := range patterns {
			if p.MatchString(name) {
				return true
			}
		}
		return false
	}
}
