package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/tasks"
)

// pace is how often the roll is looked at.
type pace struct {
	check    time.Duration // a cheap look
	every    time.Duration // the whole roll is read so often in any case,
	least    time.Duration // and not sooner than so long after the last time
	share    int           // or so many times as long as that took
	lookBack time.Duration // a stream of events that is quiet is held against where it was read up to
}

func defaultPace() pace {
	return pace{check: checkEvery, every: 15 * time.Second, least: 2 * time.Second, share: 20, lookBack: 3 * time.Second}
}

// check is a cheap look at the roll: how large it is, and the leases.
type check struct {
	entries int64 // of {muster}:online
	leases  []lease
	odd     bool  // the leases can't be read
	err     error // the roll can't be read
}

// look makes a check.
func (f *fleet) look(ctx context.Context) check {
	var now *redis.TimeCmd
	var entries *redis.IntCmd
	var leases *redis.ZSliceCmd
	var types []*redis.StatusCmd
	_, _ = f.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		now, entries = p.Time(ctx), p.HLen(ctx, tasks.KeyOnline)
		leases = p.ZRangeWithScores(ctx, tasks.KeyListeners, 0, mostListeners-1)
		types = typesOf(ctx, p, fleetPlaces())
		return nil
	})
	var c check
	for key, err := range map[string]error{"": now.Err(), tasks.KeyOnline: entries.Err(), tasks.KeyListeners: leases.Err()} {
		if isReply(err) {
			err = fmt.Errorf("%s: %w", cmp.Or(key, "time"), err)
		}
		if err != nil {
			c.err = fmt.Errorf("the roll: %w", err)
		}
		if script.Transient(err) {
			f.contact.failed(err)
			c.odd = true
			return c
		}
	}
	f.contact.answered() // also if one of the keys is of another type
	if f.contact.found(judge(fleetPlaces(), types)) {
		f.touch("redis")
	}
	c.entries, c.odd = entries.Val(), leases.Err() != nil
	for _, z := range leases.Val() {
		id, _ := z.Member.(string)
		until := time.UnixMilli(int64(z.Score))
		c.leases = append(c.leases, lease{ID: id, Until: until, Runs: until.After(now.Val())})
	}
	slices.SortFunc(c.leases, func(a, b lease) int { return natural(a.ID, b.ID) })
	return c
}

// mostListeners bounds what is read of a roll that somebody has filled with nonsense.
const mostListeners = 10_000

// checks makes a check every second, until ctx ends; that is the default pace.
func (f *fleet) checks(ctx context.Context) error {
	tick := time.NewTicker(f.pace.check)
	defer tick.Stop()
	for {
		c := f.look(ctx)
		select { // only the newest counts
		case <-f.checked:
		default:
		}
		f.checked <- c
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// keep keeps the roll true, until ctx ends: hosts of which an event tells are looked up,
// and the whole roll is read every 15 s, or when a check does not fit to what is known.
func (f *fleet) keep(ctx context.Context) error {
	var next time.Time  // the earliest next reading
	var whole time.Time // when the roll is read in any case
	odd := 0            // checks in a row that did not fit
	due := true         // the roll is to be read as soon as that may be
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
			f.lookUp(ctx)
			continue
		case c := <-f.checked:
			fits, sameLeases := f.compare(c)
			if c.err != nil {
				f.fails.seen(c.err, "the roll can't be read, trying on")
				continue
			}
			if fits {
				odd = 0
			} else {
				odd++ // once may be a host that comes just now
			}
			now := time.Now()
			due = due || !sameLeases || odd >= 2 || now.After(whole)
			if !due || now.Before(next) {
				continue
			}
			began := now
			err := f.readAll(ctx, c)
			f.fails.seen(err, "the roll can't be read, trying on")
			now = time.Now()
			next = now.Add(max(f.pace.least, time.Duration(f.pace.share)*now.Sub(began)))
			if err == nil {
				due, odd, whole = false, 0, now.Add(f.pace.every)
			}
		}
	}
}

