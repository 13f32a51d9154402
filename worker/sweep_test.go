package worker

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// With no listener left, a worker takes a dead one's hosts off the roll.
func TestSweep(t *testing.T) {
	t.Parallel()
	rs := redistest.Open(t)
	ctx, cancel := context.WithCancel(context.Background())
	roll := tasks.NewRoll(rs.Client)
	if _, err := roll.Lease(ctx, "dead"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := roll.Apply(ctx, "dead", []tasks.Change{{Kind: tasks.On, Host: "h1", Client: "json"}}); err != nil {
		t.Fatal(err)
	}
	rs.Client.HSet(ctx, tasks.KeyHost("h1", "info"), "hostname", "h1")
	rs.Client.ZAdd(ctx, tasks.KeyListeners, redis.Z{Score: 1, Member: "dead"}) // its lease has ended

	log := logrus.New()
	log.SetOutput(io.Discard)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = sweep(ctx, log, tasks.NewSweeper(roll, []string{"info"}, time.Millisecond), watchRedis(log).Part("sweep"), always)
	}()
	redistest.Eventually(t, "the host is swept off", func() bool {
		return rs.Client.Exists(ctx, tasks.KeyOnline, tasks.KeyListeners, tasks.KeyHost("h1", "info"), tasks.KeyDeparted).Val() == 0
	})
	cancel()
	<-ended
}
