package examples_test

import (
	"context"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/proctest"
	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
	"github.com/musterhq/muster/worker"
)

// takingBack are the commands that docs/DELIVERY.md has for taking a request back: those for
// an entry of the stream, and those for a job.
func takingBack(t *testing.T) (entry, job string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/DELIVERY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## Taking back a request\n")
	section, _, _ = strings.Cut(section, "\n## ")
	found := regexp.MustCompile(`(?m)(?:^    redis-cli .*\n)+`).FindAllString(section, -1)
	if len(found) != 2 {
		t.Fatalf("docs/DELIVERY.md has %d groups of commands", len(found))
	}
	return found[0], found[1]
}

// What docs/DELIVERY.md says of taking back a request is so: a worker that starts later
// knows of what was left only.
func TestTakingBack(t *testing.T) {
	t.Parallel()
	proctest.Need(t, "sh", "redis-cli")
	srv := redistest.OpenReal(t)
	ctx := t.Context()
	_, port, err := net.SplitHostPort(srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	run := func(commands, id string) []string {
		t.Helper()
		commands = strings.ReplaceAll(commands, "1763840000000-0", id)
		commands = strings.ReplaceAll(commands, "redis-cli ", "redis-cli -p "+port+" ")
		return strings.Split(strings.TrimSpace(proctest.Output(t, ".", nil, "sh", "-c", commands)), "\n")
	}
	add := func(key string) string {
		t.Helper()
		id, err := srv.Client.XAdd(ctx, &redis.XAddArgs{
			Stream: tasks.KeyRequests, Values: []any{"key", key, "commands", `{"true": 1}`, "hosts", `["web-1"]`},
		}).Result()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	submit := func(key string) string {
		t.Helper()
		id, err := tasks.NewClient(srv.Client).Submit(ctx, tasks.Request{
			Key: tasks.Number(key), Hosts: []string{"web-1"}, Commands: []tasks.Command{{Line: "true"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	entry, job := takingBack(t)
	first, _ := add("AC1"), add("AC2")
	third, _ := submit("AC3"), submit("AC4")
	for _, c := range []struct {
		what, commands, id, shows string
	}{{"an entry", entry, first, "AC1"}, {"a job", job, third, "AC3"}} {
		said := run(c.commands, c.id)
		shown := strings.Join(said[:len(said)-1], "\n")
		if said[len(said)-1] != "1" || !strings.Contains(shown, c.id) || !strings.Contains(shown, c.shows) {
			t.Errorf("%s: %q", c.what, said)
		}
	}
	// Another time there is nothing to take back, and what is not there is left alone.
	if said := run(entry, first); said[len(said)-1] != "0" {
		t.Errorf("an entry that is not there: %q", said)
	}
	if said := run(job, third); said[len(said)-1] == "1" {
		t.Errorf("a job that is not there: %q", said)
	}

	w, err := worker.New(worker.Config{Redis: srv.Client})
	if err != nil {
		t.Fatal(err)
	}
	working, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	// Both of what was left came after what was taken back.
	redistest.Eventually(t, "what was left is carried out", func() bool {
		return srv.Client.ZScore(ctx, tasks.KeySets, "AC2").Err() == nil && srv.Client.ZScore(ctx, tasks.KeySets, "AC4").Err() == nil
	})
	numbers := srv.Client.ZRange(ctx, tasks.KeySets, 0, -1).Val()
	if n := srv.Client.Exists(ctx, "AC1", "AC3").Val(); n != 0 || len(numbers) != 2 {
		t.Errorf("of what was taken back there are %d sets; sets: %q", n, numbers)
	}
	// Their numbers are free.
	add("AC1")
	submit("AC3")
	redistest.Eventually(t, "the numbers are used again", func() bool {
		return srv.Client.Exists(ctx, "AC1", "AC3").Val() == 2
	})
}
