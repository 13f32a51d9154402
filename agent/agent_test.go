package agent

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/wire"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"no server":      {func(c *Config) { c.Servers = nil }, "no server"},
		"no port":        {func(c *Config) { c.Servers = []string{"muster.example"} }, "host:port"},
		"no host":        {func(c *Config) { c.Servers = []string{":11451"} }, "host:port"},
		"no state":       {func(c *Config) { c.StateDir = "" }, "state directory"},
		"bad id":         {func(c *Config) { c.ID = "-web" }, `"-web" can't be a host's id`},
		"port too big":   {func(c *Config) { c.UDPPort = 65536 }, "65536"},
		"negative port":  {func(c *Config) { c.UDPPort = -1 }, "-1"},
		"negative times": {func(c *Config) { c.KillAfter = -1 }, "negative"},
		"tags too long":  {func(c *Config) { c.Tags = map[string]string{"a": strings.Repeat("b", maxTags)} }, "tags"},
		"state a file": {func(c *Config) {
			c.StateDir = filepath.Join(c.StateDir, "file")
			os.WriteFile(c.StateDir, nil, 0o600)
		}, "state directory"},
		"foreign address": {func(c *Config) { c.BindIP = netip.MustParseAddr("192.0.2.1") }, "wait for task numbers"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, "127.0.0.1:1")
			test.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestNewFillsDefaults(t *testing.T) {
	t.Parallel()
	c := Config{Servers: []string{"[::1]:11451"}, StateDir: "x"}
	if err := c.complete(); err != nil {
		t.Skipf("this host's name can't be an id: %v", err)
	}
	name, _ := os.Hostname()
	if c.ID != name || c.Heartbeat != 5*time.Second || c.KillAfter != 5*time.Second || c.Parallel != 8 {
		t.Errorf("defaults are %+v", c)
	}
}

// Each of the two takes what a running agent has; the error says what and, for the
// directory, who. Once the agent has stopped, both are free.
func TestWhatAnAgentHasIsTaken(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "127.0.0.1:1")
	a, stop := runAgent(t, cfg)

	second := cfg
	second.ID = "web-2"
	if _, err := New(second); !errors.Is(err, ErrStateInUse) || !strings.Contains(err.Error(), "agent web-1, process ") {
		t.Errorf("same directory: %v, want ErrStateInUse by web-1", err)
	}
	third := testConfig(t, "127.0.0.1:1")
	third.UDPPort = int(a.UDPAddr().Port())
	if _, err := New(third); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("same port: %v, want EADDRINUSE", err)
	}
	// The failed New has let go of the directory.
	third.UDPPort = 0
	for _, free := range []Config{third, second} {
		stop()
		fresh, err := New(free)
		if err != nil {
			t.Fatal(err)
		}
		ended, end := context.WithCancel(context.Background())
		end()
		if err := fresh.Run(ended); err != nil {
			t.Error(err)
		}
	}
}

func TestStateIsPrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	cfg := testConfig(t, "127.0.0.1:1")
	cfg.StateDir = filepath.Join(cfg.StateDir, "a", "b")
	runAgent(t, cfg)
	for name, want := range map[string]os.FileMode{"": 0o700, "lock": 0o600, "instance": 0o600, "journal": 0o600} {
		info, err := os.Stat(filepath.Join(cfg.StateDir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != want {
			t.Errorf("%q has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
}

func TestInstanceStays(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "127.0.0.1:1")
	var seen []string
	for range 2 {
		a, stop := runAgent(t, cfg)
		seen = append(seen, a.state.instance)
		stop()
	}
	if seen[0] != seen[1] || len(seen[0]) != 32 {
		t.Errorf("instances %q, want the same 32 digits", seen)
	}
	os.WriteFile(filepath.Join(cfg.StateDir, "instance"), []byte("torn"), 0o600)
	if a, _ := runAgent(t, cfg); a.state.instance == seen[0] || len(a.state.instance) != 32 {
		t.Errorf("after a torn file the instance is %q, want a new one", a.state.instance)
	}
}

// The whole way of a task number, message by message.
func TestOneTaskSet(t *testing.T) {
	t.Parallel()
	l := newFakeListener(t)
	l.put("AC131", "1-0", "echo one; echo uno >&2", "exit 3", "kill -9 $$")
	a, _ := runAgent(t, testConfig(t, l.addr()))
	c := l.conn(0)
	if c.hello.ID != "web-1" || c.hello.Instance != a.state.instance || c.hello.UDP != int(a.UDPAddr().Port()) || c.hello.Tags["rack"] != "7" {
		t.Errorf("hello %+v", c.hello)
	}
	tell(t, a, "AC131")
	l.results("AC131", 3)

	name, _ := os.Hostname()
	commands := []string{"echo one; echo uno >&2", "exit 3", "kill -9 $$"}
	want := []wire.Message{
		wire.Answer{Task: "AC131", RCC: wire.RCCReceived, Seq: 1},
		wire.Status{Task: "AC131", Phase: wire.PhaseReceived, Lists: true, Complete: []string{}, OnCall: commands, Seq: 2},
		wire.Status{Task: "AC131", Phase: wire.PhaseWorking, Working: commands[0], Seq: 3},
		wire.Status{Task: "AC131", Phase: wire.PhaseEnded, Seq: 4, Result: &wire.Result{Command: commands[0],
			Stdout: "one\n", StdoutBytes: 4, Stderr: "uno\n", StderrBytes: 4}},
		wire.Status{Task: "AC131", Phase: wire.PhaseWorking, Working: commands[1], Seq: 5},
		wire.Status{Task: "AC131", Phase: wire.PhaseEnded, Seq: 6, Result: &wire.Result{Command: commands[1], ExitCode: 3}},
		wire.Status{Task: "AC131", Phase: wire.PhaseWorking, Working: commands[2], Seq: 7},
		wire.Status{Task: "AC131", Phase: wire.PhaseEnded, Seq: 8, Result: &wire.Result{Command: commands[2], ExitCode: 137}},
	}
	var reports []wire.Message
	var info wire.Info
	l.with(func() {
		var ok bool
		if info, ok = c.got[1].(wire.Info); !ok {
			t.Errorf("the message after hello is %#v, want the information", c.got[1])
		}
		for _, m := range c.got {
			switch m := m.(type) {
			case wire.Answer:
				if m.Time < 1.7e9 || m.Time > 1e11 {
					t.Errorf("answer at %f, want Unix seconds", m.Time)
				}
				m.Time = 0
				reports = append(reports, m)
			case wire.Status:
				if m.Result != nil {
					r := *m.Result
					r.DurationMS = 0
					m.Result = &r
				}
				reports = append(reports, m)
			}
		}
	})
	if !reflect.DeepEqual(reports, want) {
		t.Errorf("reports\n%+v\nwant\n%+v", reports, want)
	}
	if info.Hostname != name || info.Version != "1.2.3" || info.OS != runtime.GOOS || info.Arch != runtime.GOARCH ||
		info.Tags["rack"] != "7" || len(info.IPv4) == 0 || info.IPv4[0] != "127.0.0.1" {
		t.Errorf("information %+v", info)
	}
	eventually(t, "all to be confirmed", func() bool {
		_, _, waiting := a.journal.after(0)
		return !waiting
	})
}
