package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/listener"
	"github.com/musterhq/muster/wire"
)

func (a *app) listenerVerb() *cli.Command {
	return &cli.Command{
		Name: "listener", Usage: "hold the hosts' connections: heartbeats, presence, reports",
		Flags: verbFlags(
			textFlag("bind", listener.DefaultBind, "TCP `ADDRESS` that hosts dial"),
			boolFlag("insecure", "bind to an address that other machines reach, with neither encryption nor proof of who is there"),
			spanFlag("heartbeat-timeout", listener.DefaultHeartbeatTimeout, "silence after which a host is offline"),
			textFlag("id", "", "`NAME` of this listener, unique on its Redis (default: made from the host name)"),
			intFlag("client-udp-port", wire.DefaultUDPPort, "UDP `PORT` on which clients that do not name theirs wait"),
		),
		Action: a.listener,
	}
}

func (a *app) listener(c *cli.Context) error {
	cfg, err := listenerConfig(c)
	if err != nil {
		return err
	}
	s, err := a.service(c)
	if err != nil {
		return err
	}
	defer s.close()
	cfg.Redis, cfg.Subscriber, cfg.Log = s.client(), s.client(), s.log
	srv, err := listener.New(cfg)
	if err != nil {
		return misuse("%w", err)
	}
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

func listenerConfig(c *cli.Context) (cfg listener.Config, err error) {
	if err := noWords(c); err != nil {
		return cfg, err
	}
	cfg.Bind = c.String("bind")
	if err := checkBind(c.Context, cfg.Bind, c.Bool("insecure")); err != nil {
		return cfg, err
	}
	if cfg.HeartbeatTimeout, err = span(c, "heartbeat-timeout"); err != nil {
		return cfg, err
	}
	// Agents are told to be well within the silence that takes them offline.
	cfg.Heartbeat = min(listener.DefaultHeartbeat, cfg.HeartbeatTimeout/4)
	if cfg.ClientUDPPort, err = integer(c, "client-udp-port", 1, 65535); err != nil {
		return cfg, err
	}
	cfg.ID, err = hostID(c)
	return cfg, err
}

// checkBind refuses an address that other machines can reach, unless that is wanted:
// whoever reaches it can claim to be any host.
func checkBind(ctx context.Context, bind string, insecure bool) error {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return misuse("--bind %q is not of the form address:port", bind)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return misuse("--bind %q: port %q, want 0 to 65535", bind, port)
	}
	var addrs []netip.Addr
	if host != "" {
		if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return misuse("--bind %q: %w", bind, err)
		}
	}
	local := len(addrs) > 0
	for _, addr := range addrs {
		local = local && addr.Unmap().IsLoopback()
	}
	if !local && !insecure {
		return misuse("--bind %s: other machines reach this address, and connections to it are neither encrypted nor authenticated; --insecure allows it", bind)
	}
	return nil
}
