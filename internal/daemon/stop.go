package daemon

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// stop drains: not ready, then DrainDelay of everything as before, then two GOAWAYs
// for each client (RFC 9113 section 6.8) and DrainTimeout for their calls. A second
// signal cuts it short and decides the exit code.
func (d *daemon) stop(ctx context.Context, again signals, why string) int {
	d.mu.Lock()
	d.draining = true
	s := d.settings
	d.mu.Unlock()
	// What ended ctx must not end the drain as well.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	watched := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case s := <-again:
				if s != syscall.SIGHUP {
					cancel(secondSignal{s})
					return
				}
			case <-over:
				return
			}
		}
	}()
	defer func() { close(over); <-watched }()

	d.log.Info("stopping", "signal", why, "clients", d.pools.clients(), "delay", s.DrainDelay, "timeout", s.DrainTimeout)
	began := time.Now()
	d.linger(ctx, s.DrainDelay)
	drain, done := context.WithTimeout(ctx, s.DrainTimeout)
	defer done()
	err := d.pools.drain(drain)
	var second secondSignal
	if errors.As(context.Cause(ctx), &second) {
		d.log.Warn("stopped at once by a second signal", "signal", second.Signal.String(), "clients", d.pools.clients())
		return second.code()
	}
	d.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond), "all_calls_ended", err == nil)
	return ExitOK
}

// secondSignal is why a drain was cut short.
type secondSignal struct{ os.Signal }

func (s secondSignal) Error() string { return s.String() }

// code is what a shell says of a process that a signal ended.
func (s secondSignal) code() int {
	if n, ok := s.Signal.(syscall.Signal); ok {
		return exitSignal + int(n)
	}
	return ExitFailed
}

// goneEvery is how often it is looked whether clients are left, goneLooks how many
// looks in a row have to see none: an application that shuts down may connect once
// more.
const (
	goneEvery = 250 * time.Millisecond
	goneLooks = 4
)

// linger waits for a time, or until no client is left.
func (d *daemon) linger(ctx context.Context, delay time.Duration) {
	if delay <= 0 {
		return
	}
	end := time.NewTimer(delay)
	defer end.Stop()
	look := time.NewTicker(goneEvery)
	defer look.Stop()
	for gone := 0; gone < goneLooks; {
		select {
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-look.C:
			if gone++; d.pools.clients() > 0 {
				gone = 0
			}
		}
	}
}
