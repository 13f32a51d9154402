package tasks

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Roll is who is online, as the listeners write it. A host is on it for a live
// connection to a listener whose lease has not ended, and for no other reason.
type Roll struct{ rdb redis.UniversalClient }

// NewRoll returns the roll in rdb, which stays the caller's to close.
func NewRoll(rdb redis.UniversalClient) *Roll { return &Roll{rdb} }

// Presence is a host and where it is reached.
type Presence struct {
	Host     string
	Online   bool           // false: the fields below are empty
	Addr     netip.AddrPort // where it waits for datagrams
	Listener string         // the listener that holds its connection
	Client   string         // "json", "text" or "agent <instance>"
}

// Agent reports whether the host runs muster's own agent, which may be told a task
// number more than once.
func (p Presence) Agent() bool { return strings.HasPrefix(p.Client, "agent ") }

// FormatPlace gives the value that a host has in the hash {muster}:online.
func FormatPlace(addr netip.AddrPort, listener string) string { return addr.String() + "@" + listener }

// ParsePlace reads what FormatPlace gives.
func ParsePlace(s string) (addr netip.AddrPort, listener string, err error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return addr, "", fmt.Errorf("place %q has no '@'", clip(s))
	}
	if addr, err = netip.ParseAddrPort(s[:at]); err != nil {
		return addr, "", fmt.Errorf("place %q: %w", clip(s), err)
	}
	return addr, s[at+1:], nil
}

// View is the roll as seen with the leases of one moment: the listeners whose lease
// had not ended.
type View struct {
	rdb        redis.UniversalClient
	now        time.Time
	live       map[string]bool
	rebuilding time.Duration
}

// View reads the leases. Use it for one piece of work and then drop it.
func (r *Roll) View(ctx context.Context) (*View, error) {
	now, err := r.rdb.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("leases of listeners: %w", err)
	}
	var names *redis.StringSliceCmd
	var rebuilding *redis.DurationCmd
	_, err = r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		names = p.ZRangeByScore(ctx, KeyListeners, &redis.ZRangeBy{
			Min: "(" + strconv.FormatInt(now.UnixMilli(), 10), Max: "+inf",
		})
		// After the leases: who has one again after a loss has written this before it.
		rebuilding = p.PTTL(ctx, KeyRebuilding)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("leases of listeners: %w", err)
	}
	live := make(map[string]bool, len(names.Val()))
	for _, name := range names.Val() {
		live[name] = true
	}
	return &View{r.rdb, now, live, rebuilding.Val()}, nil
}

// Rebuilding is how long the roll is incomplete for, because Redis has lost it a moment
// ago and the listeners write it again. 0 or less: it is complete.
func (v *View) Rebuilding() time.Duration { return v.rebuilding }

// Now is the moment of the view by Redis's clock.
func (v *View) Now() time.Time { return v.now }

// Listeners is how many listeners had a running lease.
func (v *View) Listeners() int { return len(v.live) }

// ListenerIDs are those that had one, in order.
func (v *View) ListenerIDs() []string { return slices.Sorted(maps.Keys(v.live)) }

// Runs reports whether a listener had a running lease.
func (v *View) Runs(listener string) bool { return v.live[listener] }

// Locate returns the presence of each of hosts, at most Chunk, in their order.
func (v *View) Locate(ctx context.Context, hosts []string) ([]Presence, error) {
	if len(hosts) == 0 {
		return nil, nil
	}
	var places, clients *redis.SliceCmd
	_, err := v.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		places, clients = p.HMGet(ctx, KeyOnline, hosts...), p.HMGet(ctx, KeyClients, hosts...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("who is online: %w", err)
	}
	list := make([]Presence, len(hosts))
	for i, host := range hosts {
		place, _ := places.Val()[i].(string)
		client, _ := clients.Val()[i].(string)
		list[i] = v.presence(host, place, client)
	}
	return list, nil
}

// LocateAll calls visit with the presence of each of hosts, in their order, some
// hundreds at a time.
func (v *View) LocateAll(ctx context.Context, hosts []string, visit func([]Presence) error) error {
	for part := range slices.Chunk(hosts, Chunk) {
		page, err := v.Locate(ctx, part)
		if err != nil {
			return err
		}
		if err := visit(page); err != nil {
			return err
		}
	}
	return nil
}

// Each calls visit with all hosts that are online, some hundreds at a time. A host
// that comes or goes meanwhile may be left out or come twice.
func (v *View) Each(ctx context.Context, visit func([]Presence) error) error {
	var cursor uint64
	for {
		page, next, err := v.rdb.HScan(ctx, KeyOnline, cursor, "", Chunk).Result()
		if err != nil {
			return fmt.Errorf("who is online: %w", err)
		}
		for len(page) > 0 {
			part := page[:min(len(page), 2*Chunk)]
			page = page[len(part):]
			if err := v.visit(ctx, part, visit); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// StartingWith returns the ids of the hosts online that begin with prefix, in no order,
// each once. What is no host id is left out. If ctx ends meanwhile, what was found until
// then comes with the error.
func (v *View) StartingWith(ctx context.Context, prefix string) ([]string, error) {
	if prefix != "" && !ValidHost(prefix) {
		return nil, nil
	}
	const many = 5000 // names are short, and somebody waits for them
	var names []string
	var cursor uint64
	seen := map[string]bool{}
	for {
		page, next, err := v.rdb.HScan(ctx, KeyOnline, cursor, prefix+"*", many).Result()
		if err != nil {
			return names, fmt.Errorf("who is online: %w", err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			if host := page[i]; !seen[host] && ValidHost(host) && v.presence(host, page[i+1], "").Online {
				seen[host] = true
				names = append(names, host)
			}
		}
		if cursor = next; cursor == 0 {
			return names, nil
		}
	}
}

func (v *View) visit(ctx context.Context, pairs []string, visit func([]Presence) error) error {
	hosts := make([]string, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		hosts = append(hosts, pairs[i])
	}
	clients, err := v.rdb.HMGet(ctx, KeyClients, hosts...).Result()
	if err != nil {
		return fmt.Errorf("who is online: %w", err)
	}
	online := make([]Presence, 0, len(hosts))
	for i, host := range hosts {
		client, _ := clients[i].(string)
		if p := v.presence(host, pairs[2*i+1], client); p.Online {
			online = append(online, p)
		}
	}
	return visit(online)
}

// presence reads one entry of the roll. One that can't be read, or whose listener
// is gone, is no presence.
func (v *View) presence(host, place, client string) Presence {
	addr, listener, err := ParsePlace(place)
	if err != nil || !v.live[listener] {
		return Presence{Host: host}
	}
	return Presence{Host: host, Online: true, Addr: addr, Listener: listener, Client: client}
}
