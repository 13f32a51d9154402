package main

import (
	"context"
	"sync"
)

// interrupts is what becomes of Ctrl-C: it ends the program, unless a verb has asked for
// it, because there it ends something smaller.
type interrupts struct {
	mu    sync.Mutex
	taken func() // nil: nobody has asked
}

// take tells whoever has asked for it, and reports whether somebody has.
func (i *interrupts) take() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.taken == nil {
		return false
	}
	i.taken()
	return true
}

// ask has f called, which must not block, in place of the program's end, until release.
func (i *interrupts) ask(f func()) (release func()) {
	i.set(f)
	return func() { i.set(nil) }
}

func (i *interrupts) set(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.taken = f
}

type interruptsKey struct{}

// withInterrupts returns a context whose verb can ask i.
func withInterrupts(ctx context.Context, i *interrupts) context.Context {
	return context.WithValue(ctx, interruptsKey{}, i)
}

// interruptsOf returns what a verb can ask; outside of main nobody interrupts.
func interruptsOf(ctx context.Context) *interrupts {
	if i, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		return i
	}
	return &interrupts{}
}