// compare holds a check against what is known: whether as many hosts are known as there
// are entries, and whether the same listeners live. It also takes the new leases and
// samples the number of hosts.
func (f *fleet) compare(c check) (fits, sameLeases bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	alive := func(list []lease) (ids []string) {
		for _, l := range list {
			if l.Runs {
				ids = append(ids, l.ID)
			}
		}
		return ids
	}
	f.unmarkLocked()
	if c.odd {
		return false, false
	}
	sameLeases = !f.read.IsZero() && slices.Equal(alive(f.listeners), alive(c.leases))
	fits = c.entries == int64(len(f.hosts))+f.strays
	was := f.listeners
	f.listeners = c.leases
	if !slices.EqualFunc(was, c.leases, lease.looksLike) {
		f.touch("listeners")
		if !sameLeases {
			f.touch("numbers")
		}
	}
	if !f.read.IsZero() && c.err == nil {
		if f.past.note(time.Now(), len(f.hosts)) {
			f.touch(chartTopics()...)
		}
	}
	return fits, sameLeases
}

// readAll reads the whole roll.
func (f *fleet) readAll(ctx context.Context, c check) error {
	view, err := f.roll.View(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	before := f.version
	f.walks++
	this := f.walks
	f.mu.Unlock()
	take := func(page []tasks.Presence) error {
		f.contact.answered()
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range page {
			f.seenLocked(p, this)
		}
		return ctx.Err()
	}
	if err = view.Each(ctx, take); isNone(err) {
		err = f.eachBare(ctx, view, take)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, h := range f.hosts {
		if h.walk != this {
			f.dropLocked(id)
		}
	}
	f.strays = max(0, c.entries-int64(len(f.hosts)))
	first := f.read.IsZero()
	f.read = time.Now()
	f.past.note(f.read, len(f.hosts))
	if first || f.version != before {
		f.touch("roll", "numbers", "listeners")
		f.touch(chartTopics()...)
	}
	return nil
}

// eachBare is view.Each without {muster}:clients, of which nothing can be read.
func (f *fleet) eachBare(ctx context.Context, view *tasks.View, visit func([]tasks.Presence) error) error {
	ids, err := view.StartingWith(ctx, "")
	if err != nil {
		return err
	}
	for part := range slices.Chunk(ids, tasks.Chunk) {
		places, err := f.rdb.HMGet(ctx, tasks.KeyOnline, part...).Result()
		if err != nil {
			return fmt.Errorf("who is online: %w", err)
		}
		var page []tasks.Presence
		for i, id := range part {
			at, _ := places[i].(string)
			if addr, listener, err := tasks.ParsePlace(at); err == nil && view.Runs(listener) {
				page = append(page, tasks.Presence{Host: id, Online: true, Addr: addr, Listener: listener})
			}
		}
		if err := visit(page); err != nil {
			return err
		}
	}
	return nil
}

// lookUp asks for the hosts of which events have told.
func (f *fleet) lookUp(ctx context.Context) {
	f.mu.Lock()
	due := make([]string, 0, len(f.due))
	for id := range f.due {
		due = append(due, id)
	}
	clear(f.due)
	f.mu.Unlock()
	err := f.locate(ctx, due)
	f.fails.seen(err, "the roll can't be read, trying on")
	// What was not looked up is found by the next reading of the whole roll.
}

func (f *fleet) locate(ctx context.Context, ids []string) error {
	view, err := f.roll.View(ctx)
	if err != nil {
		return err
	}
	return view.LocateAll(ctx, ids, func(page []tasks.Presence) error {
		f.contact.answered()
		f.mu.Lock()
		defer f.mu.Unlock()
		changed := []string{"roll", "numbers", "listeners"}
		for _, p := range page {
			var walk uint64
			if h := f.hosts[p.Host]; h != nil {
				walk = h.walk
			}
			if f.seenLocked(p, walk) {
				changed = append(changed, "host:"+p.Host)
			}
			if p.Online { // it may have connected anew, and tells of itself again
				f.infos.wantAgain(p.Host)
			}
		}
		if len(changed) > 3 {
			f.touch(changed...)
			f.past.note(time.Now(), len(f.hosts))
			f.touch(chartTopics()...)
		}
		return ctx.Err()
	})
}
