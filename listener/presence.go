package listener

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/wire"
)

// change is something that happened to a host here and is to be written: a change of
// presence, what it told of itself, or that it was refused.
type change struct {
	kind    tasks.ChangeKind // empty for info and for duplicate
	ss      *session
	at      time.Time // On: when it connected
	reason  string    // Off
	answer  chan joined
	info    *tasks.HostInfo
	refused bool // another instance is connected here
}

// joined is what the roll says to an agent that has said hello.
type joined struct {
	now     time.Time // Redis's clock
	refused string    // the reason; empty if it is let in
}

// About what a change takes in memory. One that says that a host has connected also
// keeps the session, which may have ended long before Redis is back.
const (
	changeSize = 200
	onSize     = 1200
)

// lateAfter is how long a connection counts as a host's newest before Redis has it.
// The host of one that comes later may have another elsewhere: agents give up after
// 30 s, and what is under way in the network may be older than it looks here.
const lateAfter = 5 * time.Second

func (s *Server) putOn(ss *session, answer chan joined) {
	s.changes.put(change{kind: tasks.On, ss: ss, at: time.Now(), answer: answer}, onSize)
}

func (s *Server) putOff(ss *session, reason string) {
	s.changes.put(change{kind: tasks.Off, ss: ss, reason: reason}, changeSize)
}

func (s *Server) putDuplicate(ss *session) {
	s.changes.put(change{ss: ss, refused: true}, changeSize)
}

func (s *Server) offerInfo(ctx context.Context, ss *session, m wire.Info, size int) error {
	fields := map[string]string{"hostname": m.Hostname, "mac": m.MAC}
	for name, value := range map[string]string{"os": m.OS, "arch": m.Arch, "version": m.Version} {
		if value != "" {
			fields[name] = value
		}
	}
	if len(m.Tags) > 0 {
		tags, _ := json.Marshal(m.Tags) // strings always have a JSON form
		fields["tags"] = string(tags)
	}
	info := &tasks.HostInfo{Host: ss.host, Fields: fields, IPv4: m.IPv4}
	return s.changes.offer(ctx, change{ss: ss, info: info}, changeSize+size)
}

// writeChanges writes a batch. A change of presence that follows information of the
// same host begins a new part: within a part presence is written first.
func (s *Server) writeChanges(ctx context.Context, batch []change) {
	for len(batch) > 0 {
		informed := map[string]bool{}
		end := 0
		for end < len(batch) && (batch[end].kind == "" || !informed[batch[end].ss.host]) {
			if batch[end].info != nil {
				informed[batch[end].ss.host] = true
			}
			end++
		}
		s.writePart(ctx, batch[:end])
		// A later part that is cut short must not have this one written again: a departure
		// counts once.
		s.changes.settled(end)
		batch = batch[end:]
	}
}

func (s *Server) writePart(ctx context.Context, part []change) {
	var presence []change
	var infos []tasks.HostInfo
	for _, c := range part {
		switch {
		case c.kind != "":
			presence = append(presence, c)
		case c.info != nil:
			infos = append(infos, *c.info)
		case c.refused:
			s.recordDuplicate(ctx, c.ss)
		}
	}
	s.writePresence(ctx, presence, infos)
	for _, c := range presence {
		if c.kind == tasks.Off {
			s.members.departed(c.ss.host)
		}
	}
}

// writePresence writes changes of presence, and then what hosts told of themselves.
func (s *Server) writePresence(ctx context.Context, presence []change, infos []tasks.HostInfo) {
	var changed []tasks.Changed
	var now time.Time
	s.insist(ctx, "presence not written", func() (err error) {
		changed, now, err = s.roll.Apply(ctx, s.cfg.ID, s.asOfNow(presence))
		return err
	})
	if len(changed) != len(presence) {
		// This listener stops, and its lease will end; or the roll itself is broken.
		for _, c := range presence {
			c.reply(joined{now, "the roll can't be written"})
		}
		return
	}
	if len(changed) > 0 {
		s.clock.set(now)
	}
	var departures []tasks.Departure
	for i, c := range presence {
		departures = append(departures, s.settle(c, changed[i], now)...)
	}
	s.noteArrivals(presence, changed)
	s.insist(ctx, "keys of hosts not written", func() error {
		return s.roll.Depart(ctx, s.cfg.OfflineDelete, departures, infos)
	})
}

