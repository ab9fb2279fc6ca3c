// Package plain is what a channel uses when the refresher is switched off: the
// targets of the refresher, resolved by grpc-go's own DNS resolver.
//
// It refuses to do anything that stock grpc-go does not do. It exists so that at
// 3 a.m. an environment variable rules the refresher out as the cause, with no
// new build and no other target: see GRPCLB_REFRESHER_DISABLE in package
// refresher. The one thing that it adds is the name of a port, which stock
// grpc-go cannot resolve: an SRV look-up gives the number.
//
//	grpc.WithResolvers(plain.New(plain.Options{Scheme: "refresh"}))
package plain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Options of [New].
type Options struct {
	// Scheme is the scheme of the targets.
	Scheme string
	// ServiceConfig is handed to the channel with the addresses; "" hands on what
	// stock grpc-go found.
	ServiceConfig string
	// ServiceName is the channel's authority in place of the target's, "" for the
	// target's.
	ServiceName string
	// DefaultPort is used for targets without a port, "" for grpc-go's 443.
	DefaultPort string
}

// New returns a resolver.Builder for targets of the refresher. It does nothing
// until a channel builds a resolver.
func New(o Options) resolver.Builder { return builder{o} }

type builder struct{ Options }

// Scheme is part of resolver.Builder.
func (b builder) Scheme() string { return b.Options.Scheme }

// OverrideAuthority is part of resolver.AuthorityOverrider. A port's name has
// no place in an authority (RFC 3986 section 3.2.3).
func (b builder) OverrideAuthority(t resolver.Target) string {
	if b.ServiceName != "" {
		return b.ServiceName
	}
	if target, err := b.parse(t); err == nil && target.PortName != "" {
		return target.Host
	}
	return t.Endpoint()
}

func (b builder) parse(t resolver.Target) (endpoint.Target, error) {
	port := b.DefaultPort
	if port == "" {
		port = "443"
	}
	return endpoint.ParseTarget(t.URL.Host, t.Endpoint(), port)
}

// Build is part of resolver.Builder.
func (b builder) Build(t resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	stock := resolver.Get("dns")
	if stock == nil {
		return nil, errors.New("grpc-go's DNS resolver is not registered")
	}
	target, err := b.parse(t)
	if err != nil {
		return nil, err
	}
	w := &wrapped{ClientConn: cc, target: target}
	if b.ServiceConfig != "" && !opts.DisableServiceConfig {
		w.config = cc.ParseServiceConfig(b.ServiceConfig)
	}
	host, port := target.Host, strconv.Itoa(int(target.Port))
	if target.Absolute {
		host += "."
	}
	if target.PortName != "" {
		port = placeholder
	}
	asDNS := url.URL{Scheme: "dns", Host: target.Server, Path: "/" + net.JoinHostPort(host, port)}
	return stock.Build(resolver.Target{URL: asDNS}, w, opts)
}

// placeholder stands for the port of a target that names it, until it is known.
const placeholder = "1"

// lookUpTimeout bounds the look-up of a port's name; it is the DNS client's own
// with a retry (resolv.conf(5): 5 s).
const lookUpTimeout = 10 * time.Second

// wrapped gives the channel what stock grpc-go found, with our service config
// and the number of the port.
type wrapped struct {
	resolver.ClientConn
	target endpoint.Target
	config *serviceconfig.ParseResult
}

// UpdateState is part of resolver.ClientConn.
func (w *wrapped) UpdateState(s resolver.State) error {
	if w.config != nil {
		s.ServiceConfig = w.config
	}
	if w.target.PortName != "" && len(s.Addresses)+len(s.Endpoints) > 0 {
		port, err := w.port()
		if err != nil {
			w.ReportError(err)
			return err
		}
		s = withPort(s, port)
	}
	return w.ClientConn.UpdateState(s)
}

// port asks for the number of the port by its name. Pods that have different
// numbers for one name are more than plain resolution can do.
func (w *wrapped) port() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookUpTimeout)
	defer cancel()
	r := net.DefaultResolver
	if w.target.Server != "" {
		r = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, w.target.Server)
		}}
	}
	host := w.target.Host
	if w.target.Absolute {
		host += "."
	}
	_, records, err := r.LookupSRV(ctx, w.target.PortName, "tcp", host)
	if err != nil {
		return "", fmt.Errorf("look up the port %q of %s: %w", w.target.PortName, w.target.Host, err)
	}
	return strconv.Itoa(int(records[0].Port)), nil
}

func withPort(s resolver.State, port string) resolver.State {
	set := func(in []resolver.Address) []resolver.Address {
		out := make([]resolver.Address, len(in))
		for i, a := range in {
			a.Addr = strings.TrimSuffix(a.Addr, ":"+placeholder) + ":" + port
			out[i] = a
		}
		return out
	}
	s.Addresses = set(s.Addresses)
	endpoints := make([]resolver.Endpoint, len(s.Endpoints))
	for i, e := range s.Endpoints {
		e.Addresses = set(e.Addresses)
		endpoints[i] = e
	}
	s.Endpoints = endpoints
	return s
}
