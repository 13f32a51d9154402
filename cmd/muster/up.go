package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/dashboard"
)

func (a *app) upVerb() *cli.Command {
	return &cli.Command{
		Name: "up", Usage: "run everything in one process, on an embedded Redis unless --redis names one",
		Flags: append([]cli.Flag{
			intFlag("agents", 3, "`NUMBER` of local agents"),
			textFlag("state-dir", "", "`DIR` for the agents' journals (default: one that is deleted at the end)"),
			settingsOf("listener", "metrics_bind")[0].asFlag(),
			jsonFlag(),
		}, sharedFlags("", "info")...),
		Action: a.up,
	}
}

func (a *app) up(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	agents, err := integer(c, "agents", 0, 1000)
	if err != nil {
		return err
	}
	cfg := systemConfig{
		redis: redisAt{c.String("redis"), a.redisBy}, redisAddr: "127.0.0.1:6379", agents: agents, stateDir: c.String("state-dir"),
	}
	// Its listener and its worker are as their groups of the file say, or the
	// environment. Its agents are several, so they have the tags in common only.
	if cfg.listener, cfg.exact, err = a.listenerConfig(c); err != nil {
		return err
	}
	if cfg.worker, err = a.workerConfig(c); err != nil {
		return err
	}
	if cfg.dashboard, cfg.exactPage, err = a.dashboardOfUp(c); err != nil {
		return err
	}
	v, err := a.settings(c, "agent", "tags")
	if err != nil {
		return err
	}
	cfg.tags = get[map[string]string](v, "tags")
	log, logged, err := a.log(c)
	if err != nil {
		return err
	}
	defer logged()
	cfg.log = log
	cfg.metrics = func(connect dial) (*meter, error) { return a.openMetrics(c, "listener", log, connect) }
	s, err := startSystem(c.Context, cfg)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.gathered(c.Context); err != nil {
		if c.Context.Err() != nil {
			return nil
		}
		return err
	}
	p := a.printer(c)
	p.firstScreen(s)
	if err := p.flush(); err != nil {
		return err
	}
	select {
	case <-c.Context.Done():
		return nil
	case <-s.services.Failed():
		return s.err()
	}
}

// dashboardOfUp is what the file says of the dashboard. Its variables are those of the
// listener, too, for which up takes them. exact is whether the file says where it is.
func (a *app) dashboardOfUp(c *cli.Context) (cfg dashboard.Config, exact bool, err error) {
	v := values{}
	for _, s := range settingsOf("dashboard") {
		s.flag = ""
		f, err := a.inForce(c, s)
		if err != nil {
			return cfg, false, err
		}
		v[s.name] = f
	}
	cfg, err = dashboardConfig(c, v)
	return cfg, v["bind"].from != fromDefault, err
}

// firstScreen says what is where, and what to try.
func (p *printer) firstScreen(s *system) {
	if p.json {
		p.object(struct {
			Redis     string   `json:"redis"`
			Embedded  bool     `json:"embedded"`
			Listener  string   `json:"listener"`
			Dashboard string   `json:"dashboard"`
			Hosts     []string `json:"hosts"`
		}{place(s.url), s.embedded, s.addr, s.page, append([]string{}, s.hosts...)})
		return
	}
	kept := ""
	if s.embedded {
		kept = "  (embedded: what it holds goes with this process)"
	}
	p.say("%s", p.paint(bold, "muster is up"))
	p.say("  redis     %s%s", place(s.url), kept)
	p.say("  listener  %s", s.addr)
	p.say("  worker    takes requests from the stream muster:requests")
	p.say("  hosts     %s", someOf(s.hosts))
	p.say("  dashboard http://%s/", s.page)
	for _, m := range s.moved {
		p.say("  note      %s", m)
	}
	p.say("")
	p.say("Try, in another terminal:")
	if host, port, ok := redisHostPort(s.url); ok {
		p.say(`  redis-cli -h %s -p %s XADD muster:requests '*' key ACfirst commands '{"uptime": 1}'`, host, port)
	}
	me := calledAs(os.Args[0])
	p.say("  %s dispatch%s --all --yes --run 'uname -a' --wait", me, redisArg(s.url))
	p.say("  %s results%s ACfirst", me, redisArg(s.url))
	p.say("")
	p.say("Ctrl-C ends it.")
}

// calledAs is what somebody types to have this program once more, where it was started under
// a name: go run builds it where nobody looks.
func calledAs(name string) string {
	if strings.Contains(name, "go-build") {
		return "go run ./cmd/muster"
	}
	return name
}

// redisArg is the flag that names a Redis, nothing for the default one. A password is
// not repeated.
func redisArg(text string) string {
	if text == defaultRedis {
		return ""
	}
	return " --redis " + place(text)
}

// redisHostPort is what redis-cli needs to reach a plain Redis without a login.
func redisHostPort(text string) (host, port string, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "redis" || u.User != nil {
		return "", "", false
	}
	host, port, err = net.SplitHostPort(u.Host)
	return host, port, err == nil
}

// someOf lists names, the first ones if they are many.
func someOf(names []string) string {
	const most = 10
	if len(names) == 0 {
		return "none"
	}
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], " "), len(names)-most)
}
