package grpcresolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// DefaultScheme is the scheme of targets unless [Options] say otherwise.
const DefaultScheme = "refresh"

// Options of [New]. Only Opener has no default.
type Options struct {
	// Scheme is the scheme of targets in lower case, "" for [DefaultScheme].
	Scheme string
	// Opener makes the source for each target.
	Opener endpoint.Opener
	// ServiceConfig is the channels' service config as JSON
	// (https://github.com/grpc/grpc/blob/master/doc/service_config.md), "" for
	// none. A loadBalancingConfig in it wins; without one the policy is
	// grpclb_refresher_peak_ewma with its defaults.
	ServiceConfig string
	// Tuning is in force where the service config names a policy that is not
	// ours, which the guard serves as well; the zero value means the defaults.
	Tuning config.Config
	// ServiceName is the channels' authority in place of the target's: the name
	// that the servers' certificates are for. "" for the target's.
	ServiceName string
	// DefaultPort is used for targets without a port; "" makes that an error.
	DefaultPort string
	// Events gets what happens to the endpoints of a target, one event at a time,
	// in order. It may block: events that do not fit into a queue of 1,024 are
	// dropped and counted ([TargetStats]). nil for nobody.
	Events func(target string, e endpoint.Event)
	// Logger gets the same for people; nil for none.
	Logger *slog.Logger
}

// Builder makes resolvers for the targets of one scheme. It implements
// resolver.Builder and resolver.AuthorityOverrider, is safe for concurrent use
// and may serve any number of channels.
type Builder struct {
	options Options
	config  serviceConfig
	events  *queue
	failing map[string]string // of the queue's goroutine: the last error by target

	mu   sync.Mutex
	hubs map[string]*hub
	used chan struct{} // closed and replaced when a channel begins to use a hub
}

// New returns a Builder. The error says which option is wrong.
func New(o Options) (*Builder, error) {
	if o.Opener == nil {
		return nil, errors.New("grpcresolver: no source: Options.Opener is nil")
	}
	if o.Scheme == "" {
		o.Scheme = DefaultScheme
	}
	if u, err := url.Parse(o.Scheme + ":///x"); err != nil || u.Scheme != o.Scheme {
		// Parsing makes schemes lower case (RFC 3986 section 3.1), so that another
		// one would never be found.
		return nil, fmt.Errorf("grpcresolver: %q is not a scheme: lower-case letters, digits, + - . are wanted", o.Scheme)
	}
	if o.Tuning == (config.Config{}) {
		o.Tuning = config.Default(config.PeakEWMA)
	}
	if err := o.Tuning.Validate(); err != nil {
		return nil, fmt.Errorf("grpcresolver: %w", err)
	}
	sc, err := mergeServiceConfig(o.ServiceConfig, o.Tuning)
	if err != nil {
		return nil, fmt.Errorf("grpcresolver: %w", err)
	}
	b := &Builder{options: o, config: sc, failing: map[string]string{}, hubs: map[string]*hub{}, used: make(chan struct{})}
	b.events = &queue{}
	if o.Events != nil || o.Logger != nil {
		b.events.deliver = b.deliver
	}
	return b, nil
}

// Scheme is part of resolver.Builder.
func (b *Builder) Scheme() string { return b.options.Scheme }

// ServiceConfig is the JSON that the channels get.
func (b *Builder) ServiceConfig() string { return b.config.json }

// OverrideAuthority is part of resolver.AuthorityOverrider. It is the target as
// it is with other resolvers, but without a port's name, which has no place in
// an authority (RFC 3986 section 3.2.3), and without a trailing dot, which no
// certificate has.
func (b *Builder) OverrideAuthority(t resolver.Target) string {
	if b.options.ServiceName != "" {
		return b.options.ServiceName
	}
	target, err := endpoint.ParseTarget(t.URL.Host, t.Endpoint(), b.options.DefaultPort)
	if err != nil {
		return "invalid" // Build will say what is wrong with it.
	}
	target.Absolute = false
	switch {
	case target.PortName != "":
		return target.Host
	case !strings.HasSuffix(t.Endpoint(), fmt.Sprintf(":%d", target.Port)):
		// The default port: grpc-go would not have it in the authority either.
		if strings.Contains(target.Host, ":") {
			return "[" + target.Host + "]"
		}
		return target.Host
	}
	return target.String()
}

// Build is part of resolver.Builder. The errors say what to do: gRPC gives them
// to every call.
func (b *Builder) Build(t resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if opts.DisableServiceConfig {
		return nil, fmt.Errorf("%s: service configs are disabled, but the load-balancing policy comes through one: remove grpc.WithDisableServiceConfig()", t.URL.Scheme)
	}
	target, err := endpoint.ParseTarget(t.URL.Host, t.Endpoint(), b.options.DefaultPort)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.URL.Scheme, err)
	}
	parsed := cc.ParseServiceConfig(b.config.json)
	if parsed != nil && parsed.Err != nil {
		return nil, fmt.Errorf("%s: the service config: %w", t.URL.Scheme, parsed.Err)
	}
	c := newChannel(b.hub(t.String(), target), cc, parsed)
	if err := c.hub.attach(c); err != nil {
		return nil, fmt.Errorf("%s: %w", t.URL.Scheme, err)
	}
	b.announce()
	c.start()
	return c, nil
}

// hub returns the target's hub, a new one the first time.
func (b *Builder) hub(name string, target endpoint.Target) *hub {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.hubs[name]; h != nil {
		h.touch()
		return h
	}
	for other, h := range b.hubs {
		if h.forgotten() {
			delete(b.hubs, other)
		}
	}
	h := newHub(name, b.config.policy, b.events)
	h.touch()
	h.ours = b.config.ours
	h.open = func() (endpoint.Source, error) { return b.options.Opener.Open(target) }
	b.hubs[name] = h
	return h
}

// announce wakes who waits for a target to be used.
func (b *Builder) announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.used)
	b.used = make(chan struct{})
}

// all lists the hubs by name.
func (b *Builder) all() []*hub {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*hub, 0, len(b.hubs))
	for _, h := range b.hubs {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, c *hub) int { return strings.Compare(a.name, c.name) })
	return out
}

// Refresh asks for every target that a channel uses now. It does not wait.
func (b *Builder) Refresh() {
	for _, h := range b.all() {
		h.ask(endpoint.Question{})
	}
}

// Wait returns once target has n endpoints or more that are connected; with a
// load-balancing policy that is not ours, that are known. A target is written as
// the channel's: "refresh:///square.default:grpc"; "" means all that channels of
// this Builder use now, of which there must be one. A channel looks
// nothing up before its first call or Connect. The error, when ctx ends, says
// how many there are.
func (b *Builder) Wait(ctx context.Context, target string, n int) error {
	for {
		changed, missing := b.missing(target, n)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", missing, context.Cause(ctx))
		case <-changed:
		}
	}
}

// missing says what Wait waits for, with a channel that is closed when that may
// have changed.
func (b *Builder) missing(target string, n int) (<-chan struct{}, error) {
	b.mu.Lock()
	used := b.used
	b.mu.Unlock()
	found := false
	for _, h := range b.all() {
		if target != "" && h.name != target || target == "" && !h.inService() {
			continue
		}
		found = true
		if changed, err := h.missing(n); err != nil {
			return changed, err
		}
	}
	if !found {
		name := target
		if name == "" {
			name = "any target"
		}
		return used, fmt.Errorf("no channel to %s was used yet: call Connect on it", name)
	}
	return nil, nil
}

// inService reports whether a channel uses the hub. One that is closed or idle
// does not.
func (h *hub) inService() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.channels) > 0
}
