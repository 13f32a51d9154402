package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/musterhq/muster/internal/script"
)

//go:embed lua/sends.lua
var sendsLua string

var sendsScript = script.New(ledgerLua, sendsLua) // never changes

// Again is what is to be done for hosts that have not answered.
type Again struct {
	Send  []string  // a send is counted for them: send it, if they are agents
	Asked []string  // the same, but they asked for it: send it, whoever they are
	Spent []string  // they have used up their sends, and the wait after the last is over
	Next  time.Time // when the next of those given is due, by Redis's clock; zero if none is
}

// CountSends counts a further send for each of hosts, at most Chunk, that is in state
// sent and whose time has come, and says what is to be done for them. It is counted
// before it is made: a send may be lost with its process, but is never made too often.
func (s *Store) CountSends(ctx context.Context, n Number, hosts []string) (Again, error) {
	return s.sends(ctx, n, "count", hosts)
}

// GiveUp ends hosts that CountSends has called spent, as unanswered. One that has
// answered meanwhile keeps its state.
func (s *Store) GiveUp(ctx context.Context, n Number, hosts []string) error {
	_, err := s.sends(ctx, n, "give up", hosts)
	return err
}

func (s *Store) sends(ctx context.Context, n Number, mode string, hosts []string) (Again, error) {
	var a Again
	if len(hosts) == 0 {
		return a, nil
	}
	args := make([]any, 0, 1+len(hosts))
	args = append(args, mode)
	for _, h := range hosts {
		args = append(args, h)
	}
	reply, err := s.run(ctx, sendsScript, sendsKeys(n), args)
	if err != nil {
		return a, fmt.Errorf("sends of %s: %w", n, err)
	}
	a.Next = unixMilli(text(reply, 2))
	for i := 3; i+1 < len(reply); i += 2 {
		host := text(reply, i)
		switch text(reply, i+1) {
		case "send":
			a.Send = append(a.Send, host)
		case "asked":
			a.Asked = append(a.Asked, host)
		case "spent":
			a.Spent = append(a.Spent, host)
		}
	}
	return a, s.announceIf(ctx, n, integer(reply, 0))
}

// Remind has a worker look after sets at once: a host has asked to be sent the number
// again.
func (s *Store) Remind(ctx context.Context, sets ...Number) error {
	if len(sets) == 0 {
		return nil
	}
	names := make([]string, len(sets))
	for i, n := range sets {
		names[i] = string(n)
	}
	return s.due.Put(ctx, 0, names...)
}

func sendsKeys(n Number) []string { return append(ledgerKeys(n), KeySends(n)) }
