package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/daemon/admin"
	"github.com/grpclb/kubectl-grpclb/internal/daemon/settings"
	"github.com/grpclb/kubectl-grpclb/internal/version"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// lookEvery is how often the file is looked at.
const lookEvery = 2 * time.Second

// daemon is one run of `sidecar`. Its fields below mu are read by HTTP handlers.
type daemon struct {
	opts  Options
	log   *slog.Logger
	level *slog.LevelVar
	pools *pools
	file  *file

	mu       sync.Mutex
	started  time.Time
	settings settings.Settings
	config   admin.Config
	draining bool
}

// signals are what stops and reloads, in the order in which they come.
type signals <-chan os.Signal

// environment is what a run finds around it, so that a test can bring its own.
type environment struct {
	signals signals
	getenv  func(string) string
	cgroup  []string // the files of containerLimit
	make    func(sidecar.Options) (proxy, error)
	look    <-chan time.Time // when to look at the file
	stderr  io.Writer
}

// run serves until a signal comes, and returns the exit code.
func run(ctx context.Context, o Options, env environment) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &daemon{opts: o, level: new(slog.LevelVar), started: time.Now()}
	d.level.Set(o.Settings.Log.Level)
	d.log = newLogger(env.stderr, o.Settings.Log.JSON, d.level)
	d.pools = &pools{log: d.log, make: env.make, fail: make(chan error)}
	if address, yes := hostNetwork(env.getenv); yes && !o.AllowHostNetwork {
		d.log.Error("refused: the pod is in its node's network (hostNetwork), where every pod of the node may call the targets; "+
			"--allow-host-network starts it all the same", "pod_ip", address)
		return ExitPlace
	}
	tuned := tuneMemory(env.getenv, env.cgroup)
	stop, err := d.ports(ctx)
	if err != nil {
		d.log.Error("cannot serve", "error", err)
		return ExitFailed
	}
	defer stop()
	d.hello(tuned)
	d.setInForce(o.Settings)
	if _, err := d.pools.apply(ctx, o.Settings, true); err != nil {
		d.log.Error("cannot serve", "error", err)
		return ExitFailed
	}
	defer d.pools.running.Wait()
	defer cancel()
	return d.loop(ctx, env)
}

// ports opens the daemon's own.
func (d *daemon) ports(ctx context.Context) (stop func(), err error) {
	var servers []*httpServer
	stop = func() {
		for _, s := range servers {
			s.stop()
		}
	}
	a := d.opts.Settings.Admin
	if a.Listen.IsValid() {
		l, err := listenHTTP(ctx, a.Listen, "admin")
		if err != nil {
			return nil, err
		}
		servers = append(servers, serveHTTP(l, admin.Public(d), d.log))
	}
	if a.Debug.IsValid() {
		l, err := listenHTTP(ctx, a.Debug, "debug")
		if err != nil {
			stop()
			return nil, err
		}
		servers = append(servers, serveHTTP(l, admin.Debug(d, a.Hosts), d.log))
	}
	return stop, nil
}

// hello says what runs, with what, and what is questionable about it.
func (d *daemon) hello(m memory) {
	s := d.opts.Settings
	where := func(valid bool, text string) string {
		if valid {
			return text
		}
		return "off"
	}
	d.log.Info("starting", "version", version.Get().Version, "targets", len(s.Targets), "config", d.opts.File,
		"admin", where(s.Admin.Listen.IsValid(), s.Admin.Listen.String()), "debug", where(s.Admin.Debug.IsValid(), s.Admin.Debug.String()),
		"gomaxprocs", runtime.GOMAXPROCS(0), "gogc", m.gcPercent, "memory_limit", mebibytes(m.limit))
	for _, t := range s.Targets {
		d.log.Info("serving", "target", t.Name, "listen", t.Listen, "pods_of", t.Target, "policy", t.Policy.Policy, "interval", t.Policy.Refresh.Interval)
	}
	if m.container > 0 && m.container < leastMemory {
		d.log.Warn("the container's memory limit is small: it may be killed under load", "limit", mebibytes(m.container), "wanted", mebibytes(leastMemory))
	}
	d.warn(append(d.opts.Strange, d.opts.Warnings...))
}

func (d *daemon) warn(problems []settings.Problem) {
	for _, p := range problems {
		d.log.Warn("questionable", "at", p.String())
	}
}

// loop waits for whatever happens first.
func (d *daemon) loop(ctx context.Context, env environment) int {
	if d.opts.File != "" {
		d.file = &file{name: d.opts.File, sum: sha256.Sum256(d.opts.data)}
		d.opts.data = nil
	}
	settle()
	for {
		select {
		case err := <-d.pools.fail:
			d.log.Error("cannot serve", "error", err)
			return ExitFailed
		case <-ctx.Done():
			return d.stop(ctx, env.signals, "the context ended")
		case <-env.look:
			d.reload(ctx, false)
		case s := <-env.signals:
			if s == syscall.SIGHUP {
				d.reload(ctx, true)
				continue
			}
			return d.stop(ctx, env.signals, s.String())
		}
	}
}

// reload puts the file in force when it changed, or when a signal says so.
func (d *daemon) reload(ctx context.Context, asked bool) {
	if d.file == nil {
		if asked {
			d.log.Info("SIGHUP: there is no file to read, flags are all there is")
		}
		return
	}
	data, changed, err := d.file.changed(asked)
	if !changed {
		return
	}
	var s settings.Settings
	var warnings []settings.Problem
	if err == nil {
		s, warnings, err = settings.Parse(d.opts.File, data, d.opts.Read)
	}
	if err != nil {
		d.refuse(err)
		return
	}
	d.mu.Lock()
	before := d.settings
	d.mu.Unlock()
	c, err := d.pools.apply(ctx, s, false)
	if err != nil {
		d.refuse(err)
		return
	}
	d.level.Set(s.Log.Level)
	d.setInForce(s)
	d.log.Info("configuration reloaded", "generation", d.Info().Config.Generation,
		"added", c.Added, "removed", c.Removed, "changed", c.Changed, "kept", c.Kept)
	if before.Admin.Listen != s.Admin.Listen || before.Admin.Debug != s.Admin.Debug || before.Log.JSON != s.Log.JSON ||
		fmt.Sprint(before.Admin.Hosts) != fmt.Sprint(s.Admin.Hosts) {
		d.log.Warn("admin and log.format are read at the start alone: their change waits for the next one")
	}
	d.warn(warnings)
	settle()
}

// refuse keeps what is in force, and says so.
func (d *daemon) refuse(err error) {
	d.mu.Lock()
	d.config.Refused++
	d.config.Error, d.config.ErrorAt = err.Error(), time.Now()
	generation := d.config.Generation
	d.mu.Unlock()
	d.log.Error("configuration refused, the one before stays in force", "generation", generation, "error", err)
}

func (d *daemon) setInForce(s settings.Settings) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settings = s
	d.config.File = d.opts.File
	d.config.Generation++
	d.config.Loaded = time.Now()
	d.config.Error, d.config.ErrorAt = "", time.Time{}
}

// Pools is part of admin.Source.
func (d *daemon) Pools() []sidecar.Stats { return d.pools.stats() }

// Info is part of admin.Source.
func (d *daemon) Info() admin.Info {
	late := d.pools.late()
	d.mu.Lock()
	defer d.mu.Unlock()
	return admin.Info{Version: version.Get(), Started: d.started, Config: d.config, Draining: d.draining, Late: late}
}
