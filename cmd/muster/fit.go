package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/tasks"
)

// leastRedis is the version of Redis that has all commands that muster and its job
// queue use.
const leastRedisMajor, leastRedisMinor = 6, 2

// fit makes sure that a Redis can be worked with: it is new enough, no replica, and
// takes writes. It warns of one that may drop keys. What a server does not say, or a
// login may not ask, is passed over; only that it can be written to has to be seen.
func fit(ctx context.Context, at redisAt, connect dial, log logrus.FieldLogger) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	rdb := connect(once)
	defer rdb.Close()
	info := infoOf(ctx, rdb, "server", "memory", "replication")
	if err := newEnough(at, info); err != nil {
		return err
	}
	// What the client of a cluster asks may well be a replica; it writes to masters.
	if _, isCluster := rdb.(*redis.ClusterClient); !isCluster {
		if err := isMaster(at, info); err != nil {
			return err
		}
	}
	if policy := info["maxmemory_policy"]; dropsKeys(policy) {
		log.WithField("policy", policy).Warn("redis may drop task sets and presence when its memory is full: set its maxmemory-policy to noeviction")
	}
	return writable(ctx, at, rdb)
}

// newEnough is an error if a server says that it is too old.
func newEnough(at redisAt, info map[string]string) error {
	if version := info["redis_version"]; tooOld(version) {
		return failf(statusFailure, "Redis at %s is of version %s, muster needs %d.%d or newer",
			at, version, leastRedisMajor, leastRedisMinor)
	}
	return nil
}

// isMaster is an error if a server says that it is a replica.
func isMaster(at redisAt, info map[string]string) error {
	if info["role"] != "slave" {
		return nil
	}
	what := "a replica of "
	if info["slave_read_only"] != "0" {
		what = "a read-only replica of "
	}
	return isReplica(at, what+net.JoinHostPort(info["master_host"], info["master_port"]))
}

// dropsKeys reports whether a server with this maxmemory-policy deletes keys that nobody
// has deleted. One that does not say its policy has an empty one.
func dropsKeys(policy string) bool { return policy != "" && policy != "noeviction" }

// writable is an error unless the server takes writes. It changes nothing.
func writable(ctx context.Context, at redisAt, rdb redis.UniversalClient) error {
	// Only a member that is there is changed, and this one never is; but Redis judges it
	// as every other write.
	err := rdb.ZAddXX(ctx, tasks.KeyListeners, redis.Z{Member: ""}).Err()
	switch {
	case redis.HasErrorPrefix(err, "READONLY"):
		return isReplica(at, "a read-only replica")
	case redis.HasErrorPrefix(err, "OOM"):
		return failf(statusFailure, "Redis at %s is full: it has reached its maxmemory and takes no writes", at)
	case err != nil:
		return unanswered(at, err)
	}
	return nil
}

// openFit is open for what stays: that Redis has to be fit for it.
func openFit(ctx context.Context, at redisAt, log logrus.FieldLogger) (dial, error) {
	rdb, connect, err := open(ctx, at)
	if err != nil {
		return nil, err
	}
	rdb.Close() // it has not connected yet
	return connect, fit(ctx, at, connect, log)
}

func isReplica(at redisAt, what string) error {
	return failf(statusFailure, "Redis at %s is %s, %s has to name the one that is written to", place(at.url), what, at.namer())
}

// unanswered words err, with which a Redis has failed a command that
// any Redis carries out.
func unanswered(at redisAt, err error) error {
	var reply redis.Error
	switch {
	case redis.HasErrorPrefix(err, "NOAUTH"):
		return failf(statusFailure, "Redis at %s wants a password, and %s has none: %w", place(at.url), at.namer(), err)
	case redis.HasErrorPrefix(err, "WRONGPASS"):
		return failf(statusFailure, "Redis at %s does not accept the user or the password of %s: %w", place(at.url), at.namer(), err)
	case errors.As(err, &reply):
		return failf(statusFailure, "Redis at %s can't be worked with: %w", at, err)
	}
	return failf(statusFailure, "no answer from Redis at %s: %w", at, err)
}

// infoOf returns what a server says of itself in some sections, each of which it may
// not have.
func infoOf(ctx context.Context, rdb redis.Cmdable, sections ...string) map[string]string {
	facts := map[string]string{}
	for _, section := range sections {
		text, err := rdb.Info(ctx, section).Result()
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				facts[name] = value
			}
		}
	}
	return facts
}

// tooOld reports whether a version is below the least one. One that can't be read is
// not.
func tooOld(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major < leastRedisMajor || major == leastRedisMajor && minor < leastRedisMinor
}
