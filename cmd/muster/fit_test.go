package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

func TestTooOld(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"5.0.14": true, "6.0.20": true, "6.1.240": true, "6.2.0": false, "6.2": false, "6.10.0": false, "7.0.15": false,
		"10.0.0": false, "255.255.255": false, "": false, "unstable": false, "v6": false,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("%q: %v, want %v", version, got, want)
		}
	}
}

// A Redis of an old version is refused by what stays, in one line; what only reads and
// prints may try its luck.
func TestOldRedisIsRefused(t *testing.T) {
	t.Parallel()
	old := miniredis.RunT(t)
	old.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd == "INFO" && len(args) == 1 && args[0] == "server" {
			c.WriteBulk("# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n")
			return true
		}
		return false
	})
	url := fmt.Sprintf("redis://%s/0", old.Addr())
	for _, args := range [][]string{
		{"listener", "--bind", "127.0.0.1:0"}, {"worker"}, {"up", "--agents", "0"}, {"demo"},
	} {
		var stderr bytes.Buffer
		code := run(context.Background(), append([]string{"muster", "--redis", url}, args...), nil, io.Discard, &stderr, nil)
		want := `^muster: Redis at redis://127.0.0.1:\d+/0 \(from --redis\) is of version 6.0.16, muster needs 6.2 or newer\n$`
		if code != 1 || !regexp.MustCompile(want).MatchString(stderr.String()) {
			t.Errorf("%v: status %d, %q", args, code, stderr.String())
		}
	}
	var stderr bytes.Buffer
	if code := run(context.Background(), []string{"muster", "hosts", "--redis", url}, nil, io.Discard, &stderr, nil); code != 0 {
		t.Errorf("hosts: status %d, %q", code, stderr.String())
	}
}
