package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// SourceName is what Sets of this package have as Source.
const SourceName = "kube"

// Option changes what New makes.
type Option func(*options)

type options struct {
	config     *rest.Config // nil: in-cluster
	namespace  string       // "": the pod's
	prefer6    bool
	staleAfter time.Duration

	namespaceFile string
}

// WithConfig uses the cluster that cfg leads to, outside a cluster or in tests;
// the default is [rest.InClusterConfig]. The configuration is copied; its
// Timeout is not used, since it would end watches, nor are its QPS and Burst.
func WithConfig(cfg *rest.Config) Option {
	return func(o *options) { o.config = cfg }
}

// WithNamespace says where a Service is whose target names no namespace; the
// default is the pod's own namespace.
func WithNamespace(namespace string) Option {
	return func(o *options) { o.namespace = namespace }
}

// PreferIPv6 puts the IPv6 address of a dual-stack pod first; the default is
// IPv4 first.
func PreferIPv6() Option {
	return func(o *options) { o.prefer6 = true }
}

// WithStaleAfter sets how long a watch may be silent before it is not believed;
// the default is 90 s. API servers send a bookmark about every minute, so that
// less than that costs requests.
func WithStaleAfter(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.staleAfter = d
		}
	}
}

// New returns an opener of sources that watch EndpointSlices. Its sources are
// [endpoint.Asker] as well.
func New(opts ...Option) endpoint.Opener {
	o := options{staleAfter: staleAfter, namespaceFile: "/var/run/secrets/kubernetes.io/serviceaccount/namespace"}
	for _, opt := range opts {
		opt(&o)
	}
	return endpoint.OpenerFunc(func(t endpoint.Target) (endpoint.Source, error) { return open(o, t) })
}

// ErrTarget is wrapped by the errors of Open: the target is none of a Service.
var ErrTarget = errors.New("not the name of a Service")

func open(o options, t endpoint.Target) (endpoint.Source, error) {
	name, namespace, err := serviceName(t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", t, ErrTarget, err)
	}
	if namespace == "" {
		namespace = o.namespace
	}
	return &source{
		options: o, name: name, namespace: namespace, port: wanted{t.Port, t.PortName},
		asked: make(chan struct{}, 1),
	}, nil
}

// dnsLabel is what Kubernetes takes for the name of a Service (RFC 1035; RFC
// 1123 since KEP-5311) or namespace.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// serviceName takes the Service's name and namespace, "" when it is not written,
// from a target's name.
func serviceName(t endpoint.Target) (name, namespace string, err error) {
	switch {
	case t.IsIP():
		return "", "", errors.New("it is an address")
	case t.Server != "":
		return "", "", fmt.Errorf("it asks the DNS server %s", t.Server)
	}
	labels := strings.Split(strings.ToLower(t.Host), ".")
	if len(labels) > 2 && labels[2] != "svc" {
		return "", "", errors.New("a Service is NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc with or without the cluster's domain")
	}
	if t.Absolute && len(labels) < 3 {
		return "", "", errors.New("with the dot at its end it is complete, and no Service's name in DNS is that short")
	}
	name = labels[0]
	if len(labels) > 1 {
		namespace = labels[1]
	}
	for _, l := range labels[:min(2, len(labels))] {
		if !dnsLabel.MatchString(l) {
			return "", "", fmt.Errorf("%q is not of lower-case letters, digits and hyphens", l)
		}
	}
	return name, namespace, nil
}

// source watches one Service.
type source struct {
	options
	name, namespace string
	port            wanted

	asked   chan struct{} // a question waits
	pending questions
}

// Run implements [endpoint.Source].
func (s *source) Run(ctx context.Context, sink endpoint.Sink) error {
	if s.config == nil {
		var err error
		if s.config, err = rest.InClusterConfig(); err != nil {
			return fmt.Errorf("find the API server: %w", err)
		}
	}
	if s.namespace == "" {
		b, err := os.ReadFile(s.namespaceFile)
		if err != nil {
			return fmt.Errorf("find the namespace of Service %s, which the target does not name: %w", s.name, err)
		}
		s.namespace = strings.TrimSpace(string(b))
	}
	api, err := newAPI(s.config)
	if err != nil {
		return fmt.Errorf("make a client for the API server: %w", err)
	}
	f := &follower{source: s, api: api, sink: sink, slices: map[string]slice{}, warned: map[string]bool{}}
	f.run(ctx)
	f.api.close()
	return nil
}

// Ask implements [endpoint.Asker]. A question without Verify is answered with
// what the watch has told; with Verify, with a state that the server gives anew,
// at most every 5 s.
func (s *source) Ask(q endpoint.Question) {
	s.pending.add(q)
	select {
	case s.asked <- struct{}{}:
	default: // one waits already
	}
}
