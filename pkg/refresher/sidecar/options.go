package sidecar

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/dnstuning"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar/relay"
)

// Options say what a Proxy does. Listen and Target have no default.
type Options struct {
	// Name is for people and metrics, "" for the target's text.
	Name string
	// Listen are the addresses to listen on, "IP:PORT" or "[IPv6]:PORT", at least
	// one. Port 0 takes any free one: see Proxy.Listening.
	Listen []string
	// Target is what ParseTarget takes: a headless Service and the port of its pods.
	Target string
	// Opener makes the source of the pods' addresses; nil means dns.New, which
	// never reads /etc/hosts. A config.Tuner is tuned with Policy.Refresh.
	Opener endpoint.Opener
	// Policy is how pods are chosen, judged and looked up; the zero value means
	// config.Default(config.PeakEWMA).
	Policy config.Config
	// Limits are bounds and times; fields that are 0 have the default.
	Limits Limits
	// Logger gets what a person may want to know; nil for none.
	Logger *slog.Logger
	// Events gets what happens to the pods, one event at a time, in order, on a
	// goroutine of its own; what a slow one has no time for is dropped. nil for
	// nobody.
	Events func(endpoint.Event)
}

// Limits bound what a Proxy holds and how long it waits.
type Limits struct {
	// ConnectTimeout is how long a pod has to take a connection and to send its
	// SETTINGS on it.
	ConnectTimeout time.Duration
	// DrainTimeout is how long calls and spliced connections may stay on a pod that
	// was removed.
	DrainTimeout time.Duration
	// ShutdownTimeout is how long Proxy.Run waits for calls when its context ends.
	ShutdownTimeout time.Duration
	// SilentAfter is for how long a pod may leave data unacknowledged before it is
	// not chosen any more, DeadAfter before its connection is closed. Both need
	// Linux.
	SilentAfter, DeadAfter time.Duration
	// SniffTimeout is how long a client has to say what it speaks. One that says
	// nothing waits for the server to speak first, and is spliced.
	SniffTimeout time.Duration
	// MaxClients is how many connections of clients may be open; further ones are
	// closed at once.
	MaxClients int
	// MaxConnectionsPerPod is how many connections a pod gets at most when the
	// streams that it allows on one are used up. config.ConnectionsPerEndpoint is
	// how many it gets in any case.
	MaxConnectionsPerPod int
	// Relay bounds calls; the zero value means relay.DefaultConfig.
	Relay relay.Config
}

// DefaultLimits returns the defaults.
//
// DrainTimeout is longer than most pods' grace period (30 s unless they say
// otherwise), which ends their streams anyway: it is for pods that live on without
// being ready, whose streams should not stay there for ever. ShutdownTimeout is
// shorter than that grace period, so that what is left then is ended with a status
// and not by a SIGKILL.
func DefaultLimits() Limits {
	return Limits{
		ConnectTimeout:       5 * time.Second,
		DrainTimeout:         5 * time.Minute,
		ShutdownTimeout:      25 * time.Second,
		SilentAfter:          1500 * time.Millisecond,
		DeadAfter:            20 * time.Second,
		SniffTimeout:         3 * time.Second,
		MaxClients:           1024,
		MaxConnectionsPerPod: 8,
		Relay:                relay.DefaultConfig(),
	}
}

// Validate reports every field that is out of its range.
func (l Limits) Validate() error {
	var errs []error
	for _, f := range []struct {
		name     string
		v        time.Duration
		min, max time.Duration
	}{
		{"ConnectTimeout", l.ConnectTimeout, 10 * time.Millisecond, time.Minute},
		{"DrainTimeout", l.DrainTimeout, time.Millisecond, 24 * time.Hour},
		{"ShutdownTimeout", l.ShutdownTimeout, time.Millisecond, 24 * time.Hour},
		{"SilentAfter", l.SilentAfter, 100 * time.Millisecond, time.Minute},
		{"DeadAfter", l.DeadAfter, l.SilentAfter, time.Hour},
		{"SniffTimeout", l.SniffTimeout, time.Millisecond, time.Minute},
	} {
		if f.v < f.min || f.v > f.max {
			errs = append(errs, fmt.Errorf("%s is %v: from %v to %v is allowed", f.name, f.v, f.min, f.max))
		}
	}
	if l.MaxClients < 1 || l.MaxClients > 1<<20 {
		errs = append(errs, fmt.Errorf("MaxClients is %d: from 1 to %d is allowed", l.MaxClients, 1<<20))
	}
	if l.MaxConnectionsPerPod < 1 || l.MaxConnectionsPerPod > 64 {
		errs = append(errs, fmt.Errorf("MaxConnectionsPerPod is %d: from 1 to 64 is allowed", l.MaxConnectionsPerPod))
	}
	return errors.Join(append(errs, l.Relay.Validate())...)
}

// filled gives fields that are 0 their default.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ v, def *time.Duration }{
		{&l.ConnectTimeout, &d.ConnectTimeout}, {&l.DrainTimeout, &d.DrainTimeout}, {&l.ShutdownTimeout, &d.ShutdownTimeout},
		{&l.SilentAfter, &d.SilentAfter}, {&l.DeadAfter, &d.DeadAfter}, {&l.SniffTimeout, &d.SniffTimeout},
	} {
		if *f.v == 0 {
			*f.v = *f.def
		}
	}
	if l.MaxClients == 0 {
		l.MaxClients = d.MaxClients
	}
	if l.MaxConnectionsPerPod == 0 {
		l.MaxConnectionsPerPod = d.MaxConnectionsPerPod
	}
	if l.Relay == (relay.Config{}) {
		l.Relay = d.Relay
	}
	return l
}

// settings are Options that were checked.
type settings struct {
	Options
	target endpoint.Target
	listen []netip.AddrPort
}

// check fills in defaults and reports everything that is wrong.
func (o Options) check() (settings, error) {
	s := settings{Options: o}
	var errs []error
	target, err := ParseTarget(o.Target)
	if err != nil {
		errs = append(errs, fmt.Errorf("target: %w", err))
	}
	s.target = target
	if len(o.Listen) == 0 {
		errs = append(errs, errors.New("listen: there is no address to listen on"))
	}
	for _, text := range o.Listen {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("listen: %q is not IP:PORT or [IPv6]:PORT: %w", text, err))
			continue
		}
		s.listen = append(s.listen, a)
	}
	if s.Name == "" {
		s.Name = o.Target
	}
	if s.Policy == (config.Config{}) {
		s.Policy = config.Default(config.PeakEWMA)
	}
	if err := s.Policy.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("policy: %w", err))
	}
	s.Limits = o.Limits.filled()
	if err := s.Limits.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("limits: %w", err))
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return s, errors.Join(errs...)
}

// open makes a source as the policy wants it.
func (s *settings) open() (endpoint.Source, error) {
	return dnstuning.Opener(s.Opener, s.Policy.Refresh).Open(s.target)
}
