package refresher

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver/plain"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/dnstuning"
)

// DisableVariable is the environment variable that switches the refresher off
// when it is neither empty nor "0" nor "false": channels then use stock grpc-go's
// DNS resolver and round_robin, with the same targets and the rest of the service
// config. It is read by [New].
const DisableVariable = "GRPCLB_REFRESHER_DISABLE"

// Refresher keeps the channels that use its dial option fresh. Channels to one
// target share what it knows, so one Refresher for a program is enough. It has
// nothing to close: it works while a channel does. Its methods may be called from
// any goroutine.
type Refresher struct {
	builder       resolver.Builder
	live          *grpcresolver.Builder // nil when switched off
	config        config.Config
	serviceConfig string
}

// Event is something that happened to the endpoints of a target.
type Event struct {
	// Target is the channel's, as it was dialled:
	// "refresh:///square-service.default:grpc".
	Target string
	// What is one of the event types of package endpoint. There may be more of
	// them one day: a switch needs a default.
	What endpoint.Event
}

// Stats is what a Refresher knows at a moment.
type Stats struct {
	// Disabled means that [DisableVariable] is set: there is nothing to count.
	Disabled bool
	// Targets are those that channels used, by name.
	Targets []TargetStats
}

// TargetStats is one target.
type TargetStats = grpcresolver.TargetStats

// New returns a Refresher. It does no I/O and starts nothing. The error names
// every option that is wrong.
func New(opts ...Option) (*Refresher, error) {
	s := settingsOf(opts)
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("refresher: %w", err)
	}
	serviceConfig, inForce, err := merge(s.serviceConfig, s.config)
	if err != nil {
		return nil, fmt.Errorf("refresher: %w", err)
	}
	r := &Refresher{config: inForce, serviceConfig: serviceConfig}
	if disabled() {
		err = r.switchOff(s)
	} else {
		err = r.switchOn(s)
	}
	if err != nil {
		return nil, fmt.Errorf("refresher: %w", err)
	}
	return r, nil
}

func (r *Refresher) switchOn(s settings) error {
	if err := check(r.serviceConfig); err != nil {
		return err
	}
	o := grpcresolver.Options{
		Scheme: s.scheme, Opener: dnstuning.Opener(s.source, r.config.Refresh), ServiceConfig: r.serviceConfig, Tuning: r.config,
		ServiceName: s.serviceName, DefaultPort: s.defaultPort, Logger: s.logger,
	}
	if len(s.events) > 0 {
		o.Events = func(target string, e endpoint.Event) {
			for _, f := range s.events {
				f(Event{Target: target, What: e})
			}
		}
	}
	var err error
	r.live, err = grpcresolver.New(o)
	r.builder = r.live
	return err
}

func (r *Refresher) switchOff(s settings) error {
	var err error
	if r.serviceConfig, err = withoutOurs(r.serviceConfig); err != nil {
		return err
	}
	if err := check(r.serviceConfig); err != nil {
		return err
	}
	r.builder = plain.New(plain.Options{
		Scheme: s.scheme, ServiceConfig: r.serviceConfig, ServiceName: s.serviceName, DefaultPort: s.defaultPort,
	})
	s.logger.Warn("refresher: switched off: stock DNS resolution and round_robin, new pods are found late", "by", DisableVariable)
	return nil
}

func disabled() bool {
	switch v := strings.ToLower(os.Getenv(DisableVariable)); v {
	case "", "0", "false":
		return false
	}
	return true
}

// DialOption makes a channel use the Refresher for targets of its scheme. It is
// grpc.WithResolvers and nothing else: credentials, interceptors, keepalive and
// all other options are the application's. See [ExtraDialOptions] for what pays
// beside it.
func (r *Refresher) DialOption() grpc.DialOption { return grpc.WithResolvers(r.builder) }

// ServiceConfig is the JSON that channels get, with every field of our policy.
func (r *Refresher) ServiceConfig() string { return r.serviceConfig }

// Config is the tuning in force: the defaults, changed by options, changed by
// the service config.
func (r *Refresher) Config() config.Config { return r.config }

// Stats returns what is known of every target that a channel used. It takes time
// in the number of endpoints, some 20 ms for 10,000; choosing an endpoint for a
// call never waits for it, a change of the endpoints does.
func (r *Refresher) Stats() Stats {
	if r.live == nil {
		return Stats{Disabled: true}
	}
	return Stats{Targets: r.live.Stats()}
}

// Has reports whether a target, in the form of the channel's CanonicalTarget
// method, has an endpoint at addr, one that the guard holds included. It is the
// part of Stats that is cheap.
func (r *Refresher) Has(target string, addr netip.AddrPort) bool {
	return r.live != nil && r.live.Has(target, addr)
}

// Refresh looks every target up now that a channel uses. It returns at once;
// sources bound how often they really look.
func (r *Refresher) Refresh() {
	if r.live != nil {
		r.live.Refresh()
	}
}

// WaitEndpoints returns nil once every target that a channel uses has n endpoints
// connected, or an error that says how many there are when ctx ends. Call Connect
// on the channel first: grpc.NewClient does nothing before the first call.
// Switched off, it returns nil at once, so that a start-up does not hang on it.
//
// It is for tests and start-up, where the first calls should already be spread.
func (r *Refresher) WaitEndpoints(ctx context.Context, n int) error { return r.WaitTarget(ctx, "", n) }

// WaitTarget is WaitEndpoints for one of several targets, in the form of the
// channel's CanonicalTarget method: "refresh:///square.default:grpc".
func (r *Refresher) WaitTarget(ctx context.Context, target string, n int) error {
	if r.live == nil {
		return nil
	}
	return r.live.Wait(ctx, target, n)
}

// DialOption is New(opts...).DialOption() for who needs neither Stats nor
// Refresh. What is wrong with the options is the error of every call.
func DialOption(opts ...Option) grpc.DialOption {
	r, err := New(opts...)
	if err != nil {
		scheme := settingsOf(opts).scheme
		if !schemes.MatchString(scheme) {
			scheme = Scheme // no target could have the other
		}
		return grpc.WithResolvers(broken{scheme: scheme, err: err})
	}
	return r.DialOption()
}

// broken is a resolver.Builder that only says what is wrong.
type broken struct {
	scheme string
	err    error
}

func (b broken) Scheme() string { return b.scheme }

func (b broken) Build(resolver.Target, resolver.ClientConn, resolver.BuildOptions) (resolver.Resolver, error) {
	return nil, b.err
}
