package worker

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redistest"
	"github.com/musterhq/muster/tasks"
)

// order is an emitter that keeps what was sent, in order.
type order struct{ sent []string }

func (o *order) Emit(payload []byte, targets []netip.AddrPort) int {
	for _, t := range targets {
		o.sent = append(o.sent, string(payload)+" "+t.String())
	}
	return len(targets)
}

const waiting = `{"key":%q,"commands":{"a":1},"hosts":%s,"offline":"wait"}`

// A host that comes online is sent what waits for it, once, the oldest set first. What
// is offline otherwise is not sent to, also where its id is an address: it would get
// the number twice.
func TestArrive(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	sent := &order{}
	d := f.dispatcher(sent)
	for i, n := range []tasks.Number{"AC2", "AC1", "AC3"} {
		payload := fmt.Sprintf(waiting, n, `["h1","10.0.0.5"]`)
		if err := d.run(ctx, "r"+string(n), job(payload), false); err != nil {
			t.Fatal(err)
		}
		if got := counts(f.ledger(n)); got != "waiting:2" {
			t.Fatalf("%s: %s", n, got)
		}
		f.rdb.HSet(ctx, tasks.KeyMeta(n), "created_ms", 1000+i)
	}
	now := f.rdb.Time(ctx).Val()
	if next, err := d.arrive(ctx, now, "h1"); err != nil || !next.IsZero() || len(sent.sent) != 0 {
		t.Fatalf("while it is offline: %v, %v, %q", next, err, sent.sent)
	}
	f.online("h1", "agent i1", netip.MustParseAddrPort("127.0.0.1:7"))
	for range 2 {
		if _, err := d.arrive(ctx, now, "h1"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"AC2 127.0.0.1:7", "AC1 127.0.0.1:7", "AC3 127.0.0.1:7"}; !slices.Equal(sent.sent, want) {
		t.Errorf("sent %q, want %q", sent.sent, want)
	}
	if got := counts(f.ledger("AC1")); got != "waiting:1 sent:1" {
		t.Errorf("ledger %s", got)
	}
	if f.rdb.Exists(ctx, tasks.KeyWaiting("h1")).Val() != 0 || f.rdb.SCard(ctx, tasks.KeyWaiting("10.0.0.5")).Val() != 3 {
		t.Error("what waits is not what should")
	}
	f.sound("AC1")
}

// A host that comes online between the look at the roll and its entry as waiting, so
// that no listener finds that anything waits for it, is found by the job itself; and by
// the look after the set, if nobody said that it came.
func TestArrivesMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	sent := &counter{}
	r := f.redeliverer(Config{}, sent)
	r.after = func(step string) error {
		if step == "enlist" {
			f.online("h1", "agent i1", netip.MustParseAddrPort("127.0.0.1:7"))
		}
		return nil
	}
	if err := r.run(ctx, "r1", job(fmt.Sprintf(waiting, "AC1", `["h1","h2"]`)), false); err != nil {
		t.Fatal(err)
	}
	arrived := func(want ...string) {
		t.Helper()
		if got := f.rdb.ZRange(ctx, tasks.KeyArrived, 0, -1).Val(); !slices.Equal(got, want) {
			t.Fatalf("arrived %q, want %q", got, want)
		}
	}
	arrived("h1")
	f.rdb.Del(ctx, tasks.KeyArrived)
	f.online("h2", "json", netip.MustParseAddrPort("127.0.0.2:7"))
	now := f.rdb.Time(ctx).Val()
	next, err := r.tend(ctx, now, "AC1")
	if err != nil || next.Sub(now) != waitingAgain {
		t.Fatalf("looked after again in %v, %v", next.Sub(now), err)
	}
	arrived("h1", "h2")
}

// A job that is cut short after a host was entered as waiting and run again, when the
// host is online, still delivers.
func TestWaitingJobRunsAgain(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"prepare", "enlist", "open"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			host := listen(t)
			d := f.dispatcher(&counter{})
			d.after = func(s string) error {
				if s == step {
					return fmt.Errorf("dead")
				}
				return nil
			}
			payload := fmt.Sprintf(waiting, "AC1", `["h1"]`)
			if err := d.run(t.Context(), "r1", job(payload), false); err == nil {
				t.Fatal("not cut short")
			}
			f.online("h1", "agent i1", host.addr)
			f.start(Config{RetryAfter: time.Minute})
			d.after = nil
			if err := d.run(t.Context(), "r1", job(payload), false); err != nil {
				t.Fatal(err)
			}
			want := "sent:1"
			redistest.Eventually(t, "it is sent to", func() bool { return counts(f.ledger("AC1")) == want })
			if step != "prepare" { // there it was online when it was entered
				host.wants("AC1")
			}
			f.sound("AC1")
		})
	}
}

// Two hundred sets for one host: all are delivered by running workers.
func TestManyWaitForOneHost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	d := f.dispatcher(&counter{})
	const sets = 2 * arriveBurst
	for i := range sets {
		if err := d.run(ctx, fmt.Sprint("r", i), job(fmt.Sprintf(waiting, fmt.Sprintf("AC%d", i), `["h1"]`)), false); err != nil {
			t.Fatal(err)
		}
	}
	host := listen(t)
	f.online("h1", "agent i1", host.addr)
	if err := tasks.NewRoll(f.rdb).Arrived(ctx, []string{"h1", "h2"}); err != nil {
		t.Fatal(err)
	}
	f.start(Config{RetryAfter: time.Minute})
	f.start(Config{RetryAfter: time.Minute})
	// On a slow machine the one worker outlives its claim, and the other begins again.
	redistest.Eventually(t, "all are delivered", func() bool {
		got := host.all()
		slices.Sort(got)
		return len(slices.Compact(got)) == sets
	})
	redistest.Eventually(t, "nobody is noted as arrived", func() bool { return f.rdb.Exists(ctx, tasks.KeyArrived).Val() == 0 })
}
