package pool

import (
	"time"

	"google.golang.org/grpc"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
)

// Defaults of the options.
const (
	// DefaultConnectionsPerEndpoint doubles what a server's cap allows, and is
	// what tells a pool from a channel.
	DefaultConnectionsPerEndpoint = 2
	// DefaultDrainTimeout is the time that Kubernetes gives a pod that it ends
	// (terminationGracePeriodSeconds): after it the process is gone anyway.
	DefaultDrainTimeout = 30 * time.Second
)

// Option changes a default of [New].
type Option func(*options)

type options struct {
	dial        []grpc.DialOption
	refresher   []refresher.Option
	connections refresher.Option // nil: the default, unless another option says otherwise
	drain       time.Duration
}

// WithConnectionsPerEndpoint opens so many connections to each endpoint, 1 to 64.
// The default is [DefaultConnectionsPerEndpoint]. A number that is given
// here wins over the same field of a refresher.WithConfig.
func WithConnectionsPerEndpoint(n int) Option {
	return func(o *options) { o.connections = refresher.WithConnectionsPerEndpoint(n) }
}

// WithDrainTimeout ends calls that are still on an endpoint so long after it was
// removed. The default is [DefaultDrainTimeout]; 0 lets them end by themselves.
func WithDrainTimeout(d time.Duration) Option { return func(o *options) { o.drain = d } }

// WithDialOptions adds options of the channel: credentials at the least. They
// come after the pool's own, which are those of refresher.ExtraDialOptions.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, opts...) }
}

// WithRefresherOptions adds options of the refresher: its source, service config
// and so on. An event hook among them is called as well.
func WithRefresherOptions(opts ...refresher.Option) Option {
	return func(o *options) { o.refresher = append(o.refresher, opts...) }
}
