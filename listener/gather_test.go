package listener

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// What a write that was cut short has not settled is taken again, first and in order.
func TestGatherGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGather[int]()
		for i := range 5 {
			g.put(i, 10)
		}
		var got []int
		err := g.run(t.Context(), func(_ context.Context, batch []int) error {
			got = append(got, batch[:2]...)
			g.settled(2)
			g.put(5, 10)
			return errors.New("cut short")
		})
		if err == nil || g.bytes != 40 {
			t.Fatalf("run: %v, %d bytes wait, want 40", err, g.bytes)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = g.run(ctx, func(_ context.Context, batch []int) error {
				got = append(got, batch...)
				return nil
			})
		}()
		g.drain(t.Context())
		cancel()
		<-done
		if want := []int{0, 1, 2, 3, 4, 5}; !slices.Equal(got, want) {
			t.Errorf("written %v, want %v", got, want)
		}
		if g.bytes != 0 {
			t.Errorf("%d bytes are left", g.bytes)
		}
	})
}
