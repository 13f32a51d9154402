package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/internal/script"
	"github.com/musterhq/muster/internal/supervise"
	"github.com/musterhq/muster/tasks"
)

// dispatcher carries out jobs. Any number of runs, of one job too, go side by side.
type dispatcher struct {
	rdb     redis.UniversalClient
	store   *tasks.Store
	roll    *tasks.Roll
	socket  emitter
	arrived *tasks.Agenda
	udpPort uint16
	log     logrus.FieldLogger
	stats   *Stats

	// recovering reports whether Redis was away a moment ago.
	recovering func() bool
	answerIn   time.Duration // how long listeners that were called have to answer
	emptied    emptied
	doubt      doubt

	// after is called when a step is done; an error cuts the run short there. Only
	// tests set it.
	after func(step string) error
}

// rejection is the end of a job whose request is no good. Its text is what the
// archived job shows.
type rejection struct {
	key    tasks.Number // empty if it is not known
	reason string
	logged string // the reason without what may be of a command
}

func (r *rejection) Error() string { return r.reason }

// Unwrap tells the queue that no retry can mend it.
func (r *rejection) Unwrap() error { return asynq.SkipRetry }

// setback is a failure that another try may mend. Its text goes into the queue,
// which takes UTF-8 only: a job that it can't store it could not give up either.
type setback struct{ err error }

func (s *setback) Error() string { return tasks.Printable(s.err.Error()) }
func (s *setback) Unwrap() error { return s.err }

// ProcessTask runs one job. It returns nil when all of it is done, also by another
// run; a rejection when the request is no good, and that is recorded; and any other
// error when the job is to be tried again.
func (d *dispatcher) ProcessTask(ctx context.Context, t *asynq.Task) error {
	request, _ := asynq.GetTaskID(ctx)
	tried, _ := asynq.GetRetryCount(ctx)
	most, limited := asynq.GetMaxRetry(ctx)
	return d.run(ctx, request, t, limited && tried >= most)
}

// run is ProcessTask for a request. With last there is no further try, and any
// failure rejects the request: nothing ends in silence.
func (d *dispatcher) run(ctx context.Context, request string, t *asynq.Task, last bool) error {
	var r tasks.Request
	err := supervise.Safely(func() (err error) {
		if r, err = judge(request, t); err != nil {
			return err
		}
		return d.dispatch(ctx, request, r)
	})
	if err == nil {
		return nil
	}
	if !last && !hopeless(err) || ctx.Err() != nil {
		return &setback{err}
	}
	no := &rejection{key: r.Key, reason: tasks.Printable(err.Error()), logged: tasks.Printable(discreet(err))}
	if no.key == "" {
		no.key = keyOf(t.Payload())
	}
	e := tasks.Event{Type: "request.rejected", Key: no.key, Request: request, Reason: no.reason}
	if err := tasks.Record(ctx, d.rdb, e); err != nil {
		return &setback{err}
	}
	d.stats.Rejected.Add(1)
	return no
}

// logFailure logs a run of a job that did not succeed.
func (d *dispatcher) logFailure(ctx context.Context, _ *asynq.Task, err error) {
	request, _ := asynq.GetTaskID(ctx)
	log := d.log.WithField("request", request)
	var no *rejection
	if errors.As(err, &no) {
		log.WithFields(logrus.Fields{"task": string(no.key), "reason": no.logged}).Warn("request rejected")
		return
	}
	log.WithError(err).Warn("dispatch was cut short, it will be tried again")
	supervise.LogStack(log, err)
}

// judge reads the request of a job. One without a number is given its own.
func judge(request string, t *asynq.Task) (tasks.Request, error) {
	if t.Type() != tasks.JobType {
		return tasks.Request{}, &tasks.InvalidError{Reason: fmt.Sprintf("a job of type %.100q, want %q", t.Type(), tasks.JobType)}
	}
	if reason, refused := t.Headers()[headerRefused]; refused {
		return tasks.Request{}, &tasks.InvalidError{Reason: reason}
	}
	r, err := tasks.ParseRequest(t.Payload())
	if err == nil && r.Key == "" {
		r.Key = tasks.NumberFor(request)
	}
	return r, err
}

