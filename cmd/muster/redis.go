package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/urfave/cli/v2"

	"github.com/musterhq/muster/tasks"
)

// pingTimeout is how long a verb waits for Redis when it starts.
const pingTimeout = 5 * time.Second

// dial makes clients of the Redis that a URL names. It connects with the first
// command only. Several may be made: what blocks needs a client of its own.
//
//	redis://[user:password@]host[:port][/db]     rediss:// with TLS
//	unix://[user:password@]/path/to/socket[?db=N]
//	redis-sentinel://[user:password@]host[:port][,host...][/db]?master_name=NAME
//	                                             rediss-sentinel:// with TLS
//	redis-cluster://[user:password@]host[:port][,host...]
//	                                             rediss-cluster:// with TLS
//
// With TLS the parameters tls_ca_file, tls_cert_file, tls_key_file, tls_server_name and
// skip_verify say how.
//
// No error of it repeats the URL, since there may be a password in it.
type dial func(attempts) redis.UniversalClient

// attempts is how often a client tries a command.
type attempts int

const (
	often attempts = iota // what the Redis client does by itself: for some seconds
	once                  // to find out whether somebody is there
	brief                 // the same, and no longer than the context of the command allows
)

// briefDial is how long a brief client may look for the master that Sentinel names.
const briefDial = time.Second

func (a attempts) limit(commands, dials *int, heedContext *bool) {
	if a != often {
		*commands, *dials = -1, 1
	}
	*heedContext = a == brief
}

func parseRedis(text string) (dial, error) {
	u, err := splitHosts(text)
	if err != nil {
		return nil, err
	}
	security, err := takeTLS(u)
	if err != nil {
		return nil, misuse("%w", err)
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "-")
	u.Scheme = scheme
	if scheme != "redis" && scheme != "rediss" && (scheme != "unix" || kind != "") {
		return nil, misuse("unknown scheme, want redis, rediss, unix, redis-sentinel or redis-cluster")
	}
	if path := strings.Trim(u.Path, "/"); scheme != "unix" && path != "" {
		if _, err := strconv.Atoi(path); err != nil {
			return nil, misuse("what follows the host is not the number of a database")
		}
		if kind == "cluster" && path != "0" {
			return nil, misuse("a cluster has database 0 only")
		}
	}
	switch kind {
	case "":
		return single(u, security)
	case "sentinel":
		return sentinel(u, security)
	case "cluster":
		return cluster(u, security)
	}
	return nil, misuse("unknown scheme, want redis, rediss, unix, redis-sentinel or redis-cluster")
}

func single(u *url.URL, security tlsFiles) (dial, error) {
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, urlError(err)
	}
	if o.TLSConfig != nil {
		if o.TLSConfig, err = security.config(o.TLSConfig); err != nil {
			return nil, misuse("%w", err)
		}
	}
	o.DisableIdentity = true
	o.MaintNotificationsConfig = quiet()
	return func(try attempts) redis.UniversalClient {
		o := *o
		try.limit(&o.MaxRetries, &o.DialerRetries, &o.ContextTimeoutEnabled)
		return redis.NewClient(&o)
	}, nil
}

// sentinel takes user and password of the URL for Redis itself, as everywhere else;
// those of the sentinels are the parameters sentinel_username and sentinel_password.
func sentinel(u *url.URL, security tlsFiles) (dial, error) {
	q := u.Query()
	if q.Get("master_name") == "" {
		return nil, misuse("a URL for Sentinel needs ?master_name=")
	}
	user, password := q.Get("sentinel_username"), q.Get("sentinel_password")
	q.Del("sentinel_username")
	q.Del("sentinel_password")
	login := u.User
	u.User, u.RawQuery = nil, q.Encode()
	o, err := redis.ParseFailoverURL(u.String())
	if err != nil {
		return nil, urlError(err)
	}
	o.SentinelUsername, o.SentinelPassword = user, password
	if login != nil {
		o.Username = login.Username()
		o.Password, _ = login.Password()
	}
	if o.TLSConfig != nil {
		if o.TLSConfig, err = security.config(o.TLSConfig); err != nil {
			return nil, misuse("%w", err)
		}
	}
	o.DisableIdentity = true
	return func(try attempts) redis.UniversalClient {
		o := *o
		try.limit(&o.MaxRetries, &o.DialerRetries, &o.ContextTimeoutEnabled)
		if try == brief && (o.DialTimeout == 0 || o.DialTimeout > briefDial) {
			o.DialTimeout = briefDial // looking for the master heeds nothing else
		}
		return redis.NewFailoverClient(&o)
	}, nil
}

