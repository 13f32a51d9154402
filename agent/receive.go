package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/pause"
	"github.com/musterhq/muster/wire"
)

// Limits of what the outside can make the agent do.
const (
	maxLookups     = 1024      // numbers looked up at the same time
	maxTells       = 16        // answers to one look-up; who is told more often answers as often as this
	maxAnswers     = 4096      // answers that wait for a connection
	garbledASecond = 10        // answers to unreadable datagrams
	maxCommands    = 1000      // in a set
	maxLine        = 8192      // bytes of a command
	maxLines       = 128 << 10 // bytes of all commands of a set, so that a report of them fits in a frame
	maxTimeoutS    = 604_800
	defaultTimeout = 600
)

// lookup is a number that is being looked up. Its fields are guarded by the
// agent's lock, but for the channel.
type lookup struct {
	tells     int             // how often it was told since the question that is under way
	cancelled bool            // since that question: its answer may be older than the cancel
	answers   chan wire.Found // holds one
}

// receive hears datagrams until the socket is closed.
func (a *Agent) receive(ctx context.Context) {
	buf := make([]byte, 64<<10) // Windows fails on what does not fit
	for {
		n, _, err := a.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			a.log.WithError(err).Warn("datagram not received")
			pause.For(ctx, time.Second)
			continue
		}
		number, err := wire.ParseDatagram(buf[:n])
		if err != nil {
			a.stats.Unreadable.Add(1)
			a.unreadable()
			continue
		}
		a.told(ctx, number)
	}
}

// unreadable asks for a datagram again. Without a connection nobody would: it is
// too late for that when there is one.
func (a *Agent) unreadable() {
	if a.session.Load() == nil || !a.garbled.allow(garbledASecond, time.Now()) {
		return
	}
	if err := a.say("", "", wire.RCCUnreadable, 1); err != nil {
		a.log.WithError(err).Error("answer not in the journal")
	}
}

// told takes up a number that a datagram or the listener has named.
func (a *Agent) told(ctx context.Context, number string) {
	a.stats.Told.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping || ctx.Err() != nil {
		return
	}
	if l := a.lookups[number]; l != nil {
		l.tells = min(l.tells+1, maxTells)
		return
	}
	if len(a.lookups) >= maxLookups {
		if a.crowded.allow(1, time.Now()) {
			a.log.WithField("task", number).Warn("too many look-ups under way, task number passed over")
		}
		return
	}
	l := &lookup{tells: 1, answers: make(chan wire.Found, 1)}
	a.lookups[number] = l
	a.work.Go(func() { a.lookUp(ctx, number, l) })
}

// lookUp looks number up until all who have told of it are answered.
func (a *Agent) lookUp(ctx context.Context, number string, l *lookup) {
	log := a.log.WithField("task", number)
	failing := false
	for {
		// Only those are answered who told before the question was put: who tells
		// later may mean a set that was made later.
		a.mu.Lock()
		tells := l.tells
		if tells == 0 {
			delete(a.lookups, number)
			a.mu.Unlock()
			return
		}
		l.tells, l.cancelled = 0, false
		a.mu.Unlock()

		found, err := a.find(ctx, log, number, l)
		if err == nil {
			err = a.take(ctx, log, found, tells, l)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failing = false
			continue
		}
		if !failing {
			log.WithError(err).Error("task set not taken up, it is tried again")
		}
		failing = true
		a.mu.Lock()
		l.tells = min(l.tells+tells, maxTells)
		a.mu.Unlock()
		pause.For(ctx, between(a.retryMin, a.retryMax))
	}
}

// find asks Redis or the listener for number until one has answered. The error is
// that of ctx.
func (a *Agent) find(ctx context.Context, log logrus.FieldLogger, number string, l *lookup) (wire.Found, error) {
	select {
	case <-l.answers: // to a question before this one
	default:
	}
	for failing := false; ; failing = true {
		wait := between(a.retryMin, a.retryMax)
		if a.cfg.Store != nil {
			found, err := a.cfg.Store.Find(ctx, number, a.cfg.ID)
			if err == nil {
				found.Task = number
				return found, nil
			}
			if !failing && ctx.Err() == nil {
				log.WithError(err).Warn("look-up without an answer, it is repeated")
			}
			if !pause.For(ctx, wait) {
				return wire.Found{}, ctx.Err()
			}
			continue
		}
		if s := a.session.Load(); s != nil {
			s.ask(wire.Lookup{Task: number})
		}
		t := time.NewTimer(wait)
		select {
		case found := <-l.answers:
			t.Stop()
			return found, nil
		case <-ctx.Done():
			t.Stop()
			return wire.Found{}, ctx.Err()
		case <-t.C:
		}
	}
}

