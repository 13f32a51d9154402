package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// mostOffered is how many host ids or task numbers a shell is given.
const mostOffered = 200

// ask has find work on the Redis that is meant: the one of the line, else the one of the
// settings in force. The client heeds the context of each command.
func (a *app) ask(p partial, find func(rdb redis.UniversalClient) []candidate) []candidate {
	connect, err := a.redisOf(p)
	if err != nil {
		return nil
	}
	rdb := connect(brief)
	defer rdb.Close()
	return find(rdb)
}

// redisOf finds which Redis a line means.
func (a *app) redisOf(p partial) (dial, error) {
	if text, ok := p.value("redis"); ok {
		return parseRedis(text)
	}
	path, named := p.value("config")
	if !named {
		path = os.Getenv(env("config")[0])
	}
	quiet := &app{given: map[string]bool{}, defaults: map[string]any{}}
	var err error
	if quiet.file, err = readSettings(path, named); err != nil {
		return nil, err
	}
	f, err := quiet.inForce(nil, settingsOf("redis")[0])
	if err != nil {
		return nil, err
	}
	text, _ := f.value.(string)
	return parseRedis(text)
}

// offerHosts offers hosts that are not given yet: those of a set where the line names one,
// else those online. What is no host id is never offered.
func (a *app) offerHosts(ctx context.Context, p partial, typed string, given []string) []candidate {
	return a.ask(p, func(rdb redis.UniversalClient) []candidate {
		var names []string
		if p.verb.Name == "results" && len(p.words) == 1 {
			names = hostsOfSet(ctx, rdb, p.words[0], typed)
		} else if view, err := tasks.NewRoll(rdb).View(ctx); err == nil {
			names, _ = view.StartingWith(ctx, typed) // those found in time are better than none
		}
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(given, n) })
		slices.Sort(names)
		return candidates(spread(names, mostOffered)...)
	})
}

func hostsOfSet(ctx context.Context, rdb redis.UniversalClient, number, typed string) (names []string) {
	n, err := tasks.ParseNumber(number)
	if err != nil {
		return nil
	}
	hosts, _ := hostsOf(ctx, tasks.NewStore(rdb, tasks.StoreConfig{}), n, anyState)
	for _, h := range hosts {
		if tasks.ValidHost(h.Host) && strings.HasPrefix(h.Host, typed) {
			names = append(names, h.Host)
		}
	}
	return names
}

// spread returns at most so many of sorted names, the first and the last among them: a
// shell types what those offered have in common, and that all of them have.
func spread(names []string, most int) []string {
	if len(names) <= most {
		return names
	}
	some := make([]string, most)
	for i := range some {
		some[i] = names[i*(len(names)-1)/(most-1)]
	}
	return some
}

// setHead is what is offered of a set.
type setHead struct {
	number  string
	created time.Time
	about   string
}

// offerNumbers offers task numbers, the newest first; with open only of sets that have not
// ended. What is no task number is never offered.
func (a *app) offerNumbers(ctx context.Context, p partial, open bool) []candidate {
	return a.ask(p, func(rdb redis.UniversalClient) (all []candidate) {
		const page, mostPages = 1000, 20
		var heads []setHead
		for i := int64(0); i < mostPages && len(heads) < mostOffered; i++ {
			// Those that end last are the newest, unless deadlines differ much.
			members, err := rdb.ZRevRange(ctx, tasks.KeySets, i*page, (i+1)*page-1).Result()
			if err != nil || len(members) == 0 {
				break
			}
			var numbers []tasks.Number
			for _, m := range members {
				if n, err := tasks.ParseNumber(m); err == nil && strings.HasPrefix(m, p.current) {
					numbers = append(numbers, n)
				}
			}
			heads = append(heads, headsOf(ctx, rdb, numbers, open, mostOffered-len(heads))...)
		}
		slices.SortStableFunc(heads, func(a, b setHead) int { return b.created.Compare(a.created) })
		for _, h := range heads {
			all = append(all, candidate{h.number, h.about})
		}
		return all
	})
}

// headsOf reads the heads of sets, of at most so many.
func headsOf(ctx context.Context, rdb redis.UniversalClient, numbers []tasks.Number, open bool, most int) (heads []setHead) {
	store := tasks.NewStore(rdb, tasks.StoreConfig{})
	for part := range slices.Chunk(numbers, mostOffered) {
		ledgers, err := store.Ledgers(ctx, part)
		if err != nil {
			return heads
		}
		for _, l := range ledgers {
			switch {
			case len(heads) == most:
				return heads
			case l.Stage == "", open && l.Stage == tasks.Closed:
				continue
			}
			h := setHead{string(l.Number), l.Created, string(l.Stage)}
			if l.Total > 0 {
				h.about += ", " + plural(l.Total, "host")
			}
			heads = append(heads, h)
		}
	}
	return heads
}
