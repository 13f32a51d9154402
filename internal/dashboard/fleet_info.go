package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/tasks"
)

const (
	// infoChunk is how many hosts are asked for at once. A host can have told of itself
	// 1 MiB at most.
	infoChunk  = 100
	infoPause  = 500 * time.Millisecond // between two chunks of what is read for no reason
	infoEvery  = 5 * time.Minute        // what has no other reason is read so often
	infoShown  = 10 * time.Second       // what is on somebody's page is read again after it
	mostAwaits = 200_000                // hosts that are to be read again
)

// What is kept of a host, in bytes. Its own page shows all of it.
const (
	mostName  = 256
	mostShort = 64
	mostIPs   = 16
	mostTags  = 1024 // together
)

// infosAgain is when a host that has come online is read again: it tells of itself a
// moment after it has connected.
var infosAgain = [...]time.Duration{2 * time.Second, 10 * time.Second} // never changes

// infoQueue is whose information is to be read.
type infoQueue struct {
	mu    sync.Mutex
	now   []string
	there map[string]bool // what is in now
	later [len(infosAgain)][]timed
	wake  chan struct{}
}

type timed struct {
	id string
	at time.Time
}

func newInfoQueue() infoQueue {
	return infoQueue{there: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// want has hosts read soon.
func (q *infoQueue) want(ids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		q.wantLocked(id)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *infoQueue) wantLocked(id string) {
	if !q.there[id] {
		q.there[id] = true
		q.now = append(q.now, id)
	}
}

// wantAgain has a host read soon and again a little later.
func (q *infoQueue) wantAgain(id string) {
	q.want(id)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, wait := range infosAgain {
		if len(q.later[i]) < mostAwaits {
			q.later[i] = append(q.later[i], timed{id, time.Now().Add(wait)})
		}
	}
}

// take returns those that are due, at most so many.
func (q *infoQueue) take(most int) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for i, list := range q.later {
		due := 0
		for due < len(list) && !list[due].at.After(now) {
			q.wantLocked(list[due].id)
			due++
		}
		if q.later[i] = list[due:]; len(q.later[i]) == 0 {
			q.later[i] = nil
		}
	}
	n := min(most, len(q.now))
	ids := slices.Clone(q.now[:n])
	if q.now = q.now[n:]; len(q.now) == 0 {
		q.now = nil
	}
	for _, id := range ids {
		delete(q.there, id)
	}
	return ids
}

// readInfos reads what hosts tell of themselves: soon for those that have come, that
// are on somebody's page or were never read, and now and then for the others while anybody
// looks at any page.
func (f *fleet) readInfos(ctx context.Context) error {
	tick := time.NewTicker(infoPause)
	defer tick.Stop()
	var round infoRound
	fails := failures{log: f.fails.log}
	for ctx.Err() == nil {
		ids := f.infos.take(infoChunk)
		if len(ids) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-f.infos.wake:
				continue
			case <-tick.C:
			}
			if ids = f.infos.take(infoChunk); len(ids) == 0 {
				ids = round.next(f)
			}
		}
		if len(ids) == 0 {
			continue
		}
		err := f.readInfo(ctx, ids)
		if fails.seen(err, "what hosts tell of themselves can't be read, trying on"); err == nil {
			continue
		}
		f.infos.want(ids...)
		pause.For(ctx, time.Second)
	}
	return nil
}

// infoRound goes round all hosts.
type infoRound struct {
	rest  []string
	began time.Time
}

// next returns the next hosts of the round, none while nobody looks at any page: the round
// goes on when somebody does.
func (r *infoRound) next(f *fleet) []string {
	if !f.watched() {
		return nil
	}
	if len(r.rest) == 0 && time.Since(r.began) > infoEvery {
		r.rest, r.began = f.ids(), time.Now()
	}
	n := min(infoChunk, len(r.rest))
	ids := r.rest[:n]
	r.rest = r.rest[n:]
	return ids
}

// shown says that hosts are on somebody's page.
func (f *fleet) shown(hosts []*host) {
	var old []string
	limit := time.Now().Add(-infoShown).UnixMilli()
	for _, h := range hosts {
		if h.info != nil && h.info.read.Load() < limit {
			old = append(old, h.id)
		}
	}
	if len(old) > 0 {
		f.infos.want(old...)
	}
}

// readInfo reads what hosts tell of themselves, in one round trip.
func (f *fleet) readInfo(ctx context.Context, ids []string) error {
	fields := make([]*redis.SliceCmd, len(ids))
	addrs := make([]*redis.StringSliceCmd, len(ids))
	_, _ = f.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			fields[i] = p.HMGet(ctx, tasks.KeyHost(id, "info"), "hostname", "os", "arch", "version", "tags")
			addrs[i] = p.LRange(ctx, tasks.KeyHost(id, "ipv4"), 0, mostIPs-1)
		}
		return nil
	})
	for i := range ids { // a key of another type is none
		for _, err := range []error{fields[i].Err(), addrs[i].Err()} {
			if script.Transient(err) {
				return err
			}
		}
	}
	f.contact.answered()
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := []string{"roll"}
	for i, id := range ids {
		h := f.hosts[id]
		if h == nil {
			continue
		}
		n := newInfo(fields[i].Val(), addrs[i].Val())
		if h.info != nil && h.info.equal(n) {
			h.info.read.Store(time.Now().UnixMilli())
			continue
		}
		next := *h
		next.info = n
		next.hay = next.searched()
		f.putLocked(&next)
		changed = append(changed, "host:"+id)
	}
	if len(changed) > 1 {
		f.touch(changed...)
	}
	return nil
}

// isNone reports whether err means that there is nothing of the kind that was asked for,
// as of a key of another type. That Redis can't tell now, or not to us, is no such answer.
func isNone(err error) bool { return isReply(err) && !script.Transient(err) }

// isReply reports whether Redis itself has said err: it is not away.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func newInfo(fields []any, ipv4 []string) *info {
	field := func(i, most int) string {
		if i >= len(fields) {
			return ""
		}
		s, _ := fields[i].(string)
		return strings.Clone(clip(s, most))
	}
	short := func(i int) unique.Handle[string] { return unique.Make(field(i, mostShort)) }
	n := &info{hostname: field(0, mostName), os: short(1), arch: short(2), version: short(3), read: new(atomic.Int64)}
	for _, ip := range ipv4 {
		n.ipv4 = append(n.ipv4, strings.Clone(clip(ip, mostShort)))
	}
	if len(fields) > 4 {
		text, _ := fields[4].(string)
		n.tags = parseTags(text)
	}
	n.read.Store(time.Now().UnixMilli())
	return n
}

func (i *info) equal(o *info) bool {
	return i.hostname == o.hostname && i.os == o.os && i.arch == o.arch && i.version == o.version &&
		slices.Equal(i.ipv4, o.ipv4) && slices.Equal(i.tags, o.tags)
}

// parseTags reads tags as they stand in a host's information, an object of strings, as
// name=value in order. Those that are too much are left out.
func parseTags(text string) (tags []string) {
	var all map[string]string
	if text == "" || json.Unmarshal([]byte(text), &all) != nil {
		return nil
	}
	for name, value := range all {
		tags = append(tags, name+"="+value)
	}
	slices.Sort(tags)
	size := 0
	for i, t := range tags {
		if size += len(t); size > mostTags {
			if i == 0 {
				return []string{strings.Clone(clip(t, mostTags))}
			}
			return slices.Clone(tags[:i])
		}
	}
	return tags
}
