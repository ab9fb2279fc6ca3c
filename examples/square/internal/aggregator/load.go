package aggregator

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/grpclb/kubectl-grpclb/examples/internal/tally"
)

// maxInFlight bounds the background calls that wait for an answer. When slow servers hold that many, further calls are
// left out rather than queued.
const maxInFlight = 64

// Load makes background calls at a steady rate over the aggregator's own channel, so that byte counters move.
type Load struct {
	aggregator *Aggregator
	// rate is in calls per second, at least 1.
	rate   int
	log    *slog.Logger
	failed atomic.Int64
	// failing is true from a failed call to the next that succeeds.
	failing atomic.Bool
	hosts   tally.Counts
}

// NewLoad prepares rate calls per second; rate must be at least 1. Run starts them.
func NewLoad(a *Aggregator, rate int, log *slog.Logger) *Load {
	return &Load{aggregator: a, rate: rate, log: log}
}

// Run calls until ctx ends and every call it started has returned. Failures are counted, and logged where a run of them
// begins and ends; they never stop the load.
func (l *Load) Run(ctx context.Context) {
	ticker := time.NewTicker(time.Second / time.Duration(l.rate))
	defer ticker.Stop()
	var calls errgroup.Group
	calls.SetLimit(maxInFlight)
	for number := int32(1); ; number = number%100 + 1 {
		select {
		case <-ctx.Done():
			// No call returns an error to the group: failures are counted in call.
			_ = calls.Wait()
			return
		case <-ticker.C:
			calls.TryGo(func() error {
				l.call(ctx, number)
				return nil
			})
		}
	}
}

func (l *Load) call(ctx context.Context, number int32) {
	r, err := l.aggregator.square(ctx, number)
	switch {
	case err == nil:
		l.hosts.Add(r.Hostname, 1)
		if l.failing.CompareAndSwap(true, false) {
			l.log.Info("background calls succeed again")
		}
	case ctx.Err() == nil:
		l.failed.Add(1)
		if l.failing.CompareAndSwap(false, true) {
			l.log.Warn("background calls fail", "error", err)
		}
	}
}

// report gives the counts so far; a nil Load reports none.
func (l *Load) report() report {
	if l == nil {
		return report{Hosts: []tally.Row{}}
	}
	return report{CallsPerSecond: l.rate, Failed: l.failed.Load(), Hosts: l.hosts.Rows()}
}
