package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// proxy is what a pool is driven by: a *sidecar.Proxy, or a fake.
type proxy interface {
	Run(ctx context.Context) error
	Drain(ctx context.Context) error
	Configure(o sidecar.Options) error
	Stats() sidecar.Stats
}

// pools are the targets that are served. Methods but stats are called from the
// daemon's one goroutine.
type pools struct {
	log  *slog.Logger
	make func(sidecar.Options) (proxy, error)
	// fail gets the error of a target that cannot be served while the daemon starts.
	fail chan error
	// running is of every goroutine that was started here.
	running sync.WaitGroup

	mu  sync.Mutex
	now []*pool // in the order of the configuration
	// retiring is of the pools that are not in now any more and drain.
	retiring sync.WaitGroup
}

// pool is one target.
type pool struct {
	key string
	// name is what the proxy was made with; the target's own may have changed.
	name   string
	cancel context.CancelFunc
	log    *slog.Logger

	mu      sync.Mutex
	target  settings.Target
	options sidecar.Options
	proxy   proxy
	// running are the limits that proxy was made with.
	running settings.Limits
	// trouble is why it does not run now, and is tried again.
	trouble string
	// late is true from a reload that added it until it was ready once: until then
	// it is no reason to take the pod out of service.
	late bool
}

// change counts what apply did.
type change struct{ Added, Removed, Changed, Kept int }

// options are what a target's proxy is made with.
func (p *pools) options(t settings.Target, name string, shutdown time.Duration) sidecar.Options {
	o := sidecar.Options{Name: name, Target: t.Target, Policy: t.Policy, Limits: t.Limits, Logger: p.log.With("target", name)}
	for _, l := range t.Listen {
		o.Listen = append(o.Listen, l.String())
	}
	// 0 would stand for the default.
	o.Limits.ShutdownTimeout = max(shutdown, time.Millisecond)
	return o
}

// apply makes the pools those of s. A pool with the same addresses and target
// stays; what is not wanted any more drains by itself. An error changes nothing.
func (p *pools) apply(ctx context.Context, s settings.Settings, first bool) (change, error) {
	var c change
	next := make([]*pool, 0, len(s.Targets))
	var fresh []*pool
	for _, t := range s.Targets {
		old := p.find(t.Key())
		if old == nil {
			old = &pool{key: t.Key(), name: t.Name, target: t, options: p.options(t, t.Name, s.DrainTimeout), log: p.log.With("target", t.Name), late: !first}
			fresh = append(fresh, old)
		}
		if _, err := sidecar.New(p.options(t, old.name, s.DrainTimeout)); err != nil { // does no I/O
			return c, fmt.Errorf("target %s: %w", t.Name, err)
		}
		next = append(next, old)
	}
	c.Added = len(fresh)
	for i, t := range s.Targets {
		if slices.Contains(fresh, next[i]) {
			continue
		}
		if next[i].configure(t, p.options(t, next[i].name, s.DrainTimeout)) {
			c.Changed++
		} else {
			c.Kept++
		}
	}
	p.mu.Lock()
	before := p.now
	p.now = next
	p.mu.Unlock()
	for _, old := range before {
		if !slices.Contains(next, old) {
			c.Removed++
			p.retiring.Add(1)
			p.running.Go(func() {
				defer p.retiring.Done()
				old.retire(ctx, s.DrainTimeout)
			})
		}
	}
	for _, f := range fresh {
		var own context.Context
		own, f.cancel = context.WithCancel(ctx)
		p.running.Go(func() { p.serve(own, f, first) })
	}
	return c, nil
}

func (p *pools) find(key string) *pool {
	for _, old := range p.now {
		if old.key == key {
			return old
		}
	}
	return nil
}

// configure changes what may change without losing a connection. What the proxy
// refuses although it was checked before leaves this one pool as it was.
func (p *pool) configure(t settings.Target, o sidecar.Options) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reflect.DeepEqual(p.target, t) && p.options.Limits == o.Limits {
		return false
	}
	if p.proxy != nil {
		if err := p.proxy.Configure(o); err != nil {
			p.log.Error("a target keeps its former settings", "error", err)
			return false
		}
		if waiting := settings.AtStart(p.running, o.Limits); waiting != nil {
			p.log.Warn("some limits are read at the start alone: their change waits for the next one", "limits", waiting)
		}
	}
	p.target, p.options = t, o
	return true
}

