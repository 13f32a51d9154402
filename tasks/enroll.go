package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

// LeaseTime is how long a listener is believed to live after it last said so. It
// says so every third of that time.
const LeaseTime = 15 * time.Second

// RebuildTime is how long the roll is taken for incomplete after a listener has found
// that its lease was lost. A lease is renewed three times in its length, so that by then
// every listener has found the same, and had a second to put its hosts on the roll again.
const RebuildTime = LeaseTime/3 + time.Second

// ChangeKind is what has happened to a host at a listener.
type ChangeKind string

const (
	On   ChangeKind = "on"   // it has connected: the newest connection holds it
	Hold ChangeKind = "hold" // it is still connected: whoever holds it may keep it
	Off  ChangeKind = "off"  // it has no connection here any more
)

// Change is a change of presence.
type Change struct {
	Kind   ChangeKind
	Host   string
	Addr   netip.AddrPort // On, Hold: where it waits for datagrams
	Client string         // On, Hold: "json", "text" or "agent <instance>"
	// Until is the time by Redis's clock after which an On is no more than a Hold: it has
	// been under way so long that the host may have connected elsewhere meanwhile. The
	// zero time is no limit.
	Until time.Time
}

// Verdict is what became of a Change.
type Verdict string

const (
	CameOn  Verdict = "on"      // it is on the roll, where it was not
	Held    Verdict = "held"    // it is on the roll, as before
	Refused Verdict = "refused" // another connection holds it and this one is to be closed
	WentOff Verdict = "off"     // it is off the roll: finish with Depart
	Kept    Verdict = "kept"    // it was not on the roll for this listener, or another has it
)

// Changed is what became of one Change.
type Changed struct {
	Verdict Verdict
	Holder  string // Refused: the listener that holds the host
	When    int64  // WentOff: Unix microseconds by Redis's clock
}

//go:embed lua/presence.lua
var presenceLua string

//go:embed lua/lease.lua
var leaseLua string

//go:embed lua/release.lua
var releaseLua string

//go:embed lua/depart.lua
var departLua string

//go:embed lua/gone.lua
var goneLua string

//go:embed lua/info.lua
var infoLua string

var (
	presenceScript = script.New(presenceLua)
	leaseScript    = script.New(leaseLua)
	releaseScript  = script.New(releaseLua)
	departScript   = script.New(departLua)
	goneScript     = script.New(goneLua)
	infoScript     = script.New(infoLua)
)

// changesPerCall keeps one call of the presence script at some milliseconds.
const changesPerCall = 250

// Apply makes changes of presence at a listener, in their order, in one round trip,
// and returns what became of each and Redis's time. All is safe to repeat after an
// error.
func (r *Roll) Apply(ctx context.Context, listener string, changes []Change) ([]Changed, time.Time, error) {
	return r.apply(ctx, listener, "", changes)
}

func (r *Roll) apply(ctx context.Context, listener, mode string, changes []Change) ([]Changed, time.Time, error) {
	keys := []string{KeyOnline, KeyClients, KeyListeners, KeyEvents, KeyDeparted, KeyAt(listener)}
	var calls []script.Call
	for part := range slices.Chunk(changes, changesPerCall) {
		args := []any{listener, EventsCap, mode}
		for _, c := range part {
			addr, until := "", ""
			if c.Kind != Off {
				addr = c.Addr.String()
			}
			if !c.Until.IsZero() {
				until = strconv.FormatInt(c.Until.UnixMilli(), 10)
			}
			args = append(args, string(c.Kind), c.Host, addr, c.Client, until)
		}
		calls = append(calls, script.Call{Script: presenceScript, Keys: keys, Args: args})
	}
	results, err := script.Run(ctx, r.rdb, calls...)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("change the roll: %w", err)
	}
	changed := make([]Changed, 0, len(changes))
	var now time.Time
	for _, res := range results {
		if res.Err != nil {
			return nil, time.Time{}, fmt.Errorf("change the roll: %w", res.Err)
		}
		reply, _ := res.Value.([]any)
		now = time.UnixMilli(integer(reply, 0))
		for i := 1; i+1 < len(reply); i += 2 {
			c := Changed{Verdict: Verdict(text(reply, i))}
			switch c.Verdict {
			case Refused:
				c.Holder = text(reply, i+1)
			case WentOff:
				c.When, _ = strconv.ParseInt(text(reply, i+1), 10, 64)
			}
			changed = append(changed, c)
		}
	}
	if len(changed) != len(changes) {
		return nil, time.Time{}, fmt.Errorf("change the roll: %d answers for %d changes", len(changed), len(changes))
	}
	return changed, now, nil
}

