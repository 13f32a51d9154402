package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// right is something that the user of --redis has to be allowed.
type right struct {
	what string
	rule string // of ACL SETUSER, which allows it, where it is not the command that is not allowed
	try  func(context.Context, redis.UniversalClient) error
}

// rights are those that all of muster needs. To try them changes nothing: only a member
// that is there would be changed, and the empty one never is.
func rights() []right {
	const number = tasks.Number("ACdoctor") // need not be one
	touch := func(key string) func(context.Context, redis.UniversalClient) error {
		return func(ctx context.Context, rdb redis.UniversalClient) error {
			return rdb.ZAddXX(ctx, key, redis.Z{Member: ""}).Err()
		}
	}
	hear := func(channel string) func(context.Context, redis.UniversalClient) error {
		return func(ctx context.Context, rdb redis.UniversalClient) error {
			sub := rdb.Subscribe(ctx, channel)
			defer sub.Close()
			_, err := sub.ReceiveTimeout(ctx, knock)
			return err
		}
	}
	return []right{
		{"the roll", "~{muster}:*", touch(tasks.KeyListeners)},
		{"requests and hosts", "~muster:*", touch(tasks.KeyRequests)},
		{"task sets", "~AC*", touch(tasks.KeySet(number))},
		{"ledgers", "~{AC*", touch(tasks.KeyMeta(number))},
		{"the job queue", "~asynq:*", touch("asynq:{" + tasks.JobQueue + "}:pending")},
		{"what listeners hear of each other", "&{muster}:*", hear(tasks.ChannelOff)},
		{"what the job queue hears", "&asynq:*", hear("asynq:cancel")},
		{"scripts", "", func(ctx context.Context, rdb redis.UniversalClient) error {
			return rdb.Eval(ctx, "return 1", nil).Err()
		}},
	}
}

// lookAtRights finds what the user of --redis may not do, all of it at once. Without any
// of that some part of muster stands still, and maybe much later: a listener holds the
// reports that it may not write.
func (d *doctor) lookAtRights(ctx context.Context) finding {
	var not, rules []string
	for _, r := range rights() {
		err := r.try(ctx, d.rdb)
		var reply redis.Error
		if err != nil && !errors.As(err, &reply) {
			_, text := read(unanswered(d.at, err))
			return fail("%s", text).to("see whether Redis is up")
		}
		if !redis.HasErrorPrefix(err, "NOPERM") {
			continue // whatever else is wrong, other checks say
		}
		rule := "'" + r.rule + "'"
		if strings.Contains(err.Error(), "to run the ") { // not the key, the command
			rule = "+@all -@dangerous +info"
		}
		not = append(not, r.what)
		if !slices.Contains(rules, rule) {
			rules = append(rules, rule)
		}
	}
	if len(not) > 0 {
		return fail("the user of --redis may not use %s", joined(not, "and")).
			to("redis-cli ACL SETUSER NAME %s, with its name", strings.Join(rules, " "))
	}
	return fine("it takes writes")
}
