package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/metrics"
	"github.com/musterhq/muster/listener"
)

func (a *app) listenerVerb() *cli.Command {
	return &cli.Command{
		Name: "listener", Usage: "hold the hosts' connections: heartbeats, presence, reports",
		Flags:  verbFlags(flagsOf("listener")...),
		Action: a.listener,
	}
}

func (a *app) listener(c *cli.Context) error {
	if err := noWords(c); err != nil {
		return err
	}
	cfg, _, err := a.listenerConfig(c)
	if err != nil {
		return err
	}
	s, err := a.service(c)
	if err != nil {
		return err
	}
	defer s.close()
	cfg.Redis, cfg.Subscriber, cfg.Log, cfg.Observer = s.client(), s.client(), s.log, s.metrics.listenerObserver()
	srv, err := listener.New(cfg)
	if err != nil {
		return misuse("%w", err)
	}
	s.metrics.serve(func(m *metrics.Server) { m.AddListener(func() *listener.Server { return srv }) })
	keepMemorySmall()
	return srv.Run(c.Context)
}

// keepMemorySmall lets the garbage collector run when a half more than what lives
// has been used, in place of twice: what a listener holds is thousands of small
// connections, and the room for garbage would cost as much as they do. GOGC in the
// environment wins.
func keepMemorySmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// listenerConfig is what the settings say. exact is whether somebody has said where to
// listen.
func (a *app) listenerConfig(c *cli.Context) (cfg listener.Config, exact bool, err error) {
	v, err := a.settings(c, "listener")
	if err != nil {
		return cfg, false, err
	}
	if cfg.OfflineDelete, err = a.offlineDelete(c); err != nil {
		return cfg, false, err
	}
	if err := checkReach(c.Context, v["bind"], get[bool](v, "insecure")); err != nil {
		return cfg, false, err
	}
	cfg.Bind = get[string](v, "bind")
	cfg.HeartbeatTimeout = get[time.Duration](v, "heartbeat_timeout")
	// Agents are told to be well within the silence that takes them offline.
	cfg.Heartbeat = min(listener.DefaultHeartbeat, cfg.HeartbeatTimeout/4)
	cfg.ClientUDPPort = get[int](v, "client_udp_port")
	cfg.ID = get[string](v, "id")
	return cfg, v["bind"].from != fromDefault, nil
}

// offlineDelete names the keys of a host that go with it, for listeners and workers.
func (a *app) offlineDelete(c *cli.Context) ([]string, error) {
	v, err := a.settings(c, "presence")
	if err != nil {
		return nil, err
	}
	return get[[]string](v, "offline_delete"), nil
}

// checkReach refuses an address that other machines can reach, unless that is wanted:
// whoever reaches it can claim to be any host.
func checkReach(ctx context.Context, bind inForce, insecure bool) error {
	text, _ := bind.value.(string)
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		return bind.misuse("%w", err)
	}
	var addrs []netip.Addr
	if host != "" {
		if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return bind.misuse("%q: %w", text, err)
		}
	}
	local := len(addrs) > 0
	for _, addr := range addrs {
		local = local && addr.Unmap().IsLoopback()
	}
	if !local && !insecure {
		return bind.misuse("%s: other machines reach this address, and connections to it are neither encrypted nor authenticated; --insecure allows it", text)
	}
	return nil
}