// answered hands the listener's answer to who has asked for it.
func (a *Agent) answered(found wire.Found) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lookups[found.Task]; l != nil {
		select {
		case l.answers <- found:
		default:
		}
	}
	if answers := a.checks[found.Task]; answers != nil {
		answers <- checked{found, true} // it holds one for each number
		delete(a.checks, found.Task)
	}
}

// open returns the numbers for which the listener is asked.
func (a *Agent) open() []string {
	if a.cfg.Store != nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.Collect(maps.Keys(a.lookups))
	for number := range a.checks {
		if a.lookups[number] == nil {
			list = append(list, number)
		}
	}
	return list
}

// take answers who has told of a set, and takes the set up if its request is new.
func (a *Agent) take(ctx context.Context, log logrus.FieldLogger, found wire.Found, tells int, l *lookup) error {
	if found.Cancelled {
		a.cancel(found.Task)
		log.Info("task set was cancelled, nothing of it is run")
		return a.say(found.Task, "", wire.RCCReceived, tells)
	}
	if !found.Found {
		return a.say(found.Task, "", wire.RCCMissing, tells)
	}
	key := setKey{found.Task, found.Request}
	if _, known := a.journal.lookUp(key); known {
		return a.say(found.Task, found.Request, wire.RCCReceived, tells)
	}
	if a.clock.now() >= found.DeadlineMS {
		log.Info("deadline of the task set is past, nothing of it is run")
		return a.say(found.Task, found.Request, wire.RCCReceived, tells)
	}
	s, err := newSet(found)
	if err != nil {
		log.WithError(err).Error("task set refused")
		return nil // asking again brings the same
	}
	if a.journal.full() {
		return errors.New("too many reports wait for their confirmation")
	}
	s.Cancelled = a.cancelledMeanwhile(l)
	kept := s // the journal's own, from here on
	recs := append([]record{{Kind: kindAccept, Number: s.Number, Request: s.Request, Set: &kept}},
		answers(s.Number, s.Request, wire.RCCReceived, tells)...)
	recs = append(recs, record{Kind: kindStatus, Number: s.Number, Request: s.Request,
		message: wire.Status{Task: s.Number, Phase: wire.PhaseReceived, Lists: true, OnCall: s.Commands}})
	if err := a.journal.append(recs...); err != nil {
		return err
	}
	log.WithField("commands", len(s.Commands)).Info("task set taken up")
	if !s.Cancelled && a.cancelledMeanwhile(l) {
		a.noteCancel(s.Number) // a cancel did not find it in the journal
	}
	a.begin(ctx, s, l)
	return nil
}

func (a *Agent) cancelledMeanwhile(l *lookup) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return l.cancelled
}

// newSet makes of what was found what is run. It holds it to the limits of a
// request: what is in Redis may have been put there by anyone.
func newSet(found wire.Found) (taskSet, error) {
	s := taskSet{Number: found.Task, Request: found.Request, DeadlineMS: found.DeadlineMS, TimeoutS: found.TimeoutS}
	if s.TimeoutS < 1 {
		s.TimeoutS = defaultTimeout
	}
	s.TimeoutS = min(s.TimeoutS, maxTimeoutS)
	if n := len(found.Commands); n < 1 || n > maxCommands {
		return s, fmt.Errorf("%d commands, want 1 to %d", n, maxCommands)
	}
	if !utf8.ValidString(s.Request) {
		return s, errors.New("request is not UTF-8")
	}
	total := 0
	for _, c := range found.Commands {
		if len(c.Line) < 1 || len(c.Line) > maxLine {
			return s, fmt.Errorf("command of %d bytes, want 1 to %d", len(c.Line), maxLine)
		}
		if !utf8.ValidString(c.Line) {
			return s, errors.New("a command is not UTF-8")
		}
		if total += len(c.Line); total > maxLines {
			return s, fmt.Errorf("commands of more than %d bytes together", maxLines)
		}
		s.Commands = append(s.Commands, c.Line)
	}
	return s, nil
}

// say answers as often as it was told. Beyond what a listener will ever read, it
// is silent: those who are not answered tell again.
func (a *Agent) say(number, request string, rcc wire.RCC, times int) error {
	if a.journal.answers() >= maxAnswers {
		return nil
	}
	return a.journal.append(answers(number, request, rcc, times)...)
}

func answers(number, request string, rcc wire.RCC, times int) []record {
	now := float64(time.Now().UnixMilli()) / 1000
	recs := make([]record, times)
	for i := range recs {
		recs[i] = record{Kind: kindAnswer, Number: number, Request: request,
			message: wire.Answer{Task: number, Time: now, RCC: rcc}}
	}
	return recs
}
