package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/script"
)

// ClaimTime is how long a claim on a member of an agenda lasts: when whoever has it
// dies, another one gets the member after that.
const ClaimTime = 3 * time.Second

// Agenda is a list in Redis of what is to be done when, by any of the processes that
// work it off. Nothing on it is lost with a process: what is claimed and not settled
// comes again. All times are by Redis's clock.
type Agenda struct {
	rdb redis.UniversalClient
	key string
}

// NewAgenda returns the agenda with one of the keys KeyDue, KeyArrived and KeyJobs in
// rdb, which stays the caller's to close.
func NewAgenda(rdb redis.UniversalClient, key string) *Agenda { return &Agenda{rdb, key} }

//go:embed lua/agenda.lua
var agendaLua string

//go:embed lua/agenda_put.lua
var agendaPutLua string

//go:embed lua/agenda_claim.lua
var agendaClaimLua string

//go:embed lua/agenda_settle.lua
var agendaSettleLua string

// The scripts; values that never change.
var (
	agendaPutScript    = script.New(agendaLua, agendaPutLua)
	agendaClaimScript  = script.New(agendaClaimLua)
	agendaSettleScript = script.New(agendaSettleLua)
)

// Put enters members that are due after a time. One that is there already is due at
// the sooner of the two times, and whoever works on it now will not strike it.
func (a *Agenda) Put(ctx context.Context, after time.Duration, members ...string) error {
	return a.put(ctx, "sooner", after, members)
}

// Hold has members come due after a time, whatever was entered for them before.
func (a *Agenda) Hold(ctx context.Context, after time.Duration, members ...string) error {
	return a.put(ctx, "set", after, members)
}

// Note enters those of the members that are not there.
func (a *Agenda) Note(ctx context.Context, after time.Duration, members ...string) error {
	return a.put(ctx, "new", after, members)
}

func (a *Agenda) put(ctx context.Context, mode string, after time.Duration, members []string) error {
	for len(members) > 0 {
		part := members[:min(len(members), Chunk)]
		members = members[len(part):]
		args := []any{after.Milliseconds(), mode}
		for _, m := range part {
			args = append(args, m)
		}
		if _, err := a.run(ctx, agendaPutScript, args); err != nil {
			return fmt.Errorf("enter into %s: %w", a.key, err)
		}
	}
	return nil
}

// Claim is a set of members that are the caller's for ClaimTime.
type Claim struct {
	Members []string
	Now     time.Time // by Redis's clock, when it was made
	until   string
}

// Claim claims at most limit members that are due. What the caller does not settle
// within ClaimTime another one may get.
func (a *Agenda) Claim(ctx context.Context, limit int) (Claim, error) {
	reply, err := a.run(ctx, agendaClaimScript, []any{ClaimTime.Milliseconds(), limit})
	if err != nil {
		return Claim{}, fmt.Errorf("claim from %s: %w", a.key, err)
	}
	c := Claim{Now: unixMilli(text(reply, 0)), until: text(reply, 1)}
	for i := 2; i < len(reply); i++ {
		c.Members = append(c.Members, text(reply, i))
	}
	return c, nil
}

// Settle ends the claim on one member: it is due again at next, or struck if next is
// zero. It does nothing if the member was entered or claimed anew meanwhile.
func (a *Agenda) Settle(ctx context.Context, c Claim, member string, next time.Time) error {
	at := ""
	if !next.IsZero() {
		at = strconv.FormatInt(next.UnixMilli(), 10)
	}
	if _, err := a.run(ctx, agendaSettleScript, []any{member, c.until, at}); err != nil {
		return fmt.Errorf("settle %s in %s: %w", member, a.key, err)
	}
	return nil
}

// Strike removes members, whoever has a claim on them.
func (a *Agenda) Strike(ctx context.Context, members ...string) error {
	list := make([]any, len(members))
	for i, m := range members {
		list[i] = m
	}
	if err := a.rdb.ZRem(ctx, a.key, list...).Err(); err != nil {
		return fmt.Errorf("strike from %s: %w", a.key, err)
	}
	return nil
}

// Missing returns those of the members, at most Chunk, that are not there.
func (a *Agenda) Missing(ctx context.Context, members []string) ([]string, error) {
	if len(members) == 0 {
		return nil, nil
	}
	scores, err := a.rdb.ZMScore(ctx, a.key, members...).Result()
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", a.key, err)
	}
	var missing []string
	for i, score := range scores {
		if score == 0 { // go-redis gives a member that is not there as 0
			missing = append(missing, members[i])
		}
	}
	return missing, nil
}

func (a *Agenda) run(ctx context.Context, sc *script.Script, args []any) ([]any, error) {
	return runScript(ctx, a.rdb, sc, []string{a.key}, args)
}
