package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// Each of 10,000 named hosts gets its answer, in the order named, and one that is not
// online is enough for status 4.
func TestManyNamedHosts(t *testing.T) {
	t.Parallel()
	srv := redistest.Open(t)
	ctx := t.Context()
	if err := srv.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 9e15, Member: "l1"}).Err(); err != nil {
		t.Fatal(err)
	}
	args := []string{"muster", "hosts", "--redis", srv.URL}
	places := map[string]any{}
	for i := range 10_000 {
		args = append(args, fmt.Sprintf("h%d", i))
		places[fmt.Sprintf("h%d", i)] = "10.0.0.1:6655@l1"
	}
	if err := srv.Client.HSet(ctx, tasks.KeyOnline, places).Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		offline string
		status  int
	}{{"", 0}, {"h7777", 4}} {
		if err := srv.Client.HDel(ctx, tasks.KeyOnline, c.offline).Err(); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if got := run(ctx, args, strings.NewReader(""), &out, &errs, nil); got != c.status || errs.Len() > 0 {
			t.Fatalf("status %d, want %d: %s", got, c.status, errs.String())
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 10_000 {
			t.Fatalf("%d lines", len(lines))
		}
		for i, l := range lines {
			want := fmt.Sprintf("h%d\tonline\t10.0.0.1:6655\tl1", i)
			if c.offline == fmt.Sprintf("h%d", i) {
				want = c.offline + "\toffline"
			}
			if !strings.HasPrefix(l, want) {
				t.Fatalf("line %d is %q, want %q", i, l, want)
			}
		}
	}
}
