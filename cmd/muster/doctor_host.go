package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/tasks"
)

const (
	// noOperation is a command that does nothing in sh and in cmd.
	noOperation = "exit 0"
	doctorPoll  = 20 * time.Millisecond
)

// reached is how far a host was reached.
type reached struct {
	tasks.Presence
	state tasks.State   // the last one that was seen; empty if the set was not written
	sends int           // how often it was told before it answered, or until now
	took  time.Duration // from the request to its answer; 0 without one
}

// lookAtNamed has each named host told a task number by UDP, as every dispatch does, and
// looks whether it answers, and to which send.
func (d *doctor) lookAtNamed(ctx context.Context) []finding {
	if len(d.hosts) == 0 {
		return nil
	}
	if d.rdb == nil {
		return d.ofHosts(d.hosts, finding{mark: markUnknown, found: withoutRedis})
	}
	view, err := tasks.NewRoll(d.rdb).View(ctx)
	if err != nil {
		return d.ofHosts(d.hosts, failed(err))
	}
	var online []*reached
	var all []finding
	err = view.LocateAll(ctx, d.hosts, func(page []tasks.Presence) error {
		for _, h := range page {
			if h.Online {
				online = append(online, &reached{Presence: h, sends: 1})
				continue
			}
			f := fail("it is offline").to("start its agent: muster agent --server HOST:PORT of a listener --id %s; muster events shows when it went", h.Host)
			f.ends = statusAbsent
			all = append(all, d.ofHosts([]string{h.Host}, f)...)
		}
		return nil
	})
	switch {
	case err != nil:
		return d.ofHosts(d.hosts, failed(err))
	case len(online) == 0:
		return all
	}
	names := namesOf(online)
	if d.noWorker {
		return append(all, d.ofHosts(names, finding{mark: markUnknown, found: "online, and not told of anything: no worker runs"})...)
	}
	number, err := d.reach(ctx, online)
	if err != nil {
		return append(all, d.ofHosts(names, failed(err))...)
	}
	for _, h := range online {
		all = append(all, d.ofHosts([]string{h.Host}, h.finding(number, d.patience))...)
	}
	return all
}

// ofHosts says f of each of hosts.
func (d *doctor) ofHosts(hosts []string, f finding) (all []finding) {
	f.check = "host"
	for _, h := range hosts {
		f.host = h
		all = append(all, f)
	}
	return all
}

// reach dispatches a command that does nothing to hosts, and watches the ledger until all
// have ended or the time is over. What is open then is cancelled.
func (d *doctor) reach(ctx context.Context, hosts []*reached) (tasks.Number, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	began := time.Now()
	request, err := tasks.NewClient(d.rdb).Submit(ctx, tasks.Request{
		Hosts: namesOf(hosts), Commands: []tasks.Command{{Line: noOperation}}, Timeout: time.Minute,
		Deadline: min(d.patience.Truncate(time.Second)+time.Minute, tasks.MaxSpan),
	})
	if err != nil {
		return "", err
	}
	number := tasks.NumberFor(request)
	store := tasks.NewStore(d.rdb, tasks.StoreConfig{})
	for open := true; open && ctx.Err() == nil; pause.For(ctx, doctorPoll) {
		for part := range slices.Chunk(hosts, tasks.Chunk) {
			progress, err := store.Progress(ctx, number, namesOf(part))
			if err != nil && ctx.Err() == nil {
				return number, err
			}
			for i, p := range progress {
				part[i].note(p.State, p.Sends, time.Since(began))
			}
		}
		open = slices.ContainsFunc(hosts, func(h *reached) bool { return h.state == "" || h.state.Open() })
	}
	if slices.ContainsFunc(hosts, func(h *reached) bool { return h.state.Open() }) {
		last, done := context.WithTimeout(context.WithoutCancel(ctx), knock)
		defer done()
		if err := store.Cancel(last, number); err != nil && !errors.Is(err, tasks.ErrClosed) {
			return number, err
		}
	}
	return number, nil
}

func namesOf(hosts []*reached) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Host
	}
	return names
}

// note takes in what the ledger says of a host. sends is how many were counted, which the
// first alone is not.
func (h *reached) note(state tasks.State, sends int, since time.Duration) {
	if h.took > 0 {
		h.state = state
		return
	}
	h.sends = max(h.sends, sends)
	h.state = state
	switch state {
	case "", tasks.Sent, tasks.Waiting, tasks.Offline, tasks.Unanswered, tasks.Cancelled:
	default:
		h.took = since
	}
}

// finding says what it comes to.
func (h *reached) finding(number tasks.Number, patience time.Duration) finding {
	absent := func(f finding) finding { f.ends = statusAbsent; return f }
	again := fmt.Sprintf("told %s by UDP at %s", times(h.sends), h.Addr)
	switch {
	case h.state == "":
		return fail("no worker has taken the request within %v", patience).to("see the check jobs, and the workers' logs")
	case h.state == tasks.Offline:
		return absent(fail("it has just gone offline").to("muster events says why"))
	case h.state == tasks.Missing:
		return absent(fail("UDP reaches it at %s, and it does not find the task number where it looks", h.Addr).
			to("its --redis names another Redis: give it the one of the workers, or none, and it asks its listener"))
	case h.took == 0 && h.Agent():
		return absent(fail("no answer within %v, %s", patience, again).
			to("see the agent's log and muster status %s; if it was told only once, wait for more with --wait-timeout 60s", number))
	case h.took == 0:
		return absent(fail("no answer within %v, %s: an old client, which answers by its report only", patience, again).
			to("open UDP port %d of it to the workers, and see what the client does", h.Addr.Port()))
	case h.sends > 1 && h.Agent():
		return warn("UDP does not reach it at %s, the TCP connection does: it answered when told the %s time, after %v", h.Addr, ordinal(h.sends), short(h.took)).
			to("open UDP port %d of it to the workers: until then each dispatch is late by the workers' --retry-after", h.Addr.Port())
	case h.sends > 1:
		return warn("it answered when told the %s time, after %v: datagrams to %s get lost", ordinal(h.sends), short(h.took), h.Addr).
			to("see what is lost between the workers and UDP port %d of it", h.Addr.Port())
	case h.state == tasks.Failed:
		return warn("UDP reaches it at %s, it answered after %v, and %s has failed there", h.Addr, short(h.took), noOperation).
			to("muster results %s --host %s", number, h.Host)
	case !h.Agent():
		return fine("UDP reaches it at %s, its report came after %v (an old client)", h.Addr, short(h.took))
	}
	return fine("UDP reaches it at %s, it answered after %v", h.Addr, short(h.took))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func ordinal(n int) string {
	switch n {
	case 2:
		return "second"
	case 3:
		return "third"
	}
	return fmt.Sprintf("%dth", n)
}
