package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

const usualBreaks = " \t\n\"'><=;|&(:"

// completed is what a shell is answered.
func completed(t *testing.T, words ...string) (kind string, lines []string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(context.Background(), append([]string{"muster", completeVerb}, words...), nil, &out, &errs, nil); code != 0 || errs.Len() > 0 {
		t.Fatalf("%q: status %d, %s", words, code, &errs)
	}
	all := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	return all[0], all[1:]
}

// names are the words of an answer, without what is said of them.
func names(lines []string) string {
	for i, l := range lines {
		lines[i], _, _ = strings.Cut(l, "\t")
	}
	return strings.Join(lines, " ")
}

func TestWhatCanFollow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, want string }{
		{"st", "words: status"},
		{"zz", "words:"},
		{"-", "words: --config --redis --log-level --log-format --log-file --help"},
		{"--redis status st", "words: status"}, // a value, whatever it looks like
		{"--redis=redis://127.0.0.1:1 c", "words: console cancel config completion"},
		{"nonsense --j", "words:"},
		{"events --", "words: --follow --last --json --config --redis --log-level --log-format --log-file --help"},
		{"events --json --l", "words: --last --log-level --log-format --log-file"},
		{"events --json --j", "words:"},             // is given
		{"dispatch --host a --ho", "words: --host"}, // may be given again
		{"dispatch --run --ho", "words:"},           // is the command
		{"dispatch -- --ho", "words:"},
		{"dispatch --offline ", "words: report wait"},
		{"dispatch --offline=w", "words: --offline=wait"},
		{"dispatch --wait=", "words: --wait=true --wait=false"},
		{"dispatch --nonsense=", "words:"},
		{"--log-level d", "words: debug"},
		{"hosts --log-format ", "words: text json"},
		{"hosts --config ", "files:"},
		{"hosts --log-file=x", "files:"},
		{"dispatch --commands ", "files:"},
		{"dispatch --request ", "files:"},
		{"agent --state-dir ", "dirs:"},
		{"agent --server ", "words:"},
		{"help dem", "words: demo"},
		{"help demo d", "words:"},
		{"completion ", "words: bash zsh fish"},
		{"completion f", "words: fish"},
		{"version ", "words: --json --config --redis --log-level --log-format --log-file --help"},
		{"__c", "words:"},
	} {
		kind, lines := completed(t, append([]string{"zsh"}, strings.Split(c.line, " ")...)...)
		if got := strings.TrimSpace(kind + ": " + names(lines)); got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
		// Bash is told the same, of the last word what it replaces.
		kind, lines = completed(t, "bash", usualBreaks, "muster "+c.line)
		want := c.want
		if i := strings.LastIndex(c.line, " ") + 1; strings.Contains(c.line[i:], "=") {
			before, _, _ := strings.Cut(c.line[i:], "=")
			want = strings.ReplaceAll(want, before+"=", "")
		}
		if got := strings.TrimSpace(kind + ": " + strings.Join(lines, " ")); got != want {
			t.Errorf("bash: %s: %s, want %s", c.line, got, want)
		}
	}
	for _, words := range [][]string{{}, {"bash"}, {"bash", "muster st"}, {"zsh"}, {"bash", usualBreaks, "muster"}, {"bash", usualBreaks, ""}} {
		if _, lines := completed(t, words...); len(lines) > 0 {
			t.Errorf("%q: %q", words, lines)
		}
	}
}

func TestSplitLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line, want string // words behind each other, | where bash replaces
	}{
		{"", "[|]"},
		{"muster ", "[muster] [|]"},
		{"muster  st", "[muster] [|st]"},
		{"muster --host=we", "[muster] [--host=|we]"},
		{"muster hosts a:b:c", "[muster] [hosts] [a:b:|c]"},
		{`muster hosts a\:b`, "[muster] [hosts] [|a:b]"},
		{`muster --run 'a b' "c \" \x d`, `[muster] [--run] [a b] [|c " \x d]`},
		{`muster --host="we`, "[muster] [--host=|we]"},
		{`muster hosts "a:b`, "[muster] [hosts] [|a:b]"},
		{`muster hosts '' x`, "[muster] [hosts] [] [|x]"},
		{`muster hosts $(touch x) `, "[muster] [hosts] [$(touch] [x)] [|]"},
		{`muster hosts x\`, "[muster] [hosts] [|x]"},
		{"muster console < li", "[muster] [console] [|li] <"},
		{"muster console <li", "[muster] [console] [|li] <"},
		{"muster console < lines 2>/dev/null --js", "[muster] [console] [|--js]"},
		{"muster hosts 2> ", "[muster] [hosts] [|] <"},
	} {
		l := splitLine(c.line, usualBreaks)
		var words []string
		for i, w := range l.words {
			if i == len(l.words)-1 {
				w = w[:l.cut] + "|" + w[l.cut:]
			}
			words = append(words, "["+w+"]")
		}
		got := strings.Join(words, " ")
		if l.redirect {
			got += " <"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
	}
}

// Which Redis is asked: that of the line, of the file, or of the environment.
func TestCompletionAsksTheRightRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Open(t)
	ctx := t.Context()
	s.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 99999999999999, Member: "l1"})
	s.Client.HSet(ctx, tasks.KeyOnline, "web-1", "127.0.0.1:6655@l1", "web-2", "127.0.0.1:6655@l1")
	file := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"redis": %q}`, s.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"hosts --redis " + s.URL + " ", "--redis=" + s.URL + " hosts ", "hosts --config " + file + " ",
		"hosts --config nowhere.json --redis " + s.URL + " ",
	} {
		if _, lines := completed(t, append([]string{"zsh"}, strings.Split(line, " ")...)...); names(lines) != "web-1 web-2" {
			t.Errorf("%s: %q", line, lines)
		}
	}
	for _, line := range []string{
		"hosts --config nowhere.json ", "hosts --redis nonsense:// ", "hosts --redis  ", "hosts --redis redis://127.0.0.1:1 ",
		"status --redis redis://127.0.0.1:1 ",
	} {
		if _, lines := completed(t, append([]string{"zsh"}, strings.Split(line, " ")...)...); len(lines) > 0 {
			t.Errorf("%s: %q", line, lines)
		}
	}
}