// quoted is a text in quotes, also one that was cut before its end.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*(?:"|\\?$)`)

// discreet is what a log may say of why a request is no good. Of commands it repeats
// nothing, since there may be a password in one; the event and the job have it all.
func discreet(err error) string {
	var invalid *tasks.InvalidError
	if !errors.As(err, &invalid) {
		return err.Error()
	}
	hidden := quoted.ReplaceAllString(invalid.Reason, `"..."`)
	switch invalid.Field {
	case "key", "offline", "timeout_s", "deadline_s":
		return invalid.Error()
	case "commands", "hosts", "signature":
		return invalid.Field + ": " + hidden
	case "":
		return hidden
	}
	return "a field that requests do not have: " + hidden
}

// hopeless reports whether err will be the same at every try: the request is no
// good, or Redis refuses it (a key of the set is of a type of someone else's).
func hopeless(err error) bool {
	var invalid *tasks.InvalidError
	if errors.As(err, &invalid) || errors.Is(err, tasks.ErrInUse) {
		return true
	}
	var reply redis.Error
	return errors.As(err, &reply) && !errors.Is(err, redis.Nil) && !script.Transient(err)
}

// keyOf is the number that a bad request names, empty if none can be made out.
func keyOf(payload []byte) tasks.Number {
	var named struct{ Key string }
	if json.Unmarshal(payload, &named) != nil {
		return ""
	}
	n, err := tasks.ParseNumber(named.Key)
	if err != nil {
		return ""
	}
	return n
}

// dispatch carries out a good request, or goes on where an earlier run was cut
// short:
//
//	preparing ── enlist ──> open ── tell ──> (answers) ──> closed
//
// The one run that opens the set tells everyone. Another run tells agents only,
// which run a number once however often they are told.
func (d *dispatcher) dispatch(ctx context.Context, request string, r tasks.Request) error {
	set, err := d.store.Prepare(ctx, request, r)
	if err != nil {
		return err
	}
	if err := d.done("prepare"); err != nil {
		return err
	}
	var offline []netip.AddrPort
	if set.Stage == tasks.Preparing {
		if offline, err = d.enlist(ctx, r, set.Deadline); err != nil {
			return err
		}
		// Before it is opened: a set that has nobody to wait for is closed with that.
		if err := d.recordAccepted(ctx, request, r.Key); err != nil {
			return err
		}
	}
	opened, err := d.store.Open(ctx, r.Key)
	if err != nil && !opened {
		return err
	}
	if opened {
		d.stats.Accepted.Add(1)
	} else {
		d.stats.Repeated.Add(1)
	}
	if err := d.done("open"); err != nil {
		return err
	}
	return d.deliver(ctx, request, r.Key, opened, offline)
}

// deliver tells the hosts of a set that is open, and records it. The run that opened
// the set will not find itself in that place again, so it bears with a Redis that is
// away for some seconds.
//
// A run that did not open the set records again what the one that did may not have
// come to: these events come at least once.
func (d *dispatcher) deliver(ctx context.Context, request string, n tasks.Number, opened bool, offline []netip.AddrPort) error {
	var l tasks.Ledger
	err := d.insist(ctx, func() (err error) {
		l, err = d.store.Ledger(ctx, n)
		return err
	})
	if err != nil {
		return err
	}
	if !l.Cancelled.IsZero() {
		return d.insist(ctx, func() error { return d.store.FinishCancel(ctx, n) })
	}
	if l.Stage == tasks.Closed {
		// Opening it again changes nothing; if its end is not announced, it is now.
		if err := d.insist(ctx, func() error { _, err := d.store.Open(ctx, n); return err }); err != nil {
			return err
		}
	}
	datagrams := 0
	if l.Counts[tasks.Sent] > 0 {
		if datagrams, err = d.tell(ctx, n, opened); err != nil {
			return err
		}
	}
	if opened {
		datagrams += d.tellOffline(n, offline)
	}
	if l.Counts[tasks.Waiting] > 0 {
		// One that came online between the look at the roll and its entry as waiting was
		// not heard of.
		if err := d.insist(ctx, func() error { return d.lookForWaiting(ctx, n) }); err != nil {
			return err
		}
	}
	if err := d.done("tell"); err != nil {
		return err
	}
	d.log.WithFields(logrus.Fields{
		"task": string(n), "request": request, "total": l.Total, "datagrams": datagrams, "again": !opened,
	}).Info("task number sent")
	sent := tasks.Event{Type: "task.sent", Key: n, Request: request, More: map[string]string{"datagrams": strconv.Itoa(datagrams)}}
	return d.insist(ctx, func() error { return tasks.Record(ctx, d.rdb, sent) })
}

