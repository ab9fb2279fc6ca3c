// Package calls makes unary gRPC calls over connections of its own and counts them by connection: the measuring half of
// `grpclb-refresher probe`.
//
// It imitates how stock clients connect, because that is what a diagnosis asks about: a plain host:port is tried address by
// address until one connects, and keeps that one connection (pick_first); dns:///host:port has one connection to every address and
// sends calls over them in turn (round_robin). It refuses to be clever beyond that: no balancing by load, no retries, no new look-up
// of a name that gave addresses once, as stock clients make none while their connections are healthy.
//
// Calls of one channel are made one after the other, so a channel never has more than one call on the way.
//
//	report, done := calls.Run(ctx, cfg)
//	defer done() // the connections are still open
package calls

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

// Limits of a Config: a probe is a visitor in somebody's cluster.
const (
	MaxChannels    = 256
	MaxTargets     = 256
	MaxConnections = 2048 // over all targets and channels at one time
	MaxCalls       = 10_000_000
	MaxRate        = 100_000
)

// Config says what to call and how often. Its zero value calls nothing.
type Config struct {
	Targets []Target
	// Channels is the number of channels to each target; less than 1 means 1.
	Channels int
	// Calls is how many calls each channel makes; 0 means as many as fit into Duration.
	Calls int
	// Rate is the number of calls a second each channel starts; 0 means the next as soon as the last has ended.
	Rate float64
	// Duration ends the calls even when fewer were made; 0 means no limit.
	Duration time.Duration
	// Timeout bounds each look-up, each connect and each call; 0 means 2 s.
	Timeout time.Duration
	// Method is the full method; empty means h2probe.HealthMethod.
	Method string
	// TLS encrypts; SkipVerify leaves the server's certificate unverified.
	TLS, SkipVerify bool
	// Authority is the :authority of calls and the name that a certificate is checked for; empty means the target's.
	Authority string
	// Lookup resolves a host name; nil means the system's way.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// session is one run.
type session struct {
	cfg      Config
	channels []*channel
	mu       sync.Mutex // guards targets, open
	targets  []agentapi.Target
	open     int // connections in existence
}

// Run makes the calls and returns when the last has ended, Duration is over, or ctx has ended. The connections stay open until the
// returned function is called, which closes them all and must be called. What could not be done is in the report.
func Run(ctx context.Context, cfg Config) (agentapi.ProbeReport, func()) {
	s := &session{cfg: cfg.withDefaults()}
	for i, t := range s.cfg.Targets {
		s.targets = append(s.targets, agentapi.Target{Name: t.Name, Target: t.Text})
		for index := range s.cfg.Channels {
			s.channels = append(s.channels, &channel{session: s, target: t, number: i, index: index})
		}
	}
	start := time.Now()
	pacing := ctx
	if s.cfg.Duration > 0 {
		var cancel context.CancelFunc
		pacing, cancel = context.WithTimeout(ctx, s.cfg.Duration)
		defer cancel()
	}
	var wg sync.WaitGroup
	for _, ch := range s.channels {
		wg.Go(func() { ch.run(ctx, pacing) })
	}
	wg.Wait()
	return s.report(ctx, start), s.close
}

func (cfg Config) withDefaults() Config {
	cfg.Channels = max(1, cfg.Channels)
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.Method == "" {
		cfg.Method = h2probe.HealthMethod
	}
	if cfg.Calls <= 0 && cfg.Duration <= 0 {
		cfg.Calls = 1
	}
	if cfg.Lookup == nil {
		cfg.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return cfg
}

func (s *session) report(ctx context.Context, start time.Time) agentapi.ProbeReport {
	now := time.Now()
	r := agentapi.ProbeReport{
		Version: agentapi.Version, At: now.UTC(), Method: s.cfg.Method, Elapsed: now.Sub(start).Seconds(), Targets: s.targets,
	}
	if ctx.Err() != nil {
		r.Interrupted = true
		r.Errors = append(r.Errors, "interrupted: the numbers are those up to then")
	}
	for _, ch := range s.channels {
		for _, c := range ch.all {
			r.Channels = append(r.Channels, c.summary())
		}
		if ch.refused > 0 {
			r.Errors = append(r.Errors, ch.tooMany())
		}
	}
	return r
}

func (s *session) close() {
	for _, ch := range s.channels {
		for _, c := range ch.all {
			c.close()
		}
	}
}

// errFull: the session has as many connections as it may.
var errFull = errors.New("too many connections")

// take reserves a place for one connection.
func (s *session) take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= MaxConnections {
		return errFull
	}
	s.open++
	return nil
}

func (s *session) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// resolved notes what a look-up of target n gave; channels look up on their own, as clients do.
func (s *session) resolved(n, addresses int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.targets[n]
	t.Resolved = max(t.Resolved, addresses)
	if err != nil && t.Error == "" {
		t.Error = err.Error()
	}
}
