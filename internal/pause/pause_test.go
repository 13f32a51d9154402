package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ends, d, want time.Duration // ctx ends, it is to wait, it waits
		whole         bool
	}{
		"to its end":        {ends: time.Hour, d: time.Minute, want: time.Minute, whole: true},
		"for nothing":       {ends: time.Hour, whole: true},
		"less than nothing": {ends: time.Hour, d: -time.Minute, whole: true},
		"until ctx ends":    {ends: time.Second, d: time.Minute, want: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.ends)
				defer cancel()
				start := time.Now()
				whole := For(ctx, test.d)
				if waited := time.Since(start); whole != test.whole || waited != test.want {
					t.Errorf("%v after %v, want %v after %v", whole, waited, test.whole, test.want)
				}
			})
		})
	}
}