// asOfNow is the changes as they are to be tried now. While Redis was away, or this
// process asleep, a host may have connected elsewhere, and must not be taken from there:
// a connection that has ended is not its newest any more, and one that Redis gets to
// know late is not either.
func (s *Server) asOfNow(presence []change) []tasks.Change {
	changes := make([]tasks.Change, len(presence))
	for i, c := range presence {
		changes[i] = tasks.Change{Kind: c.kind, Host: c.ss.host, Addr: c.ss.addr, Client: c.ss.client}
		if c.kind != tasks.On {
			continue
		}
		changes[i].Until = s.clock.of(c.at).Add(s.pace.late)
		if c.ss.isClosed() {
			changes[i].Kind = tasks.Hold
		}
	}
	return changes
}

// clock knows the time by Redis's clock. It is never ahead of it, but for what the two
// clocks differ in speed since Redis last told its time.
type clock struct{ redis, here time.Time }

// set says that it was now by Redis's clock some moment before.
func (c *clock) set(now time.Time) { c.redis, c.here = now, time.Now() }

// of is what Redis's clock showed at a moment of this machine's.
func (c *clock) of(t time.Time) time.Time { return c.redis.Add(t.Sub(c.here)) }

// reply answers an agent that has said hello. It never waits: one answer is enough,
// and the first counts.
func (c change) reply(j joined) {
	if c.answer == nil {
		return
	}
	select {
	case c.answer <- j:
	default:
	}
}

// settle does what the roll's verdict on a change asks for.
func (s *Server) settle(c change, got tasks.Changed, now time.Time) []tasks.Departure {
	log := s.log.WithField("host", c.ss.host)
	if c.ss.client != "" { // empty for a host that stood on the roll without a connection
		log = log.WithFields(logrus.Fields{"client": c.ss.client, "addr": c.ss.addr.String()})
	}
	switch got.Verdict {
	case tasks.CameOn:
		log.Info("host online")
		if c.kind == tasks.Hold {
			// The roll had lost it, and so perhaps what it told of itself.
			s.push(c.ss.host, wire.Push{Action: wire.ActionInfo})
		}
	case tasks.WentOff:
		log.WithField("reason", c.reason).Info("host offline")
		return []tasks.Departure{{Host: c.ss.host, When: got.When, Reason: c.reason}}
	case tasks.Refused:
		if c.answer == nil {
			c.ss.close("connected to " + got.Holder)
			return nil
		}
		reason := "another instance of this id is connected to " + got.Holder
		if time.Since(c.at) > s.pace.late {
			reason = "it is connected to " + got.Holder + " by now"
		}
		c.reply(joined{now, reason})
		return nil
	}
	c.reply(joined{now: now})
	return nil
}

func (s *Server) recordDuplicate(ctx context.Context, ss *session) {
	s.insist(ctx, "event not recorded", func() error {
		return tasks.Record(ctx, s.cfg.Redis, tasks.Event{
			Type: "host.duplicate", Host: ss.host, Reason: "another instance is connected to " + s.cfg.ID,
			More: map[string]string{"listener": s.cfg.ID},
		})
	})
}

// insist tries until it works, ctx ends, or Redis says that it never will. failed is
// what the log then says, different for each part of the work.
func (s *Server) insist(ctx context.Context, failed string, try func() error) {
	const least, most = 50 * time.Millisecond, 2 * time.Second
	for pause := least; ; pause = min(2*pause, most) {
		err := try()
		if err == nil {
			s.redisUp.Works(failed)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !script.Transient(err) {
			s.redisUp.Works(failed)
			s.log.WithError(err).Error(failed)
			s.stats.Failed.Add(1)
			return
		}
		s.redisFailed(failed, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
