package deploy_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/proctest"
	"github.com/musterhq/muster/internal/redistest"
)

var services = []string{"listener", "worker", "dashboard", "agent"} // in the order of their start

// unit is a systemd unit of this project: the values of each name, of all sections.
type unit map[string][]string

func readUnit(t *testing.T, verb string) unit {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "scripts", "systemd", "muster-"+verb+".service"))
	if err != nil {
		t.Fatal(err)
	}
	u := unit{}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("muster-%s.service: %q", verb, line)
		}
		u[name] = append(u[name], value)
	}
	return u
}

// one is the value of a name that stands once.
func (u unit) one(t *testing.T, name string) string {
	t.Helper()
	if len(u[name]) != 1 {
		t.Fatalf("%s stands %d times", name, len(u[name]))
	}
	return u[name][0]
}

// TestUnits has systemd read the units, in a tree where the programs are that they name,
// and say how closed they are.
func TestUnits(t *testing.T) {
	t.Parallel()
	proctest.Need(t, "systemd-analyze")
	tree := t.TempDir()
	put := func(from, to string, mode os.FileMode) {
		t.Helper()
		content, err := os.ReadFile(from)
		to = filepath.Join(tree, to)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, content, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("/bin/true", "/usr/bin/muster", 0o755)
	put("/bin/sh", "/bin/sh", 0o755)
	system := "/usr/lib/systemd/system"
	if _, err := os.Stat(system); err != nil {
		system = "/lib/systemd/system"
	}
	targets, err := filepath.Glob(system + "/*.target")
	if err != nil || len(targets) == 0 {
		t.Skipf("systemd's own units are not in %s", system)
	}
	for _, file := range targets {
		put(file, "/usr/lib/systemd/system/"+filepath.Base(file), 0o644)
	}
	for _, verb := range services {
		name := "muster-" + verb + ".service"
		put(filepath.Join(root, "scripts", "systemd", name), "/usr/lib/systemd/system/"+name, 0o644)
	}
	for _, verb := range services {
		name := "muster-" + verb + ".service"
		// What it finds wrong with a unit it says, and often ends well all the same.
		status, stdout, stderr := proctest.Run(t, tree, nil, "systemd-analyze", "verify", "--man=no", "--root="+tree, name)
		if said := stdout + stderr; status != 0 || strings.Contains(said, "muster") {
			t.Errorf("verify of %s ends with %d\n%s", name, status, said)
		}
		if verb == "agent" {
			continue // as open as a login, on purpose
		}
		if status, stdout, stderr := proctest.Run(t, root, nil, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=13",
			filepath.Join("scripts", "systemd", name)); status != 0 {
			t.Errorf("%s is more exposed than 1.3\n%s%s", name, stdout, stderr)
		}
	}
	t.Run("users", func(t *testing.T) {
		t.Parallel()
		proctest.Need(t, "systemd-sysusers")
		tree := t.TempDir()
		if err := os.MkdirAll(filepath.Join(tree, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		conf, err := filepath.Abs(filepath.Join(root, "scripts", "systemd", "muster.sysusers.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if os.Getuid() != 0 {
			t.Skip("needs root to make users, be it in a tree of its own")
		}
		proctest.Output(t, tree, nil, "systemd-sysusers", "--root="+tree, conf)
		passwd, err := os.ReadFile(filepath.Join(tree, "etc", "passwd"))
		if err != nil {
			t.Fatal(err)
		}
		for _, verb := range services {
			if user := readUnit(t, verb).one(t, "User"); !strings.Contains(string(passwd), user+":x:") {
				t.Errorf("the user %s of muster-%s.service is not made:\n%s", user, verb, passwd)
			}
		}
	})
}

// TestUnitsRun starts what the units start, with the settings that the package brings,
// and reloads and ends it as systemd would. Addresses and folders are this test's.
func TestUnitsRun(t *testing.T) {
	t.Parallel()
	redis := redistest.Open(t)
	binary := filepath.Join(buildImage(t), "muster")
	here := fmt.Sprintf("127.%d.%d.2", 64+rand.IntN(128), rand.IntN(256))
	etc, logs := t.TempDir(), t.TempDir()
	for _, name := range []string{"muster.json", "agent.json"} {
		content, err := os.ReadFile(filepath.Join(root, "scripts", "package", name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(strings.ReplaceAll(string(content), "127.0.0.1:6379", redis.Addr), "127.0.0.1:11", here+":11")
		text = strings.ReplaceAll(text, "127.0.0.1:80", here+":80")
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ports := map[string]bool{}
	for _, verb := range services {
		u := readUnit(t, verb)
		words := strings.Fields(u.one(t, "ExecStart"))
		if words[0] != "/usr/bin/muster" || words[1] != verb {
			t.Errorf("muster-%s.service starts %q", verb, words)
		}
		words[0] = binary
		for i := range words {
			words[i] = strings.Replace(words[i], "/etc/muster", etc, 1)
		}
		var env []string
		for _, v := range u["Environment"] {
			if ports[v] {
				t.Errorf("muster-%s.service: another unit has %s too", verb, v)
			}
			ports[v] = true
			v = strings.Replace(v, "127.0.0.1", here, 1)
			env = append(env, strings.Replace(v, "/var/lib/muster", filepath.Join(t.TempDir(), "state"), 1))
		}
		if verb == "agent" {
			env = append(env, "MUSTER_BIND_IP="+here)
		}
		log := filepath.Join(logs, verb+".log")
		env = append(env, "MUSTER_LOG_FILE="+log) // as a drop-in has it
		p := startUnit(t, words, env)
		redistest.Eventually(t, verb+" is healthy", func() bool {
			status, _, _ := proctest.Run(t, etc, env, binary, "health", "--config", words[len(words)-1])
			return status == 0
		})

		// What reload runs, as systemd reads its words: $$ is a dollar.
		_, script, _ := strings.Cut(u.one(t, "ExecReload"), "/bin/sh -c '")
		script = strings.ReplaceAll(strings.TrimSuffix(script, "'"), "$$", "$")
		pid := fmt.Sprintf("MAINPID=%d", p.cmd.Process.Pid)
		redistest.Eventually(t, verb+" logs", func() bool {
			_, err := os.Stat(log)
			return err == nil
		})
		if err := os.Rename(log, log+".1"); err != nil {
			t.Fatal(err)
		}
		proctest.Output(t, etc, append(env, pid), "/bin/sh", "-c", script)
		redistest.Eventually(t, verb+" opens its log again", func() bool {
			_, err := os.Stat(log)
			return err == nil
		})
		spares(t, script)
		grace, err := time.ParseDuration(u.one(t, "TimeoutStopSec"))
		if err != nil || grace <= longest[verb] {
			t.Errorf("muster-%s.service: TimeoutStopSec %v, it may take %v to end", verb, grace, longest[verb])
		}
		defer p.stop(t, grace) // the agent first
	}
	online := func() bool {
		hosts := proctest.Output(t, etc, nil, binary, "hosts", "--config", filepath.Join(etc, "muster.json"))
		return strings.Contains(hosts, here+":6655")
	}
	redistest.Eventually(t, "the agent is on the roll", online)
}

// TestCrash ends a process as Go does what it gives up on, a panic that nobody catches for
// one: SIGQUIT takes the same way. The units have to start it again, so it must not end
// with the status that they take for wrong settings.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(buildImage(t), "muster"), "agent", "--server", "127.0.0.1:1", "--bind-ip", "127.0.0.1",
		"--udp-port", "0", "--state-dir", filepath.Join(dir, "state"))
	cmd.Dir = dir // for a core file, where the machine has them written
	log := filepath.Join(dir, "log")
	p := startProcess(t, "agent", cmd, log)
	redistest.Eventually(t, "it runs", func() bool {
		said, _ := os.ReadFile(log)
		return len(said) > 0
	})
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() {
		t.Errorf("a crash ends with status %d", status.ExitStatus())
	}
	for _, verb := range services {
		u := readUnit(t, verb)
		if u.one(t, "Restart") != "on-failure" || u.one(t, "RestartPreventExitStatus") != "2" {
			t.Errorf("muster-%s.service: Restart %q, but for %q", verb, u["Restart"], u["RestartPreventExitStatus"])
		}
	}
}

// spares holds what reload runs to this: it sends nothing to a process without a log file,
// which SIGHUP would end.
func spares(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	proctest.Output(t, root, []string{"MUSTER_LOG_FILE=", fmt.Sprintf("MAINPID=%d", cmd.Process.Pid)}, "/bin/sh", "-c", script)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait() // how it ended is in its state
	if by := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); by != syscall.SIGTERM {
		t.Errorf("without a log file, %q ends the process: %v", script, by)
	}
}

// startUnit starts what a unit starts. Of this process's variables it has none of muster's.
func startUnit(t *testing.T, words, env []string) *process {
	t.Helper()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MUSTER_") }), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return startProcess(t, words[1], cmd, filepath.Join(t.TempDir(), "said"))
}