// A Redis that takes the connection and says nothing is not waited for: without the limit
// this would never end.
func TestCompletionDoesNotWaitForRedis(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", freePort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	addr := ln.Addr().String()
	for _, url := range []string{
		"redis://" + addr + "/0?read_timeout=-1", "rediss://" + addr + "/0?read_timeout=-1",
		"redis-sentinel://" + addr + "/0?master_name=m&read_timeout=-1", "redis-cluster://" + addr + "?read_timeout=-1",
	} {
		for _, verb := range []string{"hosts", "cancel"} {
			t.Run(verb, func(t *testing.T) {
				t.Parallel()
				if _, lines := completed(t, "fish", verb, "--redis", url, ""); len(lines) > 0 {
					t.Errorf("%s: %q", url, lines)
				}
			})
		}
	}
}

// Of very many hosts some are offered, and these have in common what all have.
func TestCompletionOfThousands(t *testing.T) {
	t.Parallel()
	s := redistest.Open(t)
	ctx := t.Context()
	s.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 99999999999999, Member: "l1"})
	var pairs []string
	for i := range 3000 {
		pairs = append(pairs, fmt.Sprintf("web-%04d", i), "127.0.0.1:6655@l1")
	}
	s.Client.HSet(ctx, tasks.KeyOnline, pairs)
	var lines []string
	redistest.Eventually(t, "the hosts are offered", func() bool {
		_, lines = completed(t, "zsh", "hosts", "--redis", s.URL, "w")
		return len(lines) == mostOffered && lines[0] == "web-0000" && lines[mostOffered-1] == "web-2999" && slices.IsSorted(lines)
	})
	if _, lines = completed(t, "zsh", "hosts", "--redis", s.URL, "web-1234", "web-123"); names(lines) != "web-1230 web-1231 web-1232 web-1233 web-1235 web-1236 web-1237 web-1238 web-1239" {
		t.Fatalf("%q", lines)
	}

	// The newest sets come first, and cancel has open ones only.
	for i := range 1500 {
		n := tasks.Number(fmt.Sprintf("AC%04d", i))
		stage := tasks.Closed
		if i%100 == 0 {
			stage = tasks.Open
		}
		s.Client.ZAdd(ctx, tasks.KeySets, redis.Z{Score: float64(1700000000000 + i), Member: string(n)})
		s.Client.HSet(ctx, tasks.KeyMeta(n), "state", string(stage), "total", i, "created_ms", i)
	}
	s.Client.ZAdd(ctx, tasks.KeySets, redis.Z{Score: 1800000000000, Member: "ACgone"}) // its keys have expired
	redistest.Eventually(t, "the newest sets are offered", func() bool {
		_, lines = completed(t, "zsh", "status", "--redis", s.URL, "")
		return len(lines) == mostOffered && lines[0] == "AC1499\tclosed, 1499 hosts" && lines[99] == "AC1400\topen, 1400 hosts"
	})
	// Completion offers what it has found after a moment: on a busy machine not always all.
	redistest.Eventually(t, "all open ones are offered", func() bool {
		_, lines = completed(t, "zsh", "cancel", "--redis", s.URL, "AC0")
		return names(lines) == "AC0900 AC0800 AC0700 AC0600 AC0500 AC0400 AC0300 AC0200 AC0100 AC0000"
	})
	s.Client.HSet(ctx, tasks.KeyHosts("AC1499"), "gone-1", "offline", "web-1", "done", "$(x)", "done")
	if _, lines = completed(t, "zsh", "results", "AC1499", "--redis", s.URL, "--host", ""); names(lines) != "gone-1 web-1" {
		t.Fatalf("hosts of a set: %q", lines)
	}
}