// recordAccepted records that a set is written, whole.
func (d *dispatcher) recordAccepted(ctx context.Context, request string, n tasks.Number) error {
	return d.insist(ctx, func() error {
		l, err := d.store.Ledger(ctx, n)
		if err != nil {
			return err
		}
		if err := tasks.Record(ctx, d.rdb, tasks.Event{Type: "task.accepted", Key: n, Request: request, Total: &l.Total}); err != nil {
			return err
		}
		d.log.WithFields(l.Fields()).Info("task set accepted")
		return nil
	})
}

const (
	insistFor   = 20 * time.Second // below the lease that the queue gives a job
	insistEvery = 250 * time.Millisecond
)

// insist runs f until it succeeds, or fails in a way that time does not mend.
func (d *dispatcher) insist(ctx context.Context, f func() error) error {
	for end := time.Now().Add(insistFor); ; pause.For(ctx, insistEvery) {
		err := f()
		if err == nil || ctx.Err() != nil || time.Now().After(end) ||
			errors.Is(err, tasks.ErrNotFound) || !script.Transient(err) {
			return err
		}
	}
}

func (d *dispatcher) done(step string) error {
	if d.after == nil {
		return nil
	}
	return d.after(step)
}

// errTakenOver says that the set is no longer being prepared: another run was
// quicker.
var errTakenOver = errors.New("prepared by another run")

// enlist writes the hosts of the request into the set, as sent, offline or waiting, by
// chunks. It returns where hosts that are offline can be told once all the same: those
// whose id is an IP address.
func (d *dispatcher) enlist(ctx context.Context, r tasks.Request, deadline time.Time) (offline []netip.AddrPort, err error) {
	view, err := d.view(ctx)
	if err != nil {
		return nil, err
	}
	chunk := make([]tasks.Enlisted, 0, tasks.Chunk)
	write := func(hosts []tasks.Presence) error {
		chunk = chunk[:0]
		var waiting []string
		for _, p := range hosts {
			e := tasks.Enlisted{Host: p.Host, State: tasks.Sent}
			if !p.Online && r.Offline == tasks.OfflineWait {
				e.State = tasks.Waiting
				waiting = append(waiting, p.Host)
			} else if !p.Online {
				e.State = tasks.Offline
				if to, ok := d.addressOf(p.Host); ok {
					offline = append(offline, to)
				}
			}
			chunk = append(chunk, e)
		}
		if len(waiting) > 0 {
			if err := d.store.Await(ctx, r.Key, deadline, waiting); err != nil {
				return err
			}
		}
		preparing, err := d.store.Enlist(ctx, r.Key, chunk)
		if err == nil && !preparing {
			err = errTakenOver
		}
		if err != nil {
			return err
		}
		return d.done("enlist")
	}
	if r.Hosts == nil {
		err = view.Each(ctx, write)
	} else {
		err = view.LocateAll(ctx, r.Hosts, write)
	}
	if errors.Is(err, errTakenOver) {
		return nil, nil
	}
	return offline, err
}

// addressOf is where a host is told whose id is an IP address, as it was in the old
// system.
func (d *dispatcher) addressOf(host string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, d.udpPort), true
}
