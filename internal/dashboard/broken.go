package dashboard

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// broken is a key that is of another type than what muster keeps there. Nothing of it can
// be read; a page that would show it names it, and shows the rest.
type broken struct{ Key, Is, Should string }

// Error is what is wrong with the key.
func (b broken) Error() string { return b.Key + " is a " + b.Is + " and not a " + b.Should }

// brokenShown is how many a page names at most, of keys of many.
const brokenShown = 5

// place is a key, and its name in the table of package tasks, which has its type.
type place struct{ key, name string }

// fleetPlaces are the keys that pages of all kinds are made of.
func fleetPlaces() (list []place) {
	for _, key := range []string{tasks.KeyOnline, tasks.KeyListeners, tasks.KeyClients, tasks.KeyEvents, tasks.KeySets} {
		list = append(list, place{key, key})
	}
	return list
}

// setPlaces are the keys that the pages of a task set are made of.
func setPlaces(n tasks.Number) (list []place) {
	for _, key := range []func(tasks.Number) string{
		tasks.KeyMeta, tasks.KeySet, tasks.KeyHosts, tasks.KeyResults, tasks.KeyWorking, tasks.KeySends,
	} {
		list = append(list, place{key(n), key("AC131")})
	}
	return list
}

// hostPlaces are the keys of a host.
func hostPlaces(id string) (list []place) {
	for _, name := range []string{"info", "ipv4", "waiting"} {
		list = append(list, place{tasks.KeyHost(id, name), tasks.KeyHost("<host>", name)})
	}
	return list
}

// completeOf is the key of how many commands a host of a set has ended.
func completeOf(n tasks.Number, host string) place {
	return place{tasks.KeyCompleteOf(n, host), tasks.KeyCompleteOf("AC131", "<host>")}
}

// typesOf asks for the types of keys as a part of a pipeline.
func typesOf(ctx context.Context, p redis.Pipeliner, places []place) []*redis.StatusCmd {
	types := make([]*redis.StatusCmd, len(places))
	for i, at := range places {
		types[i] = p.Type(ctx, at.key)
	}
	return types
}

// judge returns those that are broken. One whose type Redis does not tell is not: whoever
// reads it finds out.
func judge(places []place, types []*redis.StatusCmd) (list []broken) {
	for i, at := range places {
		is := types[i].Val()
		row := slices.IndexFunc(tasks.Keys(), func(k tasks.KeyInfo) bool { return k.Name == at.name })
		if should := tasks.Keys()[row].Type; is != "" && is != "none" && is != should {
			list = append(list, broken{at.key, clip(is, mostShort), should})
		}
	}
	return list
}

// broken looks for broken keys. It costs one round trip.
func (s *Server) broken(ctx context.Context, places []place) []broken {
	var types []*redis.StatusCmd
	_, _ = s.cfg.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		types = typesOf(ctx, p, places)
		return nil
	})
	return judge(places, types)
}

// passing returns err unless it is about a key of another type, which is named elsewhere on
// the page.
func passing(err error) error {
	if isNone(err) {
		return nil
	}
	return err
}

// found takes the keys that are broken, and reports whether they are others than before.
func (c *contact) found(list []broken) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.broken
	c.broken = list
	return !slices.Equal(was, list)
}

// unreadable are those broken keys that pages of all kinds are made of.
func (c *contact) unreadable() []broken {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// rollBroken is why the roll can't be read, nil if it can as far as the types of keys go.
func (c *contact) rollBroken() error {
	for _, b := range c.unreadable() {
		if b.Key == tasks.KeyOnline || b.Key == tasks.KeyListeners {
			return b
		}
	}
	return nil
}
