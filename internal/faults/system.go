// Package faults runs muster as a user would, a process each for Redis, listeners,
// workers and agents, and does to it what happens to processes, networks and machines.
// Tests and scripts/chaos share it. Linux only.
//
// It holds nothing of muster for true: what a ledger should say is recounted from
// Redis with plain commands (Recount), and what was run is read from files that the
// commands have written (Effects).
package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redisserver"
)

// Build builds the muster binary and returns its path, which is in dir. It does so as for
// a release: it is what users run, and scripts/test has compiled that already.
func Build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "muster")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "github.com/musterhq/muster/cmd/muster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}

// patience is how long is waited for what takes seconds where nothing else runs.
const patience = 3 * time.Minute

// Config says what a System is made of.
type Config struct {
	Dir    string // where its files go; it must exist
	Binary string // from Build

	Listeners, Workers, Agents int
	Proxied                    int  // so many agents, the first ones, reach each listener through a Proxy of their own
	Lasting                    bool // what is in Redis outlives it
	Dashboard                  bool

	ListenerArgs, WorkerArgs []string
}

// System is muster's processes on a Redis of their own.
type System struct {
	Dir       string
	Redis     *redisserver.Server
	DB        *redis.Client // tries no command twice
	Listeners []*Process
	Workers   []*Process
	Agents    []*Process
	Addrs     []string   // of the listeners
	Dashboard *Process   // nil without one
	Page      string     // URL of the dashboard
	Proxies   [][]*Proxy // of each proxied agent, one a listener
}

// Start starts a system and waits until its agents are online.
func Start(ctx context.Context, cfg Config) (s *System, err error) {
	s = &System{Dir: cfg.Dir}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	data := filepath.Join(cfg.Dir, "redis")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return s, err
	}
	if s.Redis, err = redisserver.Open(data, cfg.Lasting); err != nil {
		return s, err
	}
	s.DB = s.Redis.NewClient(-1)
	shared := []string{"--redis", s.Redis.URL(), "--log-format", "json"}
	add := func(list *[]*Process, name string, env []string, args ...string) error {
		p := NewProcess(name, cfg.Dir, cfg.Binary, env, args...)
		*list = append(*list, p)
		return p.Start()
	}
	for i := range cfg.Listeners {
		addr, err := FreeAddr()
		if err != nil {
			return s, err
		}
		s.Addrs = append(s.Addrs, addr)
		args := append([]string{"listener", "--bind", addr, "--id", fmt.Sprintf("l%d", i+1)}, shared...)
		if err := add(&s.Listeners, fmt.Sprintf("listener-%d", i+1), nil, append(args, cfg.ListenerArgs...)...); err != nil {
			return s, err
		}
	}
	for i := range cfg.Workers {
		args := append([]string{"worker"}, shared...)
		if err := add(&s.Workers, fmt.Sprintf("worker-%d", i+1), nil, append(args, cfg.WorkerArgs...)...); err != nil {
			return s, err
		}
	}
	if cfg.Dashboard {
		if err := s.startDashboard(ctx, cfg, shared); err != nil {
			return s, err
		}
	}
	for i, addr := range s.Addrs {
		if err := Wait(ctx, patience, s.Listeners[i].Name+" listens", func() bool { return listens(addr) }); err != nil {
			return s, err
		}
	}
	for i := range cfg.Agents {
		servers := s.Addrs
		if i < cfg.Proxied {
			if servers, err = s.proxies(); err != nil {
				return s, err
			}
		}
		name := s.AgentID(i)
		args := []string{"agent", "--id", name, "--udp-port", "0", "--bind-ip", "127.0.0.1", "--log-format", "json",
			"--state-dir", filepath.Join(cfg.Dir, name+".state")}
		for n := range servers { // not all begin with the same one
			args = append(args, "--server", servers[(n+i)%len(servers)])
		}
		if err := add(&s.Agents, name, []string{"EFFECTS=" + s.effects(i)}, args...); err != nil {
			return s, err
		}
	}
	return s, s.Gathered(ctx)
}

func (s *System) startDashboard(ctx context.Context, cfg Config, shared []string) error {
	addr, err := FreeAddr()
	if err != nil {
		return err
	}
	s.Page = "http://" + addr
	s.Dashboard = NewProcess("dashboard", cfg.Dir, cfg.Binary, nil, append([]string{"dashboard", "--bind", addr}, shared...)...)
	if err := s.Dashboard.Start(); err != nil {
		return err
	}
	return Wait(ctx, patience, "the dashboard listens", func() bool { return listens(addr) })
}

func (s *System) proxies() ([]string, error) {
	var list []*Proxy
	var addrs []string
	for _, addr := range s.Addrs {
		p, err := NewProxy(addr)
		if err != nil {
			return nil, err
		}
		list, addrs = append(list, p), append(addrs, p.Addr)
	}
	s.Proxies = append(s.Proxies, list)
	return addrs, nil
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// AgentID is the id of agent i, counted from 0.
func (s *System) AgentID(i int) string { return fmt.Sprintf("agent-%d", i+1) }

// Hosts are the ids of all agents.
func (s *System) Hosts() []string {
	var ids []string
	for i := range s.Agents {
		ids = append(ids, s.AgentID(i))
	}
	return ids
}

// Gathered waits until all agents are online at a listener whose lease runs.
func (s *System) Gathered(ctx context.Context) error {
	return Wait(ctx, patience, "all agents online", func() bool {
		online, err := s.DB.HGetAll(ctx, "{muster}:online").Result()
		if err != nil {
			return false
		}
		for i := range s.Agents {
			if online[s.AgentID(i)] == "" {
				return false
			}
		}
		return true
	})
}

// Close ends all that was started.
func (s *System) Close() {
	if s.Dashboard != nil {
		s.Dashboard.Kill()
	}
	for _, list := range [][]*Process{s.Agents, s.Workers, s.Listeners} {
		for _, p := range list {
			p.Kill()
		}
	}
	for _, list := range s.Proxies {
		for _, p := range list {
			p.Close()
		}
	}
	if s.DB != nil {
		s.DB.Close()
	}
	if s.Redis != nil {
		s.Redis.Kill()
	}
}

// EffectOf is a command that leaves a mark on the host where it is run, and what
// follows it.
func EffectOf(mark, then string) string {
	line := fmt.Sprintf(`echo %s >> "$EFFECTS"`, mark)
	if then != "" {
		line += "; " + then
	}
	return line
}

func (s *System) effects(i int) string { return filepath.Join(s.Dir, s.AgentID(i)+".effects") }

// Effects are the marks that commands have left on agent i, and how often each.
func (s *System) Effects(i int) (map[string]int, error) {
	marks := map[string]int{}
	f, err := os.Open(s.effects(i))
	if errors.Is(err, os.ErrNotExist) {
		return marks, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		marks[strings.TrimSpace(lines.Text())]++
	}
	return marks, lines.Err()
}

// Wait waits until done returns true, at most for a time; the error names what.
func Wait(ctx context.Context, most time.Duration, what string, done func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(most); time.Now().Before(deadline); {
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return fmt.Errorf("not within %v: %s", most, what)
}