// Departure is a host that went offline.
type Departure struct {
	Host   string
	When   int64 // Unix microseconds by Redis's clock
	Reason string
}

// HostInfo is what a host told of itself.
type HostInfo struct {
	Host   string
	Fields map[string]string // hostname, mac, os, ...
	IPv4   []string          // in the order reported
}

// Depart deletes the keys of hosts that went offline and then records host.offline
// for each. It passes over those that have come back meanwhile, or whose departure
// someone else has finished. The names are what follows muster:host:{<host>}: in a
// key. Infos that come with it are written in the same round trip as the keys are
// deleted. All is safe to repeat after an error.
func (r *Roll) Depart(ctx context.Context, names []string, departures []Departure, infos []HostInfo) error {
	departures, err := r.unfinished(ctx, departures)
	if err != nil {
		return fmt.Errorf("departures: %w", err)
	}
	calls := make([]script.Call, 0, len(departures)+len(infos))
	for _, d := range departures {
		keys := []string{KeyHost(d.Host, "info")}
		for _, name := range names {
			keys = append(keys, KeyHost(d.Host, name))
		}
		calls = append(calls, script.Call{Script: departScript, Keys: keys, Args: []any{d.When}})
	}
	for _, i := range infos {
		args := []any{len(i.Fields)}
		for name, value := range i.Fields {
			args = append(args, name, value)
		}
		for _, addr := range i.IPv4 {
			args = append(args, addr)
		}
		keys := []string{KeyHost(i.Host, "info"), KeyHost(i.Host, "ipv4")}
		calls = append(calls, script.Call{Script: infoScript, Keys: keys, Args: args})
	}
	if err := r.runAll(ctx, calls); err != nil {
		return fmt.Errorf("keys of hosts: %w", err)
	}
	calls = calls[:0]
	for part := range slices.Chunk(departures, changesPerCall) {
		args := []any{EventsCap}
		for _, d := range part {
			args = append(args, d.Host, d.When, Printable(d.Reason))
		}
		calls = append(calls, script.Call{Script: goneScript, Keys: []string{KeyDeparted, KeyEvents}, Args: args})
	}
	if err := r.runAll(ctx, calls); err != nil {
		return fmt.Errorf("record departures: %w", err)
	}
	return nil
}