// How long to wait before an address that is taken is tried again.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 10 * time.Second
	// quietRetries are not logged: the pool that had the address before needs a
	// moment to leave it.
	quietRetries = 4
)

// serve runs a pool until ctx ends. While the daemon starts, one that cannot be
// served ends the daemon; later it is tried again, since the others work.
func (p *pools) serve(ctx context.Context, f *pool, first bool) {
	wait := firstRetry
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		err := p.once(ctx, f)
		if err == nil || ctx.Err() != nil {
			return
		}
		if first && n == 0 {
			select {
			case p.fail <- err:
			case <-ctx.Done():
			}
			return
		}
		if time.Since(began) > lastRetry {
			wait = firstRetry
		}
		if n >= quietRetries {
			f.log.Error("a target is not served, and is tried again", "error", err, "after", wait)
		}
		f.mu.Lock()
		f.trouble = err.Error()
		f.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, lastRetry)
	}
}

// once makes a proxy and runs it.
func (p *pools) once(ctx context.Context, f *pool) error {
	f.mu.Lock()
	made, err := p.make(f.options)
	if err == nil {
		f.proxy, f.running, f.trouble = made, f.options.Limits, ""
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return made.Run(ctx)
}

// retire drains a pool and ends it.
func (p *pool) retire(ctx context.Context, timeout time.Duration) {
	defer p.cancel()
	p.mu.Lock()
	running := p.proxy
	p.mu.Unlock()
	if running == nil {
		return
	}
	p.log.Info("target removed, its calls run out", "within", timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := running.Drain(ctx); err != nil {
		p.log.Warn("calls of a removed target were cut", "error", err)
	}
}

// drain drains every pool at once. The error is the last one's.
func (p *pools) drain(ctx context.Context) error {
	p.mu.Lock()
	all := slices.Clone(p.now)
	p.mu.Unlock()
	errs := make([]error, len(all))
	var done sync.WaitGroup
	for i, f := range all {
		done.Go(func() {
			f.mu.Lock()
			running := f.proxy
			f.mu.Unlock()
			if running != nil {
				errs[i] = running.Drain(ctx)
			}
		})
	}
	done.Wait()
	p.awaitRetiring(ctx)
	for i, err := range errs {
		if err != nil {
			all[i].log.Warn("calls were cut", "error", err)
		}
	}
	return errors.Join(errs...)
}

// awaitRetiring waits for the calls of targets that a reload removed: each has its
// own time for that.
func (p *pools) awaitRetiring(ctx context.Context) {
	gone := make(chan struct{})
	p.running.Go(func() {
		defer close(gone)
		p.retiring.Wait()
	})
	select {
	case <-gone:
	case <-ctx.Done():
	}
}

// late are the names of targets that a reload added and that were not ready yet. Any
// goroutine may ask.
func (p *pools) late() []string {
	p.mu.Lock()
	all := slices.Clone(p.now)
	p.mu.Unlock()
	var out []string
	for _, f := range all {
		f.mu.Lock()
		if f.late {
			out = append(out, f.target.Name)
		}
		f.mu.Unlock()
	}
	return out
}

// stats are those of every pool, in the order of the configuration. Any goroutine
// may ask.
func (p *pools) stats() []sidecar.Stats {
	p.mu.Lock()
	all := slices.Clone(p.now)
	p.mu.Unlock()
	out := make([]sidecar.Stats, 0, len(all))
	for _, f := range all {
		out = append(out, f.stats())
	}
	return out
}

func (p *pool) stats() sidecar.Stats {
	p.mu.Lock()
	running, trouble, t, o := p.proxy, p.trouble, p.target, p.options
	p.mu.Unlock()
	var s sidecar.Stats
	if running != nil {
		s = running.Stats()
	}
	s.Name, s.Target, s.Listen = t.Name, t.Target, o.Listen
	if running == nil || trouble != "" {
		s.Ready, s.Reason = false, trouble
		if trouble == "" {
			s.Reason = "starting"
		}
	} else if s.Ready {
		p.mu.Lock()
		p.late = false
		p.mu.Unlock()
	}
	return s
}

// clients is how many connections of clients there are.
func (p *pools) clients() int {
	n := 0
	for _, s := range p.stats() {
		n += s.Clients + s.Passthrough.Open
	}
	return n
}
