package auto

import (
	"context"
	"errors"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// child is a source that runs, as the run sees it.
type child struct {
	endpoint.Source
	stop context.CancelFunc

	// last is the last Set, nil before the first. It stands when a failure
	// follows.
	last *endpoint.Set
	// err is the last failure, nil when a Set came after it; since is when the
	// first of these failures was.
	err   error
	since time.Time
	dead  bool      // Run has returned, with err
	aside time.Time // when a failure was told last that did not count
}

// message is what a child told.
type message struct {
	from  *child
	set   *endpoint.Set
	err   error
	note  endpoint.Event
	ended bool
}

// start runs a source as a child.
func (r *run) start(src endpoint.Source) *child {
	ctx, stop := context.WithCancel(r.ctx)
	c := &child{Source: src, stop: stop}
	r.children.Go(func() {
		defer stop()
		h := hand{ctx, c, r.heard}
		err := src.Run(ctx, h)
		if err == nil {
			err = errors.New("the source has ended")
		}
		h.pass(message{err: err, ended: true})
	})
	return c
}

// hand is a child's sink: it passes everything to the run, which is told nothing
// any more once it has stopped the child.
type hand struct {
	ctx   context.Context
	c     *child
	heard chan<- message
}

func (h hand) pass(m message) {
	m.from = h.c
	select {
	case h.heard <- m:
	case <-h.ctx.Done():
	}
}

func (h hand) Update(s endpoint.Set) { h.pass(message{set: &s}) }
func (h hand) Fail(err error)        { h.pass(message{err: err}) }
func (h hand) Note(e endpoint.Event) { h.pass(message{note: e}) }
func (c *child) ask(q endpoint.Question) {
	if c == nil || c.dead {
		return
	}
	if a, ok := c.Source.(endpoint.Asker); ok {
		a.Ask(q)
	}
}

// hear keeps what a message says about its child.
func (c *child) hear(m message, now time.Time) {
	switch {
	case m.set != nil:
		c.last, c.err, c.since = m.set, nil, time.Time{}
	case m.err != nil:
		if c.err == nil {
			c.since = now
		}
		c.err, c.dead = m.err, c.dead || m.ended
	}
}

// works reports whether the child's last word was a Set.
func (c *child) works() bool { return c != nil && c.last != nil && c.err == nil }