// unfinished returns those departures after which nothing has happened to the host.
// One that comes back between this and the deletion of its keys has at least the
// information that it brings: depart.lua looks for it, where it can be looked for
// together with the deletion.
func (r *Roll) unfinished(ctx context.Context, departures []Departure) ([]Departure, error) {
	if len(departures) == 0 {
		return nil, nil
	}
	var scores []*redis.FloatSliceCmd
	_, err := r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for part := range slices.Chunk(departures, changesPerCall) {
			hosts := make([]string, len(part))
			for i, d := range part {
				hosts[i] = d.Host
			}
			scores = append(scores, p.ZMScore(ctx, KeyDeparted, hosts...))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	left := make([]Departure, 0, len(departures))
	for i, d := range departures {
		if score := scores[i/changesPerCall].Val()[i%changesPerCall]; int64(score) == d.When {
			left = append(left, d)
		}
	}
	return left, nil
}

func (r *Roll) runAll(ctx context.Context, calls []script.Call) error {
	results, err := script.Run(ctx, r.rdb, calls...)
	if err != nil {
		return err
	}
	for _, res := range results {
		if res.Err != nil {
			return res.Err
		}
	}
	return nil
}

// Lease begins a listener's lease. It returns true if one of the same id was running.
func (r *Roll) Lease(ctx context.Context, listener string) (bool, error) {
	return r.lease(ctx, listener, "begin")
}

// Renew renews a listener's lease. It returns false if the lease was not running: the
// listener's hosts may have been taken off the roll, and it should put all of them on
// again. If there was none at all, the roll is incomplete for RebuildTime.
func (r *Roll) Renew(ctx context.Context, listener string) (bool, error) {
	return r.lease(ctx, listener, "renew")
}

func (r *Roll) lease(ctx context.Context, listener, mode string) (bool, error) {
	running, err := r.isOne(ctx, script.Call{
		Script: leaseScript, Keys: []string{KeyListeners, KeyRebuilding},
		Args: []any{listener, LeaseTime.Milliseconds(), mode, RebuildTime.Milliseconds()},
	})
	if err != nil {
		return false, fmt.Errorf("renew the lease: %w", err)
	}
	return running, nil
}

// Release strikes a listener that has put all its hosts off the roll. One that
// still has some is left for the sweep.
func (r *Roll) Release(ctx context.Context, listener string) error {
	_, err := r.release(ctx, listener, "")
	return err
}

// release returns true if the listener is struck.
func (r *Roll) release(ctx context.Context, listener, mode string) (bool, error) {
	call := script.Call{Script: releaseScript, Keys: []string{KeyListeners, KeyAt(listener)}, Args: []any{listener, mode}}
	struck, err := r.isOne(ctx, call)
	if err != nil {
		return false, fmt.Errorf("release the lease: %w", err)
	}
	return struck, nil
}

// isOne runs a script that returns 1 or 0.
func (r *Roll) isOne(ctx context.Context, call script.Call) (bool, error) {
	results, err := script.Run(ctx, r.rdb, call)
	if err != nil {
		return false, err
	}
	return results[0].Value == int64(1), results[0].Err
}

// Cursor is how far Scan has come. Its zero value is the beginning.
type Cursor struct{ online, clients, at uint64 }

// ScanPage is about how many entries of each key one Scan looks at.
const ScanPage = 500

// Scan reads the next page of the roll, and after the last one the first again. It
// returns the hosts by the listener that the roll says holds them; to the given
// listener it also counts what only a damaged roll has: hosts that stand in its set
// alone, among the clients alone, or in a form that can't be read.
func (r *Roll) Scan(ctx context.Context, listener string, c *Cursor) (map[string][]string, error) {
	var online, clients, at *redis.ScanCmd
	_, err := r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		online = p.HScan(ctx, KeyOnline, c.online, "", ScanPage)
		clients = p.HScan(ctx, KeyClients, c.clients, "", ScanPage)
		at = p.SScan(ctx, KeyAt(listener), c.at, "", ScanPage)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scan the roll: %w", err)
	}
	held := map[string][]string{}
	page, next := online.Val()
	c.online = next
	for i := 0; i+1 < len(page); i += 2 {
		holder := listener
		if at := strings.LastIndexByte(page[i+1], '@'); at >= 0 {
			holder = page[i+1][at+1:]
		}
		held[holder] = append(held[holder], page[i])
	}
	page, c.at = at.Val()
	held[listener] = append(held[listener], page...)

	page, c.clients = clients.Val()
	known := make([]string, 0, len(page)/2)
	for i := 0; i+1 < len(page); i += 2 {
		known = append(known, page[i])
	}
	if len(known) == 0 {
		return held, nil
	}
	// Both are read in one moment: a host that has gone since the page was read stands in
	// neither, and is no damage.
	var places, forms *redis.SliceCmd
	_, err = r.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		places = p.HMGet(ctx, KeyOnline, known...)
		forms = p.HMGet(ctx, KeyClients, known...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scan the roll: %w", err)
	}
	for i, host := range known {
		if places.Val()[i] == nil && forms.Val()[i] != nil {
			held[listener] = append(held[listener], host)
		}
	}
	return held, nil
}

// Held returns the hosts that stand in a listener's set: those that it holds or held.
func (r *Roll) Held(ctx context.Context, listener string) ([]string, error) {
	seen := map[string]bool{}
	for cursor := uint64(0); ; {
		hosts, next, err := r.rdb.SScan(ctx, KeyAt(listener), cursor, "", ScanPage).Result()
		if err != nil {
			return nil, fmt.Errorf("hosts of listener %s: %w", listener, err)
		}
		for _, host := range hosts {
			seen[host] = true // a scan may give one twice
		}
		if cursor = next; cursor == 0 {
			return slices.Collect(maps.Keys(seen)), nil
		}
	}
}

// Leases returns the listeners that have a lease, running or ended.
func (r *Roll) Leases(ctx context.Context) (map[string]bool, error) {
	names, err := r.rdb.ZRange(ctx, KeyListeners, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("leases of listeners: %w", err)
	}
	leases := make(map[string]bool, len(names))
	for _, name := range names {
		leases[name] = true
	}
	return leases, nil
}
