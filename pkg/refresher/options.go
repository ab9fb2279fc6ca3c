package refresher

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Option changes a default of [New]. Of two that say the same thing the later
// one counts; what a service config says counts more than either.
type Option func(*settings)

// Scheme is the scheme of targets unless [WithScheme] says otherwise.
const Scheme = "refresh"

// settings is what the options change.
type settings struct {
	scheme        string
	source        endpoint.Opener
	serviceConfig string
	serviceName   string
	defaultPort   string
	config        config.Config
	events        []func(Event)
	logger        *slog.Logger
}

// settingsOf are the defaults, changed.
func settingsOf(opts []Option) settings {
	s := settings{scheme: Scheme, config: config.Default(config.PeakEWMA), logger: slog.Default()}
	for _, o := range opts {
		if o != nil {
			o(&s)
		}
	}
	return s
}

// WithSource takes endpoints from a source other than DNS: auto.New() or
// kube.New() of the packages below source, a static.Source in tests, or one of
// your own. nil means DNS. A source that is a config.Tuner, as auto's, looks as
// often as the configuration says; a dns.New() has its own options.
func WithSource(o endpoint.Opener) Option { return func(s *settings) { s.source = o } }

// WithScheme takes over targets of another scheme: WithScheme("dns") makes
// dns:///name:port, which much code has in its configuration, fresh. It applies
// to channels with this Refresher's dial option alone. The default is [Scheme].
func WithScheme(scheme string) Option { return func(s *settings) { s.scheme = scheme } }

// WithServiceConfig merges a gRPC service config in JSON with ours, which names
// the balancing policy: methodConfig, retryThrottling and healthCheckConfig are
// handed on as they are. A loadBalancingConfig in it chooses and tunes the
// policy; see package config for ours. Stock policies work too, without what
// ours add. A channel has one service config: grpc.WithDefaultServiceConfig is
// not used by a channel whose resolver brings one, as this one does.
func WithServiceConfig(json string) Option { return func(s *settings) { s.serviceConfig = json } }

// WithConfig tunes the policy in Go; config.Default(config.RoundRobin) is where
// to begin.
func WithConfig(c config.Config) Option { return func(s *settings) { s.config = c } }

// WithPolicy chooses one of the policies of package config, with the tuning so
// far. The default is config.PeakEWMA.
func WithPolicy(name string) Option { return func(s *settings) { s.config.Policy = name } }

// WithServiceName is the channel's authority, and so the name that TLS
// certificates are held against, in place of the target's host. Targets of a
// headless twin keep the certificates of the Service with it.
func WithServiceName(name string) Option { return func(s *settings) { s.serviceName = name } }

// WithDefaultPort is the port, a number or a name, of targets that have none.
// Without it such a target is an error, or has port 443 under the scheme "dns",
// as in grpc-go.
func WithDefaultPort(port string) Option { return func(s *settings) { s.defaultPort = port } }

// WithInterval is the time between two DNS look-ups, give or take 10 %. At least
// 1 s; the default is 5 s.
func WithInterval(d time.Duration) Option {
	return func(s *settings) {
		s.config.Refresh.Interval = d
		s.config.Refresh.MaxInterval = max(d, s.config.Refresh.MaxInterval)
	}
}

// WithHeadlessTwin says whether NAME-headless is used for a NAME that turns out
// to be a ClusterIP. The default is true.
func WithHeadlessTwin(follow bool) Option {
	return func(s *settings) { s.config.Refresh.FollowHeadlessTwin = follow }
}

// WithConnectionsPerEndpoint opens so many connections to each endpoint, 1 to
// 64. The default is 1.
func WithConnectionsPerEndpoint(n int) Option {
	return func(s *settings) { s.config.ConnectionsPerEndpoint = n }
}

// WithEvents calls f for everything that happens to a target's endpoints: one
// call at a time, in order, on a goroutine of its own. Given more than once, all
// are called. Events that a slow f has no time for are dropped, and counted in
// [Stats].
func WithEvents(f func(Event)) Option {
	return func(s *settings) {
		if f != nil {
			s.events = append(s.events, f)
		}
	}
}

// WithLogger writes events to a logger other than slog.Default(): what a person
// should do something about as a warning, once; changes of endpoints at Debug.
// slog.New(slog.DiscardHandler) silences it.
func WithLogger(l *slog.Logger) Option { return func(s *settings) { s.logger = l } }

// schemes is RFC 3986 section 3.1 in lower case, which is how grpc-go compares.
var schemes = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)

// validate reports everything that is wrong with the options.
func (s *settings) validate() error {
	var errs []error
	if !schemes.MatchString(s.scheme) {
		errs = append(errs, fmt.Errorf("scheme %q: it takes lower-case letters, digits and + . - after a letter", s.scheme))
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.defaultPort == "" && s.scheme == "dns" {
		s.defaultPort = "443"
	}
	if s.defaultPort != "" {
		if _, err := endpoint.ParseTarget("", "a:"+s.defaultPort, ""); err != nil {
			_, why, _ := strings.Cut(err.Error(), `": `)
			errs = append(errs, fmt.Errorf("default port: %s", why))
		}
	}
	if err := s.config.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