func cluster(u *url.URL, security tlsFiles) (dial, error) {
	u.Path = ""
	o, err := redis.ParseClusterURL(u.String())
	if err != nil {
		return nil, urlError(err)
	}
	if o.TLSConfig != nil {
		if o.TLSConfig, err = security.config(o.TLSConfig); err != nil {
			return nil, misuse("%w", err)
		}
	}
	o.DisableIdentity = true
	o.MaintNotificationsConfig = quiet()
	return func(try attempts) redis.UniversalClient {
		o := *o
		try.limit(&o.MaxRetries, &o.DialerRetries, &o.ContextTimeoutEnabled)
		return redis.NewClusterClient(&o)
	}, nil
}

func quiet() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// splitHosts parses a URL that may name several hosts; all but the first become addr
// parameters, as the Redis client wants them.
func splitHosts(text string) (*url.URL, error) {
	malformed := misuse("malformed URL, want redis://[user:password@]host:port/db")
	head, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, malformed
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	place, tail := rest[:end], rest[end:]
	socket := head == "unix" && (place == "" || strings.HasSuffix(place, "@"))
	// In the path of a socket an @ is one; else it is a part of the password, which may not
	// be repeated.
	if strings.Contains(tail, "@") && !socket {
		return nil, misuse("malformed URL: in a user or password write @ / ? # as %%40 %%2F %%3F %%23")
	}
	login := ""
	if at := strings.LastIndexByte(place, '@'); at >= 0 {
		login, place = place[:at+1], place[at+1:]
	}
	port := "6379"
	if strings.HasSuffix(head, "-sentinel") {
		port = "26379"
	}
	hosts := strings.Split(place, ",")
	for i, h := range hosts {
		if _, _, err := net.SplitHostPort(h); err != nil && h != "" {
			hosts[i] = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
	}
	if len(hosts) > 1 && !strings.Contains(head, "-") {
		return nil, misuse("several hosts need redis-sentinel:// or redis-cluster://")
	}
	u, err := url.Parse(head + "://" + login + hosts[0] + tail)
	if err != nil {
		return nil, malformed
	}
	if len(hosts) > 1 {
		q := u.Query()
		for _, h := range hosts[1:] {
			q.Add("addr", h)
		}
		u.RawQuery = q.Encode()
	}
	return u, nil
}

func urlError(err error) error {
	var whole *url.Error
	if errors.As(err, &whole) { // it quotes the URL
		return misuse("malformed URL")
	}
	return misuse("%s", strings.TrimPrefix(err.Error(), "redis: "))
}

// place is what may be shown of a Redis URL: no user, no password, no parameters.
func place(text string) string {
	u, err := splitHosts(text)
	if err != nil {
		return "Redis"
	}
	hosts := append([]string{u.Host}, u.Query()["addr"]...)
	return u.Scheme + "://" + strings.Join(hosts, ",") + u.Path
}

// redisAt is where Redis is, and who says so.
type redisAt struct {
	url string
	by  string // the flag, the variable or the file; empty for the default
}

// String is the place as an error names it. Who says so stands there for him who did not
// know that anybody does: a file of settings applies wherever it lies.
func (at redisAt) String() string {
	if at.by == "" {
		return place(at.url)
	}
	return place(at.url) + " (from " + at.by + ")"
}

// namer is who is to name another one.
func (at redisAt) namer() string { return orDefault(at.by, "--redis") }

// open makes sure that a Redis answers, and makes a client of it.
func open(ctx context.Context, at redisAt) (redis.UniversalClient, dial, error) {
	connect, err := parseRedis(at.url)
	if err != nil {
		return nil, nil, err
	}
	if err := ping(ctx, connect); err != nil {
		return nil, nil, unanswered(at, err)
	}
	return connect(often), connect, nil
}

// ping has Redis answer within pingTimeout.
func ping(ctx context.Context, connect dial) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	rdb := connect(once)
	defer rdb.Close()
	return rdb.Ping(ctx).Err()
}

// redis opens the Redis of the shared flags for a verb that only reads and prints.
func (a *app) redis(c *cli.Context) (rdb redis.UniversalClient, done func(), err error) {
	_, logged, err := a.log(c)
	if err != nil {
		return nil, nil, err
	}
	rdb, _, err = open(c.Context, a.redisAt(c))
	if err != nil {
		logged()
		return nil, nil, err
	}
	return rdb, func() { rdb.Close(); logged() }, nil
}

// redisAt is where a verb that needs Redis finds it.
func (a *app) redisAt(c *cli.Context) redisAt {
	return redisAt{orDefault(c.String("redis"), defaultRedis), a.redisBy}
}

// onSet is the action of a verb that is about the one task set of its argument.
func (a *app) onSet(do func(c *cli.Context, rdb redis.UniversalClient, n tasks.Number) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		n, err := oneNumber(c)
		if err != nil {
			return err
		}
		rdb, done, err := a.redis(c)
		if err != nil {
			return err
		}
		defer done()
		return do(c, rdb, n)
	}
}
