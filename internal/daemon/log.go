package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// newLogger writes text or JSON to w, and the same line not too often.
func newLogger(w io.Writer, asJSON bool, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if asJSON {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(&calm{Handler: h, state: &calmState{seen: map[string]*burst{}}})
}

// How often one line may come: a pod that flaps all day says so, and does not fill
// the disk.
const (
	calmBurst  = 5
	calmWindow = time.Minute
	// calmKeys bounds what is remembered. Beyond it everything is forgotten, which
	// lets a few lines too many through.
	calmKeys = 4096
)

// calm lets a line through calmBurst times in a calmWindow. Lines are the same when
// their message, their target and their pod are. The first one after that says
// how many were left out.
type calm struct {
	slog.Handler
	state *calmState
	// of are attributes that every line has.
	of string
}

type calmState struct {
	mu   sync.Mutex
	seen map[string]*burst
}

type burst struct {
	began   time.Time
	n, left int
}

// sameBy are the attributes that make two lines different ones.
func sameBy(a slog.Attr) bool {
	return a.Key == "target" || a.Key == "pod" || a.Key == "addr" || a.Key == "listen"
}

// Handle is part of slog.Handler.
func (c *calm) Handle(ctx context.Context, r slog.Record) error {
	key := r.Message + c.of
	r.Attrs(func(a slog.Attr) bool {
		if sameBy(a) {
			key += " " + a.Value.String()
		}
		return true
	})
	left, ok := c.state.pass(key, r.Time)
	if !ok {
		return nil
	}
	if left > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", left))
	}
	return c.Handler.Handle(ctx, r)
}

func (s *calmState) pass(key string, now time.Time) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.seen[key]
	if b == nil {
		if len(s.seen) >= calmKeys {
			clear(s.seen)
		}
		b = &burst{began: now}
		s.seen[key] = b
	}
	if now.Sub(b.began) >= calmWindow {
		left = b.left
		*b = burst{began: now}
	}
	if b.n == calmBurst {
		b.left++
		return 0, false
	}
	b.n++
	return left, true
}

// WithAttrs is part of slog.Handler.
func (c *calm) WithAttrs(attrs []slog.Attr) slog.Handler {
	of := c.of
	for _, a := range attrs {
		if sameBy(a) {
			of += " " + a.Value.String()
		}
	}
	return &calm{c.Handler.WithAttrs(attrs), c.state, of}
}

// WithGroup is part of slog.Handler.
func (c *calm) WithGroup(name string) slog.Handler {
	return &calm{c.Handler.WithGroup(name), c.state, c.of}
}
