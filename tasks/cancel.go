package tasks

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/musterhq/muster/internal/script"
)

// ErrClosed says that a task set has ended, so that nothing of it can be cancelled.
var ErrClosed = errors.New("task set has ended")

//go:embed lua/cancel.lua
var cancelLua string

var cancelScript = script.New(ledgerLua, cancelLua) // never changes

// Cancel cancels a set: from then on its number is sent to nobody and no host gets its
// commands, hosts that are open end as cancelled, and workers have the agents end what
// they run of it. Done again it finishes what may have been cut short. The error is
// ErrNotFound if there is no such set, ErrClosed if it had ended before.
func (s *Store) Cancel(ctx context.Context, n Number) error {
	reply, err := s.run(ctx, cancelScript, ledgerKeys(n), []any{"mark"})
	if err != nil {
		return fmt.Errorf("cancel %s: %w", n, err)
	}
	switch text(reply, 0) {
	case "none":
		return fmt.Errorf("cancel %s: %w", n, ErrNotFound)
	case "closed":
		return fmt.Errorf("cancel %s: %w", n, ErrClosed)
	}
	if err := s.due.Put(ctx, 0, string(n)); err != nil {
		return fmt.Errorf("cancel %s: %w", n, err)
	}
	l, err := s.Ledger(ctx, n)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	// Done again before the set is closed, it may be that the first time came to no event.
	if text(reply, 0) == "new" || l.Stage != Closed {
		if err := Record(ctx, s.rdb, Event{Type: "task.cancelled", Key: n, Request: l.Request}); err != nil {
			return err
		}
	}
	return s.FinishCancel(ctx, n)
}

// FinishCancel ends what is open in a set that was cancelled, and closes it.
func (s *Store) FinishCancel(ctx context.Context, n Number) error {
	l, mark, err := s.head(ctx, n)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	if l.Stage == Closed && mark != "" && l.Open() == 0 {
		return s.count(ctx, l, mark) // all else is done
	}
	if l.Open() > 0 {
		err = s.endOpen(ctx, n, func(hosts []any) error {
			_, err := s.run(ctx, cancelScript, ledgerKeys(n), append([]any{"end"}, hosts...))
			return err
		})
		if err != nil {
			return fmt.Errorf("cancel %s: %w", n, err)
		}
	}
	reply, err := s.run(ctx, cancelScript, ledgerKeys(n), []any{"end"})
	if err != nil {
		return fmt.Errorf("cancel %s: %w", n, err)
	}
	return s.announceIf(ctx, n, integer(reply, 1))
}

// endOpen calls end with the hosts of a set that are open, some hundreds at a time. What
// waited for one of them does so no more.
func (s *Store) endOpen(ctx context.Context, n Number, end func(hosts []any) error) error {
	return s.Hosts(ctx, n, func(hosts []HostState) error {
		var open []any
		var waiting []string
		for _, h := range hosts {
			if h.State.Open() {
				open = append(open, h.Host)
			}
			if h.State == Waiting {
				waiting = append(waiting, h.Host)
			}
		}
		for len(open) > 0 {
			part := open[:min(len(open), Chunk)]
			open = open[len(part):]
			if err := end(part); err != nil {
				return err
			}
		}
		return s.unawait(ctx, n, waiting)
	})
}
