// Package channel opens the one gRPC channel that each example client uses. It exists so that all of them differ only
// in what the examples are about: the target and the balancing policy. It refuses to balance by itself; that is
// grpc-go's work.
package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Policy is a grpc-go load-balancing policy, by the name used in a service config.
type Policy string

// The policies that need no import beyond grpc itself.
const (
	// PickFirst keeps one connection, to the first address that answers: every client's default.
	PickFirst Policy = "pick_first"
	// RoundRobin keeps a connection to each address and takes them in turn, one call each.
	RoundRobin Policy = "round_robin"
)

// ParsePolicy accepts the name of a Policy; anything else is an error that lists the names.
func ParsePolicy(name string) (Policy, error) {
	switch p := Policy(name); p {
	case PickFirst, RoundRobin:
		return p, nil
	default:
		return "", fmt.Errorf("unknown balancing policy %q: want %s or %s", name, PickFirst, RoundRobin)
	}
}

// reconnectCeiling bounds the pause between two attempts to connect. The default of two minutes would leave a client that
// started before its servers unable to answer long after they are ready.
const reconnectCeiling = 5 * time.Second

// Options say how to open a channel; the zero value is plaintext with PickFirst.
type Options struct {
	Policy Policy
	// TLS verifies the server; nil means plaintext.
	TLS *tls.Config
	// OnDialError, if set, hears of each TCP connection that could not be opened. It may be called from several
	// goroutines at once.
	OnDialError func(address string, err error)
}

// Open makes a channel to a target in gRPC's own syntax (dns:///host:port, passthrough:///host:port). It does not wait
// for a connection: call Connect on the result to start one before the first call.
func Open(target string, o Options) (*grpc.ClientConn, error) {
	policy := o.Policy
	if policy == "" {
		policy = PickFirst
	}
	creds := insecure.NewCredentials()
	if o.TLS != nil {
		creds = credentials.NewTLS(o.TLS)
	}
	pause := backoff.DefaultConfig
	pause.MaxDelay = reconnectCeiling
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, string(policy))),
		// The policy is ours to choose: a TXT record must not override it, nor cost a query at each resolution.
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: reconnectCeiling}),
	}
	if o.OnDialError != nil {
		options = append(options, grpc.WithContextDialer(reportingDialer(o.OnDialError)))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("open a channel to %s: %w", target, err)
	}
	return conn, nil
}

func reportingDialer(report func(string, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			// A dial that we cancelled ourselves says nothing about the other side.
			if !errors.Is(ctx.Err(), context.Canceled) {
				report(address, err)
			}
			return nil, fmt.Errorf("dial: %w", err)
		}
		return conn, nil
	}
}
