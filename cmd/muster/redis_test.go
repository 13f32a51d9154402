package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestParseRedis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, want, shown string }{
		{"redis://127.0.0.1:6379/2", "127.0.0.1:6379 db 2", "redis://127.0.0.1:6379/2"},
		{"redis://web", "web:6379 db 0", "redis://web:6379"},
		{"redis://[::1]", "[::1]:6379 db 0", "redis://[::1]:6379"},
		{"redis://user:p%40ss%2Fword@web:1/0", "web:1 db 0 login user p@ss/word", "redis://web:1/0"},
		{"redis://:secret@web", "web:6379 db 0 login  secret", "redis://web:6379"},
		{"rediss://web:1", "web:1 db 0 tls web", "rediss://web:1"},
		{"rediss://web:1?tls_server_name=x&skip_verify=true", "web:1 db 0 tls x unverified", "rediss://web:1"},
		{"unix:///run/redis.sock?db=3", "/run/redis.sock db 3", "unix:///run/redis.sock"},
		{"unix://u:secret@/run/a@b.sock", "/run/a@b.sock db 0 login u secret", "unix:///run/a@b.sock"},
		{"redis-cluster://a:1,b,c:3", "cluster a:1 b:6379 c:3", "redis-cluster://a:1,b:6379,c:3"},
		{"redis-cluster://u:secret@a/0", "cluster a:6379", "redis-cluster://a:6379/0"},
		{"redis-sentinel://u:secret@a,b:2/4?master_name=m", "FailoverClient db 4 login u secret", "redis-sentinel://a:26379,b:2/4"},
	} {
		connect, err := parseRedis(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		rdb := connect(often)
		if got := describe(rdb); got != c.want {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
		rdb.Close()
		if got := place(c.url); got != c.shown {
			t.Errorf("%s is shown as %s, want %s", c.url, got, c.shown)
		}
	}
}

func describe(rdb redis.UniversalClient) string {
	switch rdb := rdb.(type) {
	case *redis.Client:
		o := rdb.Options()
		text := fmt.Sprintf("%s db %d", o.Addr, o.DB)
		if o.Username+o.Password != "" {
			text += " login " + o.Username + " " + o.Password
		}
		if o.TLSConfig != nil {
			text += " tls " + o.TLSConfig.ServerName
			if o.TLSConfig.InsecureSkipVerify {
				text += " unverified"
			}
		}
		return text
	case *redis.ClusterClient:
		addrs := slices.Clone(rdb.Options().Addrs)
		slices.Sort(addrs)
		return "cluster " + strings.Join(addrs, " ")
	}
	return fmt.Sprintf("%T", rdb)
}

// No error repeats what may be a password, however it was misplaced.
func TestParseRedisKeepsSecrets(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://:s3cret/x@web/0", "redis://user:12/s3cret@web", "redis://:s3cret?x@web", "redis://:12?s3cret@web",
		"redis://:s3cret#@web", "redis://user:s3cret@web:port", "redis://user:s3cret@web/0?nonsense=1",
		"unix://:12/s3cret@/run/redis.sock", "unix://:a@12/s3cret@/run/redis.sock", "unix://:12?s3cret@/run/redis.sock",
		"http://user:s3cret@web", "user:s3cret@web", "redis://user:s3cret%zz@web", "redis://user:s3cret@a,b",
		"redis-sentinel://user:s3cret@web", "redis-cluster://user:s3cret@web/1", "redis://user:s3cret@web/one",
		"redis-nonsense://user:s3cret@web", "redis-sentinel://a?password=s3cret",
		"redis://u:s3cret@web?skip_verify=true", "rediss://u:s3cret@web?tls_ca_file=none", "rediss://u:s3cret@web?skip_verify=s3cret",
	} {
		_, err := parseRedis(url)
		if err == nil {
			t.Errorf("%s is no error", url)
		} else if s, text := read(err); strings.Contains(text, "s3cret") || s != statusUsage {
			t.Errorf("%s: status %d, %s", url, s, text)
		}
	}
}

// An error names the place, and who has named it; of the default there is nothing to say.
func TestRedisAt(t *testing.T) {
	t.Parallel()
	for want, at := range map[string]redisAt{
		"redis://127.0.0.1:6379/0":            {defaultRedis, ""},
		"redis://h:1/2 (from --redis)":        {"redis://u:secret@h:1/2", "--redis"},
		"redis://h:1/2 (from conf/away.json)": {"redis://h:1/2?read_timeout=1s", "conf/away.json"},
	} {
		if got := at.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := (redisAt{url: defaultRedis}).namer(); got != "--redis" {
		t.Errorf("of the default: %q", got)
	}
}
