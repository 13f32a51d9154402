package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/internal/visible"
	"github.com/musterhq/muster/tasks"
)

func (a *app) hostsVerb() *cli.Command {
	return &cli.Command{
		Name: "hosts", Usage: "show who is online, or whether the named hosts are", ArgsUsage: "[HOST...]",
		Flags:  verbFlags(jsonFlag()),
		Action: a.hosts,
	}
}

// onlineHost is a host as the verb shows it.
type onlineHost struct {
	tasks.Presence
	hostname, os string
}

// onlineObject is a host in JSON.
type onlineObject struct {
	Host     string `json:"host"`
	Online   bool   `json:"online"`
	Address  string `json:"address,omitempty"`
	Listener string `json:"listener,omitempty"`
	Client   string `json:"client,omitempty"`
	Instance string `json:"instance,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	OS       string `json:"os,omitempty"`
}

func (a *app) hosts(c *cli.Context) error {
	names := c.Args().Slice()
	for _, h := range names {
		if !tasks.ValidHost(h) {
			return misuse("%q is no host id", h)
		}
	}
	rdb, done, err := a.redis(c)
	if err != nil {
		return err
	}
	defer done()
	return a.showHosts(c.Context, rdb, names, a.printer(c))
}

// showHosts prints who is online, or of each named host whether it is.
func (a *app) showHosts(ctx context.Context, rdb redis.UniversalClient, names []string, p *printer) error {
	view, err := tasks.NewRoll(rdb).View(ctx)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return a.namedHosts(ctx, rdb, view, names, p)
	}
	hosts, err := everyHost(ctx, rdb, view)
	if err != nil {
		return err
	}
	if len(hosts) == 0 && !p.json {
		fmt.Fprintln(a.stderr, "no host is online")
	}
	p.online(hosts, false)
	return p.end(statusOK)
}

// namedHosts prints each named host once, in the order given.
func (a *app) namedHosts(ctx context.Context, rdb redis.UniversalClient, view *tasks.View, names []string, p *printer) error {
	var hosts []onlineHost
	s := statusOK
	err := view.LocateAll(ctx, unique(names), func(found []tasks.Presence) error {
		page, err := withInfo(ctx, rdb, found)
		hosts = append(hosts, page...)
		return err
	})
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if !h.Online {
			s = statusAbsent
		}
	}
	p.online(hosts, true)
	return p.end(s)
}

// everyHost returns the hosts that are online, in order.
func everyHost(ctx context.Context, rdb redis.UniversalClient, view *tasks.View) ([]onlineHost, error) {
	var hosts []onlineHost
	err := view.Each(ctx, func(page []tasks.Presence) error {
		more, err := withInfo(ctx, rdb, page)
		hosts = append(hosts, more...)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(hosts, func(a, b onlineHost) int { return cmp.Compare(a.Host, b.Host) })
	return slices.CompactFunc(hosts, func(a, b onlineHost) bool { return a.Host == b.Host }), nil
}

// withInfo adds what the hosts have said of themselves, in one round trip.
func withInfo(ctx context.Context, rdb redis.UniversalClient, found []tasks.Presence) ([]onlineHost, error) {
	if len(found) == 0 {
		return nil, nil
	}
	hosts, infos := make([]onlineHost, len(found)), make([]*redis.SliceCmd, len(found))
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, f := range found {
			infos[i] = pipe.HMGet(ctx, tasks.KeyHost(f.Host, "info"), "hostname", "os")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("what hosts say of themselves: %w", err)
	}
	for i, f := range found {
		info := infos[i].Val()
		hosts[i].Presence = f
		hosts[i].hostname, _ = info[0].(string)
		hosts[i].os, _ = info[1].(string)
	}
	return hosts, nil
}

// toldShown is how many characters of a name that a host gives itself are shown.
const toldShown = 64

// online prints hosts. Named ones are shown with their answer, since some may be
// offline.
//
// What a host tells of itself is cut: the width of a column is that of its longest entry,
// which one host alone must not make a flood of. JSON has all of it.
func (p *printer) online(hosts []onlineHost, named bool) {
	rows := make([][]string, 0, len(hosts))
	for _, h := range hosts {
		client, instance, _ := strings.Cut(h.Client, " ")
		address := ""
		if h.Online {
			address = h.Addr.String()
		}
		if p.json {
			p.object(onlineObject{h.Host, h.Online, address, h.Listener, client, instance, h.hostname, h.os})
			continue
		}
		row := []string{visible.Line(h.Host)}
		if named && h.Online {
			row = append(row, p.paint(green, "online"))
		} else if named {
			row = append(row, p.paint(yellow, "offline"))
		}
		rows = append(rows, append(row,
			address, visible.Line(h.Listener), visible.Line(client), visible.Cut(toldShown, h.hostname), visible.Cut(toldShown, h.os)))
	}
	names := []string{"HOST", "ADDRESS", "LISTENER", "CLIENT", "HOSTNAME", "OS"}
	if named {
		names = slices.Insert(names, 1, "STATE")
	}
	p.table(names, rows)
}

// countOnline counts the hosts that are online.
func countOnline(ctx context.Context, rdb redis.UniversalClient) (int, error) {
	view, err := tasks.NewRoll(rdb).View(ctx)
	if err != nil {
		return 0, err
	}
	hosts := map[string]bool{} // one may come twice
	err = view.Each(ctx, func(page []tasks.Presence) error {
		for _, h := range page {
			hosts[h.Host] = true
		}
		return nil
	})
	return len(hosts), err
}

// unique returns names without those that stand there already.
func unique(names []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		again := seen[n]
		seen[n] = true
		return again
	})
}
