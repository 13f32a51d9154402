package worker

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/tasks"
)

const (
	preparingAgain = time.Second // when a set is looked at again that is not open yet
	// recoveringAgain is when a set is looked at again while listeners have yet to say,
	// after an outage of Redis, that they are there: their hosts would pass for offline.
	recoveringAgain = 500 * time.Millisecond
	// waitingAgain is how often it is looked whether hosts that a set waits for are
	// online. Listeners say when one comes; this finds those of whom it was not heard.
	waitingAgain = 30 * time.Second
)

// redeliverer looks after the sets on the agenda {muster}:due: it tells again who has
// not answered, ends who has been told often enough, and has agents end what was
// cancelled.
//
// Whom a further send goes to:
//
//	agent, online        by UDP, and over its connection
//	old client, online   by UDP if it asked for it (RCC 3), or with RedeliverOld if it
//	                     speaks JSON: it runs a number as often as it is told
//	offline              nobody: its sends pass
type redeliverer struct {
	*dispatcher
	redeliverOld bool
	retryAfter   time.Duration // of cancellations; those of sends are the set's own
	attempts     int
}

// tend looks after one set and returns when it is to be looked after again; zero when
// nothing is left to do but at its deadline.
func (r *redeliverer) tend(ctx context.Context, now time.Time, member string) (time.Time, error) {
	n := tasks.Number(member)
	l, err := r.store.Ledger(ctx, n)
	switch {
	case errors.Is(err, tasks.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, err
	case !l.Cancelled.IsZero():
		return r.cancel(ctx, now, l)
	case l.Stage == tasks.Closed || !now.Before(l.Deadline):
		return time.Time{}, nil
	case l.Stage == tasks.Preparing:
		return now.Add(preparingAgain), nil
	}
	if r.recovering() {
		if running, all, err := r.listeners(ctx); err != nil || running < all {
			return now.Add(recoveringAgain), err
		}
	}
	var next time.Time
	if l.Counts[tasks.Sent] > 0 {
		if next, err = r.sendAgain(ctx, l); err != nil {
			return next, err
		}
		if l, err = r.store.Ledger(ctx, n); err != nil {
			return next, err
		}
		if next.IsZero() && l.Counts[tasks.Sent] > 0 {
			next = now.Add(preparingAgain) // the scan has passed some over
		}
	}
	if l.Counts[tasks.Waiting] > 0 {
		if err := r.lookForWaiting(ctx, n); err != nil {
			return next, err
		}
		next = sooner(next, now.Add(waitingAgain))
	}
	return next, nil
}

// sendAgain tells those that are due, and ends those that have used up their sends. It
// returns when the next one is due.
func (r *redeliverer) sendAgain(ctx context.Context, l tasks.Ledger) (next time.Time, err error) {
	view, err := r.roll.View(ctx)
	if err != nil {
		return next, err
	}
	var out courier
	err = r.store.Awaiting(ctx, l.Number, func(hosts []string) error {
		again, err := r.store.CountSends(ctx, l.Number, hosts)
		if err != nil {
			return err
		}
		next = sooner(next, again.Next)
		places, err := view.Locate(ctx, append(again.Send, again.Asked...))
		if err != nil {
			return err
		}
		for i, p := range places {
			asked := i >= len(again.Send)
			if p.Online && (p.Agent() || asked || r.redeliverOld && p.Client == "json") {
				out.add(p)
			}
		}
		return r.giveUp(ctx, l, again.Spent)
	})
	// What is counted is sent, also if a later page failed.
	datagrams := r.send(l.Number, out.targets, &r.stats.Again)
	if datagrams > 0 {
		r.log.WithFields(logrus.Fields{
			"task": string(l.Number), "request": l.Request, "datagrams": datagrams,
		}).Info("task number sent again")
	}
	return next, errors.Join(err, r.push(ctx, tasks.PushStart, l.Number, out.agents))
}

// giveUp ends hosts that have used up their sends. That is recorded first: an event may
// come twice, but none is lost.
func (r *redeliverer) giveUp(ctx context.Context, l tasks.Ledger, hosts []string) error {
	if len(hosts) == 0 {
		return nil
	}
	events := make([]tasks.Event, len(hosts))
	for i, h := range hosts {
		events[i] = tasks.Event{Type: "task.unanswered", Key: l.Number, Request: l.Request, Host: h}
	}
	if err := tasks.RecordAll(ctx, r.rdb, events); err != nil {
		return err
	}
	r.log.WithFields(logrus.Fields{"task": string(l.Number), "request": l.Request, "hosts": len(hosts)}).Info("hosts have not answered")
	return r.store.GiveUp(ctx, l.Number, hosts)
}

// cancel finishes a cancellation and has the agents told of it: as often as a number is
// sent, since what goes over a connection just then breaking is lost. An agent that is
// not connected finds it out when it is again.
func (r *redeliverer) cancel(ctx context.Context, now time.Time, l tasks.Ledger) (time.Time, error) {
	if err := r.store.FinishCancel(ctx, l.Number); err != nil {
		return time.Time{}, err
	}
	view, err := r.roll.View(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var out courier
	err = r.store.Hosts(ctx, l.Number, func(hosts []tasks.HostState) error {
		var names []string
		for _, h := range hosts {
			if h.State != tasks.Done && h.State != tasks.Failed {
				names = append(names, h.Host)
			}
		}
		for len(names) > 0 {
			part := names[:min(len(names), tasks.Chunk)]
			names = names[len(part):]
			places, err := view.Locate(ctx, part)
			if err != nil {
				return err
			}
			for _, p := range places {
				if p.Online {
					out.add(p)
				}
			}
		}
		return nil
	})
	if err == nil {
		err = r.push(ctx, tasks.PushCancel, l.Number, out.agents)
	}
	return r.cancelAgain(now, l), err
}

// cancelAgain is when agents are told of a cancellation again, zero if they are not.
func (r *redeliverer) cancelAgain(now time.Time, l tasks.Ledger) time.Time {
	at, wait := l.Cancelled, r.retryAfter
	for range r.attempts - 1 {
		if at = at.Add(wait); at.After(now) {
			return at
		}
		wait *= 2
	}
	return time.Time{}
}

// push has agents told over their connections, by the listeners that hold these.
func (d *dispatcher) push(ctx context.Context, action tasks.PushAction, n tasks.Number, agents map[string][]string) error {
	for listener, hosts := range agents {
		if err := d.roll.Push(ctx, listener, tasks.Push{Action: action, Number: n, Hosts: hosts}); err != nil {
			return err
		}
		count := &d.stats.PushedStart
		if action == tasks.PushCancel {
			count = &d.stats.PushedCancel
		}
		count.Add(int64(len(hosts)))
	}
	return nil
}

// courier gathers hosts that are to be told.
type courier struct {
	targets []netip.AddrPort
	agents  map[string][]string // by the listener that holds them
}

func (c *courier) add(p tasks.Presence) {
	c.targets = append(c.targets, p.Addr)
	if !p.Agent() {
		return
	}
	if c.agents == nil {
		c.agents = map[string][]string{}
	}
	c.agents[p.Listener] = append(c.agents[p.Listener], p.Host)
}

// sooner returns the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
