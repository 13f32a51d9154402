package tasks

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// PushAction is what a listener is asked to do for hosts that are connected to it.
type PushAction string

const (
	PushLook   PushAction = "look"   // see who holds them by now: they were taken over elsewhere
	PushStart  PushAction = "start"  // tell the agents among them the task number
	PushCancel PushAction = "cancel" // tell the agents among them that it is cancelled
)

// Push is a message on the channel of a listener: ChannelFor names it. It is a hint,
// which may be lost: what it is for happens without it too, only later.
//
//	<host>                       PushLook, from presence.lua
//	start AC131 <host> <host>    PushStart
//	cancel AC131 <host> <host>   PushCancel
type Push struct {
	Action PushAction
	Number Number // PushStart, PushCancel
	Hosts  []string
}

// maxPush is how long a message on a channel may be, in bytes: Redis keeps what a
// subscriber has not yet read, and ends the connection of one that lags too far.
const maxPush = 60_000

// Push tells a listener about hosts that are connected to it, in one round trip. Many
// hosts make several messages, each below 64 KiB; none make no message. That nobody
// hears it is no error.
func (r *Roll) Push(ctx context.Context, listener string, p Push) error {
	payloads, err := p.payloads()
	if err != nil {
		return err
	}
	if len(payloads) == 0 {
		return nil
	}
	_, err = r.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, payload := range payloads {
			pipe.Publish(ctx, ChannelFor(listener), payload)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("push to listener %s: %w", listener, err)
	}
	return nil
}

// Call has all listeners say again who is connected to them: Redis has lost its roll.
// One that does not hear it does so within a third of LeaseTime.
func (r *Roll) Call(ctx context.Context) error {
	if err := r.rdb.Publish(ctx, ChannelOff, EveryHost).Err(); err != nil {
		return fmt.Errorf("call the listeners: %w", err)
	}
	return nil
}

func (p Push) payloads() ([]string, error) {
	switch p.Action {
	case PushLook:
		return p.Hosts, nil
	case PushStart, PushCancel:
	default:
		return nil, fmt.Errorf("push: unknown action %q", clip(string(p.Action)))
	}
	var payloads []string
	var b strings.Builder
	for _, host := range p.Hosts {
		if b.Len() > 0 && b.Len()+1+len(host) > maxPush {
			payloads = append(payloads, b.String())
			b.Reset()
		}
		if b.Len() == 0 {
			b.WriteString(string(p.Action) + " " + string(p.Number))
		}
		b.WriteString(" " + host)
	}
	if b.Len() > 0 {
		payloads = append(payloads, b.String())
	}
	return payloads, nil
}

// ParsePush reads a message from the channel of a listener. It returns false for one
// that is not to be understood: of a later version, or damaged.
func ParsePush(payload string) (Push, bool) {
	words := strings.Split(payload, " ")
	for _, word := range words {
		if word == "" {
			return Push{}, false
		}
	}
	if len(words) == 1 {
		return Push{Action: PushLook, Hosts: words}, true
	}
	number, err := ParseNumber(words[1])
	p := Push{Action: PushAction(words[0]), Number: number, Hosts: words[2:]}
	if p.Action != PushStart && p.Action != PushCancel || err != nil || len(p.Hosts) == 0 {
		return Push{}, false
	}
	return p, true
}
