package live

import (
	"context"
	"sync"
)

// maxStreams is how many pods are talked to at once.
const maxStreams = 8

// limited runs functions at the same time, at most n of them, and starts none after ctx has ended.
type limited struct {
	ctx   context.Context
	slots chan struct{}
	wg    sync.WaitGroup
}

func newLimited(ctx context.Context, n int) *limited {
	return &limited{ctx: ctx, slots: make(chan struct{}, n)}
}

// Go waits for a place and runs f; after the end of ctx it does nothing.
func (l *limited) Go(f func()) {
	select {
	case l.slots <- struct{}{}:
	case <-l.ctx.Done():
		return
	}
	l.wg.Go(func() {
		defer func() { <-l.slots }()
		if l.ctx.Err() == nil { // a free place and the end may come together
			f()
		}
	})
}

// Wait returns when all have ended.
func (l *limited) Wait() { l.wg.Wait() }
