package embedded_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/internal/embedded"
	"github.com/musterhq/muster/internal/redistest"
)

func start(t *testing.T) (*embedded.Redis, *redis.Client) {
	t.Helper()
	r, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	client := redis.NewClient(&redis.Options{Addr: r.Addr(), DisableIdentity: true})
	t.Cleanup(func() { client.Close() })
	return r, client
}

// Keys end by themselves, and not before their time.
func TestKeysAge(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	ctx := t.Context()
	begun := time.Now()
	const life = 200 * time.Millisecond
	for key, ttl := range map[string]time.Duration{"short": life, "long": time.Hour, "ever": 0} {
		if err := client.Set(ctx, key, "x", ttl).Err(); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, "a key with 200 ms to live is gone", func() bool {
		return client.Exists(ctx, "short").Val() == 0
	})
	if took := time.Since(begun); took < life/2 { // the ticker's last round may be added to a young key
		t.Errorf("a key with %v to live was gone after %v", life, took)
	}
	left, err := client.TTL(ctx, "long").Result()
	if err != nil || left <= time.Hour-time.Minute || left > time.Hour {
		t.Errorf("a key with an hour to live has %v left, %v", left, err)
	}
	if n := client.Exists(ctx, "ever").Val(); n != 1 {
		t.Error("a key without an expiry is gone")
	}
	redistest.Eventually(t, "the life of a key gets shorter", func() bool {
		now, err := client.PTTL(ctx, "long").Result()
		return err == nil && now < time.Hour-life
	})
}

// An expiry may also be given as a time, by the server's own clock.
func TestKeysAgeByTheClock(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	now, err := client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(now).Abs(); d > time.Minute {
		t.Fatalf("its clock is %v off", d)
	}
	client.Set(t.Context(), "key", "x", 0)
	if ok, err := client.PExpireAt(t.Context(), "key", now.Add(200*time.Millisecond)).Result(); !ok || err != nil {
		t.Fatalf("PEXPIREAT: %v, %v", ok, err)
	}
	redistest.Eventually(t, "a key is gone at its time", func() bool {
		return client.Exists(t.Context(), "key").Val() == 0
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	r, client := start(t)
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	addr := r.Addr()
	var all sync.WaitGroup
	for range 3 {
		all.Go(r.Close)
	}
	all.Wait()
	r.Close()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Fatalf("%s answers after Close", addr)
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	r, _ := start(t)
	if other, err := embedded.Start(r.Addr()); err == nil {
		other.Close()
		t.Fatal("two on one address")
	}
}

// It says of itself what pages ask for, by section and as a whole.
func TestInfo(t *testing.T) {
	t.Parallel()
	_, client := start(t)
	whole, err := client.Info(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"redis_version", "uptime_in_days", "connected_clients", "used_memory_human", "used_memory_peak_human",
		"mem_fragmentation_ratio", "rdb_changes_since_last_save", "total_commands_processed", "connected_slaves",
	} {
		if !strings.Contains(whole, "\n"+name+":") {
			t.Errorf("INFO has no %s:\n%s", name, whole)
		}
	}
	memory, err := client.Info(t.Context(), "memory").Result()
	if err != nil || !strings.HasPrefix(memory, "# Memory\r\n") || strings.Contains(memory, "redis_version") {
		t.Errorf("INFO memory: %q, %v", memory, err)
	}
	if text, err := client.Info(t.Context(), "nonsense").Result(); text != "" || err != nil {
		t.Errorf("INFO nonsense: %q, %v", text, err)
	}
}
