package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/proctest"
	"github.com/musterhq/muster/internal/redistest"
)

// container stands for one: the process that it would run, with its words, its variables,
// its user and, where this test is root, its files. Its address is one of 127.0.0.0/8 of
// its own, so that each has all ports for itself, as in a network of containers.
//
// What differs from a container: it sees the machine's network and processes, and shares
// the files of those images that are no empty ones.
type container struct {
	name, ip string
	service  service
	words    []string // entry point and command
	env      []string
	dir      string // where its volumes and its log are
	files    string // what it sees as /, empty for the machine's
	names    map[string]string

	*process // while it runs
}

// system is the services of docker-compose.yml, on this machine.
type system struct {
	t          *testing.T
	file       composeFile
	stages     map[string]stage
	built      string // what stands for /out in the stage that builds
	subnet     string // 127.x.y.
	names      map[string]string
	containers []*container // in the order of their start
}

func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{t: t, file: readCompose(t), stages: readDockerfile(t), built: buildImage(t), names: map[string]string{}}
	s.subnet = fmt.Sprintf("127.%d.%d.", 64+rand.IntN(128), rand.IntN(256))
	return s
}

// container makes one of a service; the first of them has the service's name.
func (s *system) container(name string, n int, command ...string) *container {
	s.t.Helper()
	sv := s.file.Services[name]
	c := &container{name: fmt.Sprintf("%s-%d", name, n), service: sv, ip: s.subnet + strconv.Itoa(len(s.names)+len(s.containers)+2), names: s.names}
	if _, known := s.names[name]; !known {
		s.names[name] = c.ip
	}
	env := map[string]string{}
	if st, own := s.stages[s.file.target(s.t, sv)]; own {
		c.words, env = st.the(s.t, "ENTRYPOINT").list(s.t), st.env()
		if st.base == "scratch" {
			c.files = s.image(st)
		}
	} else {
		env["LANG"] = "C" // an image from elsewhere
	}
	if command == nil {
		command = sv.Command
	}
	c.words = append(c.words, command...)
	maps.Copy(env, sv.Environment)
	c.dir = s.t.TempDir()
	if name == "agent" {
		// What its container would have by itself: a name, and one address.
		env["MUSTER_ID"], env["MUSTER_BIND_IP"] = c.name, c.ip
	}
	for _, v := range sv.Volumes {
		_, inside, named := strings.Cut(v, ":")
		if !named {
			inside = v
		}
		if err := os.MkdirAll(filepath.Join(c.dir, inside), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	if c.files == "" || os.Getuid() != 0 {
		c.words[0] = strings.Replace(c.words[0], "/muster", filepath.Join(s.built, "muster"), 1)
		env["PATH"] = os.Getenv("PATH")
	}
	for name, value := range env {
		c.env = append(c.env, name+"="+c.local(value))
	}
	for i := range c.words {
		c.words[i] = c.local(c.words[i])
	}
	c.own(s.t, c.dir)
	return c
}

// own gives the folders of a container to its user, as the images do.
func (c *container) own(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	uid, gid := c.ids(t)
	err := filepath.WalkDir(dir, func(file string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(file, uid, gid)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (c *container) ids(t *testing.T) (uid, gid int) {
	t.Helper()
	if _, err := fmt.Sscanf(c.service.User, "%d:%d", &uid, &gid); err != nil {
		t.Fatalf("%s: user %q: %v", c.name, c.service.User, err)
	}
	return uid, gid
}

// image makes what an empty image has after the COPYs of its stage.
func (s *system) image(st stage) string {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, i := range st.body {
		if i.word != "COPY" {
			continue
		}
		words := slices.DeleteFunc(strings.Fields(i.rest), func(w string) bool { return strings.HasPrefix(w, "--") })
		from, to := words[0], filepath.Join(dir, words[1])
		switch {
		case strings.HasPrefix(from, "/out/"):
			from = filepath.Join(s.built, strings.TrimPrefix(from, "/out/"))
		case !strings.HasPrefix(from, "/"):
			from = filepath.Join(root, from)
		}
		if _, err := os.Stat(from); err != nil && strings.HasPrefix(from, "/etc/ssl/") {
			continue // the compiler's image has it; this machine need not
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			s.t.Fatal(err)
		}
		// Not written by this process: what it starts meanwhile would have the file open for
		// writing for a moment, and such a file can't be run.
		proctest.Output(s.t, ".", nil, "cp", from, to)
	}
	return dir
}

var peer = regexp.MustCompile(`\b([a-z]+):(\d+)\b`)

// local puts this machine's addresses and folders in the place of the container's.
func (c *container) local(text string) string {
	text = strings.NewReplacer("0.0.0.0", c.ip, "127.0.0.1", c.ip).Replace(text)
	text = peer.ReplaceAllStringFunc(text, func(s string) string {
		name, port, _ := strings.Cut(s, ":")
		if ip, known := c.names[name]; known {
			return net.JoinHostPort(ip, port)
		}
		return s
	})
	for _, v := range c.service.Volumes {
		if inside := v[strings.LastIndex(v, ":")+1:]; text == inside {
			return filepath.Join(c.dir, inside)
		}
	}
	return text
}

// command makes a process of the container.
func (c *container) command(ctx context.Context, t *testing.T, words []string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = c.env, c.dir, 5*time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		uid, gid := c.ids(t)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} // and no capabilities
		if c.files != "" {
			cmd.SysProcAttr.Chroot, cmd.Dir = c.files, "/"
		}
	}
	return cmd
}

// start starts the container. It ends with the test.
func (c *container) start(t *testing.T) {
	t.Helper()
	cmd := c.command(context.Background(), t, c.words)
	c.process = startProcess(t, c.name, cmd, filepath.Join(c.dir, "log"))
}

// healthy waits until the container's own check says that it is.
func (c *container) healthy(t *testing.T) {
	t.Helper()
	words := slices.Clone(c.service.Healthcheck.Test[1:]) // CMD
	for i := range words {
		words[i] = c.local(words[i])
	}
	if c.files == "" || os.Getuid() != 0 {
		words[0] = strings.Replace(words[0], "/muster", c.words[0], 1)
	}
	var said string
	defer func() {
		if t.Failed() {
			t.Logf("%s: its last health check said %s", c.name, said)
		}
	}()
	redistest.Eventually(t, c.name+" is healthy", func() bool {
		select {
		case <-c.ended:
			t.Fatalf("%s has ended: %v", c.name, c.err)
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), c.service.Healthcheck.Timeout)
		defer cancel()
		out, err := c.command(ctx, t, words).CombinedOutput()
		said = fmt.Sprintf("%v: %s", err, out)
		return err == nil
	})
}

// once runs the container to its end.
func (c *container) once(t *testing.T) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := c.command(ctx, t, c.words)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %q: %v", c.name, c.words, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// up starts a service, so many times, after those that it depends on, and waits until
// all of it is healthy.
func (s *system) up(name string, scale map[string]int) {
	s.t.Helper()
	if _, running := s.names[name]; running {
		return
	}
	for _, on := range slices.Sorted(maps.Keys(s.file.Services[name].DependsOn)) {
		s.up(on, scale)
	}
	for n := range max(1, scale[name]) {
		c := s.container(name, n+1)
		s.containers = append(s.containers, c)
		c.start(s.t)
		c.healthy(s.t)
	}
}

// get fetches a page as a browser on this machine would, by the address that is published.
func get(t *testing.T, url, host string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
