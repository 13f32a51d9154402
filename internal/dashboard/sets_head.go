package dashboard

import (
	"time"

	"github.com/musterhq/muster/tasks"
)

// head is the head of a task set in the index: small, there are many.
type head struct {
	Number   tasks.Number
	Stage    tasks.Stage
	Commands int32

	created, deadline, closed, cancelled int64 // Unix ms; 0: not
	total                                uint32
	counts                               [stateCount]uint32
	outcomes                             outcome
}

// Where a state is in head.counts: the order is that of tasks.States.
const (
	atWaiting = iota
	atSent
	atAcknowledged
	atReceived
	atWorking
	atDone
	atFailed
	atCancelled
	atExpired
	atOffline
	atMissing
	atUnanswered
	stateCount
)

func headOf(l tasks.Ledger) head {
	ms := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.UnixMilli()
	}
	h := head{
		Number: l.Number, Stage: l.Stage, Commands: int32(l.Commands), total: uint32(l.Total),
		created: ms(l.Created), deadline: ms(l.Deadline), closed: ms(l.Closed), cancelled: ms(l.Cancelled),
	}
	for i, s := range tasks.States() {
		h.counts[i] = uint32(max(l.Counts[s], 0))
	}
	h.outcomes = h.judge()
	return h
}

// Running reports whether the set has not ended.
func (h head) Running() bool { return h.Stage == tasks.Preparing || h.Stage == tasks.Open }

// Total is how many hosts the set has.
func (h head) Total() int64 { return int64(h.total) }

// Created is when the set was made.
func (h head) Created() time.Time { return time.UnixMilli(h.created) }

// Deadline is when the set ends whatever happens.
func (h head) Deadline() time.Time { return time.UnixMilli(h.deadline) }

// Soon reports whether the deadline is near enough for the time of day to tell it.
func (h head) Soon() bool { return time.Until(h.Deadline()) < 20*time.Hour }

// Closed is when the set ended, zero before.
func (h head) Closed() time.Time {
	if h.closed == 0 {
		return time.Time{}
	}
	return time.UnixMilli(h.closed)
}

// Cancelled reports whether the set was cancelled.
func (h head) Cancelled() bool { return h.cancelled != 0 }

// unreached is how many hosts have not answered, and may still.
func (h head) unreached() uint32 {
	return h.counts[atOffline] + h.counts[atMissing] + h.counts[atUnanswered]
}

// late reports whether hosts of a set that has ended may still be heard of.
func (h head) late(now time.Time) bool { return h.deadline > now.UnixMilli() && h.unreached() > 0 }

// outcome is how a set has ended. It can be several: failed on one host, and not reached
// on another.
type outcome uint8

const (
	isRunning outcome = 1 << iota
	isDone
	isFailed
	isUnreached
	isCancelled
	isExpired
)

// outcomes are the names by which the list of sets is filtered.
func outcomes() map[string]outcome {
	return map[string]outcome{
		"running": isRunning, "done": isDone, "failed": isFailed,
		"unreached": isUnreached, "cancelled": isCancelled, "expired": isExpired,
	}
}

// Is reports whether the set has the named outcome.
func (h head) Is(name string) bool { return h.outcomes&outcomes()[name] != 0 }

func (h head) judge() (o outcome) {
	add := func(is outcome, so bool) {
		if so {
			o |= is
		}
	}
	add(isRunning, h.Running())
	add(isDone, !h.Running() && !h.Cancelled() && h.counts[atDone] == h.total)
	add(isFailed, h.counts[atFailed] > 0)
	add(isUnreached, h.unreached() > 0)
	add(isCancelled, h.Cancelled())
	add(isExpired, h.counts[atExpired] > 0)
	return o
}
