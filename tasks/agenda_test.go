package tasks_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/musterhq/muster/tasks"
)

// claim claims what is due and fails unless it is want.
func (f fixture) claim(a *tasks.Agenda, want ...string) tasks.Claim {
	f.Helper()
	c, err := a.Claim(f.Context(), 100)
	f.must(err)
	slices.Sort(c.Members)
	if !slices.Equal(c.Members, want) {
		f.Fatalf("claimed %q, want %q", c.Members, want)
	}
	if d := c.Now.Sub(f.now()).Abs(); d > time.Minute {
		f.Fatalf("claimed at %v, which is %v from now", c.Now, d)
	}
	return c
}

// dueIn fails unless a member is due in about the given time.
func (f fixture) dueIn(key, member string, want time.Duration) {
	f.Helper()
	score, err := f.rdb.ZScore(f.Context(), key, member).Result()
	f.must(err)
	in := time.UnixMilli(int64(score)).Sub(f.now())
	if in > want || in < want-10*time.Second {
		f.Fatalf("%s is due in %v, want %v", member, in, want)
	}
}

// ago moves a member's time, so that no test waits for it.
func (f fixture) ago(key, member string, d time.Duration) {
	f.Helper()
	f.must(f.rdb.ZAdd(f.Context(), key, redis.Z{Score: float64(f.now().Add(-d).UnixMilli()), Member: member}).Err())
}

func TestAgendaPut(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	a := tasks.NewAgenda(f.rdb, tasks.KeyDue)
	f.must(a.Put(ctx, time.Minute, "a", "b"))
	f.must(a.Put(ctx, time.Hour, "a"))
	f.dueIn(tasks.KeyDue, "a", time.Minute) // the sooner stays
	f.must(a.Put(ctx, 30*time.Second, "a"))
	f.dueIn(tasks.KeyDue, "a", 30*time.Second)
	f.must(a.Hold(ctx, time.Hour, "a"))
	f.dueIn(tasks.KeyDue, "a", time.Hour)
	f.must(a.Note(ctx, time.Second, "a", "c"))
	f.dueIn(tasks.KeyDue, "a", time.Hour)
	f.dueIn(tasks.KeyDue, "c", time.Second)
	missing, err := a.Missing(ctx, []string{"a", "x", "b", "y"})
	f.must(err)
	if !slices.Equal(missing, []string{"x", "y"}) {
		t.Fatalf("missing %q", missing)
	}
	f.must(a.Strike(ctx, "a", "b"))
	if left := f.rdb.ZRange(ctx, tasks.KeyDue, 0, -1).Val(); !slices.Equal(left, []string{"c"}) {
		t.Fatalf("left %q", left)
	}
	many := make([]string, 2*tasks.Chunk+1)
	for i := range many {
		many[i] = time.Duration(i).String()
	}
	f.must(a.Put(ctx, 0, many...))
	if n := f.rdb.ZCard(ctx, tasks.KeyDue).Val(); n != int64(len(many)+1) {
		t.Fatalf("%d members", n)
	}
	f.must(a.Put(ctx, 0))
}

// What is claimed is nobody else's until the claim ends, and comes again then.
func TestAgendaClaim(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	a := tasks.NewAgenda(f.rdb, tasks.KeyDue)
	f.must(a.Put(ctx, time.Hour, "later"))
	f.must(a.Put(ctx, 0, "a", "b", "c"))
	if c, err := a.Claim(ctx, 2); err != nil || len(c.Members) != 2 {
		t.Fatalf("%v, %v", c, err)
	}
	f.ago(tasks.KeyDue, "a", time.Second)
	f.ago(tasks.KeyDue, "b", time.Second)
	c := f.claim(a, "a", "b", "c")
	f.claim(a)
	f.dueIn(tasks.KeyDue, "a", tasks.ClaimTime+time.Second)

	f.must(a.Settle(ctx, c, "a", time.Time{}))
	f.must(a.Settle(ctx, c, "b", f.now().Add(time.Hour)))
	f.dueIn(tasks.KeyDue, "b", time.Hour)
	f.must(a.Settle(ctx, c, "b", time.Time{})) // the claim has ended
	f.dueIn(tasks.KeyDue, "b", time.Hour)
	if left := f.rdb.ZRange(ctx, tasks.KeyDue, 0, -1).Val(); !slices.Contains(left, "c") || slices.Contains(left, "a") {
		t.Fatalf("left %q", left)
	}
	f.must(a.Settle(ctx, c, "nobody", time.Time{}))
}

// A member that is entered or claimed anew while somebody works on it is not struck by
// him: what it was entered for may have come too late for him to see.
func TestAgendaEnteredMeanwhile(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	a := tasks.NewAgenda(f.rdb, tasks.KeyDue)
	f.must(a.Put(ctx, 0, "sooner", "later", "again"))
	c := f.claim(a, "again", "later", "sooner")
	f.must(a.Put(ctx, 0, "sooner"))
	f.must(a.Put(ctx, time.Minute, "later")) // later than the end of the claim
	f.ago(tasks.KeyDue, "again", time.Second)
	f.claim(a, "again", "sooner")
	for _, m := range c.Members {
		f.must(a.Settle(ctx, c, m, time.Time{}))
	}
	if n := f.rdb.ZCard(ctx, tasks.KeyDue).Val(); n != 3 {
		t.Fatalf("%d left, want 3", n)
	}
	f.dueIn(tasks.KeyDue, "later", time.Minute)
}
