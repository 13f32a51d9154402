package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/internal/metrics"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

func (a *app) agentVerb() *cli.Command {
	return &cli.Command{
		Name: "agent", Usage: "be a host: stay connected, run what is dispatched to it, report",
		Flags:  append(flagsOf("agent"), sharedFlags("", "info")...),
		Action: a.agent,
	}
}

func (a *app) agent(c *cli.Context) error {
	cfg, err := a.agentConfig(c)
	if err != nil {
		return err
	}
	var connect dial
	if c.String("redis") != "" {
		if connect, err = parseRedis(c.String("redis")); err != nil {
			return err
		}
	}
	log, logged, err := a.log(c)
	if err != nil {
		return err
	}
	defer logged()
	cfg.Log = log
	m, err := a.openMetrics(c, "agent", log, connect)
	if err != nil {
		return err
	}
	defer m.close()
	if connect != nil {
		rdb := connect(often)
		defer rdb.Close()
		m.watch(rdb)
		// A host may well start before its Redis does: the agent asks until it answers.
		if err := ping(c.Context, connect); err != nil {
			log.WithField("err", unanswered(redisAt{c.String("redis"), a.redisBy}, err)).Warn("no answer from redis yet")
		}
		cfg.Store = finder{tasks.NewStore(rdb, tasks.StoreConfig{})}
	}
	host, err := agent.New(cfg)
	if err != nil {
		return err
	}
	m.serve(func(m *metrics.Server) { m.AddAgent(host) })
	return host.Run(c.Context)
}

func (a *app) agentConfig(c *cli.Context) (cfg agent.Config, err error) {
	if err := noWords(c); err != nil {
		return cfg, err
	}
	v, err := a.settings(c, "agent")
	if err != nil {
		return cfg, err
	}
	servers := get[[]string](v, "server")
	if len(servers) == 0 {
		return cfg, misuse("--server is needed: the address of a listener")
	}
	for _, s := range servers {
		addr, err := serverAddr(s)
		if err != nil {
			return cfg, v["server"].misuse("%w", err)
		}
		cfg.Servers = append(cfg.Servers, addr)
	}
	if cfg.ID = get[string](v, "id"); cfg.ID == "" {
		if cfg.ID, err = os.Hostname(); err != nil || !wire.ValidHost(cfg.ID) {
			return cfg, misuse("the host name %q can't be the host's id, --id gives it another", cfg.ID)
		}
	}
	if ip := get[string](v, "bind_ip"); ip != "" {
		if cfg.BindIP, err = netip.ParseAddr(ip); err != nil {
			return cfg, v["bind_ip"].misuse("%w", err)
		}
	}
	cfg.UDPPort = get[int](v, "udp_port")
	cfg.StateDir = get[string](v, "state_dir")
	cfg.Tags = get[map[string]string](v, "tags")
	cfg.Version = version
	return cfg, nil
}

// serverAddr reads HOST, HOST:PORT, an IPv6 address, or one in brackets with a port.
func serverAddr(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), strconv.Itoa(wire.DefaultTCPPort)
		if _, ipErr := netip.ParseAddr(host); ipErr != nil && strings.ContainsRune(host, ':') {
			return "", wrongf("%q is not of the form host:port", s)
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", wrongf("%q: port %q, want 1 to 65535", s, port)
	}
	if host == "" || strings.ContainsAny(host, " \t/") {
		return "", wrongf("%q is not of the form host:port", s)
	}
	return net.JoinHostPort(host, port), nil
}

// defaultStateDir is where an agent keeps its journal when nothing else is said.
func defaultStateDir() string {
	if runtime.GOOS == "windows" {
		if dir := os.Getenv("ProgramData"); dir != "" {
			return filepath.Join(dir, "muster")
		}
	} else if os.Geteuid() == 0 {
		return "/var/lib/muster"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "muster")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "muster")
	}
	return "muster-state"
}

// finder looks task numbers up in Redis for an agent.
type finder struct{ store *tasks.Store }

// Find implements agent.Finder.
func (f finder) Find(ctx context.Context, number, host string) (wire.Found, error) {
	sets, err := f.store.Find(ctx, []tasks.Lookup{{Number: tasks.Number(number), Host: host}})
	if err != nil {
		return wire.Found{}, err
	}
	set := sets[0]
	found := wire.Found{Task: number, Found: set.Found, Cancelled: set.Cancelled}
	if !set.Found {
		return found, nil
	}
	found.Request, found.TimeoutS, found.DeadlineMS = set.Request, int64(set.Timeout/time.Second), set.Deadline.UnixMilli()
	for _, c := range set.Commands {
		found.Commands = append(found.Commands, wire.Command{Line: c.Line, Priority: c.Priority})
	}
	return found, nil
}
