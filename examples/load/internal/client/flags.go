package client

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tlsfiles"
)

// EnvServerHost is the target when no --target is given: HOST, HOST:PORT, or a gRPC target.
const EnvServerHost = "SERVER_HOST"

// options are the command line, ready to run.
type options struct {
	target         target
	channel        channel.Options
	count          int64
	concurrency    int
	callTimeout    time.Duration
	connectTimeout time.Duration
	hold           bool
}

// target is where the calls go.
type target struct {
	// dial is the target in grpc-go's own syntax.
	dial string
	// host and port are what the dialled name asks for.
	host string
	port int
}

// readFlags returns pflag.ErrHelp when the usage was asked for and printed, and a usage error for what makes no sense.
func readFlags(env app.Env) (options, error) {
	var o options
	var address, policy, caFile string
	var useTLS bool
	flags := pflag.NewFlagSet("load-client", pflag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.SortFlags = false
	flags.StringVar(&address, "target", env.Getenv(EnvServerHost), "host[:port] or dns:///host[:port] to call (default: $"+EnvServerHost+")")
	flags.Int64VarP(&o.count, "count", "n", 1_000_000, "number of calls")
	flags.IntVarP(&o.concurrency, "concurrency", "c", 10, "goroutines that share the one channel")
	flags.StringVar(&policy, "policy", string(channel.RoundRobin), "balancing policy of the channel: pick_first or round_robin")
	flags.BoolVar(&useTLS, "tls", false, "use TLS and verify the server")
	flags.StringVar(&caFile, "tls-ca", "", "PEM file with the authorities to trust (default: the system's); implies --tls")
	flags.DurationVar(&o.callTimeout, "call-timeout", 5*time.Second, "time limit of one call")
	flags.DurationVar(&o.connectTimeout, "connect-timeout", 20*time.Second, "time limit of the first connection")
	flags.BoolVar(&o.hold, "hold", false, "after the tally, keep the channel open until a signal")
	if err := flags.Parse(env.Args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return o, err
		}
		return o, app.Usagef("%w (see --help)", err)
	}
	if flags.NArg() > 0 {
		return o, app.Usagef("unexpected argument %q (see --help)", flags.Arg(0))
	}
	if err := o.check(); err != nil {
		return o, &app.UsageError{Err: err}
	}
	var err error
	if o.channel.Policy, err = channel.ParsePolicy(policy); err != nil {
		return o, app.Usagef("--policy: %w", err)
	}
	if useTLS || caFile != "" {
		if o.channel.TLS, err = tlsfiles.Client(caFile); err != nil {
			return o, fmt.Errorf("--tls-ca: %w", err)
		}
	}
	if o.target, err = parseTarget(address, o.channel.TLS != nil); err != nil {
		return o, &app.UsageError{Err: err}
	}
	return o, nil
}

func (o options) check() error {
	switch {
	case o.count < 1:
		return fmt.Errorf("--count=%d: must be at least 1", o.count)
	case o.concurrency < 1 || o.concurrency > 10_000:
		return fmt.Errorf("--concurrency=%d: must be from 1 to 10000", o.concurrency)
	case o.callTimeout <= 0:
		return fmt.Errorf("--call-timeout=%v: must be positive", o.callTimeout)
	case o.connectTimeout <= 0:
		return fmt.Errorf("--connect-timeout=%v: must be positive", o.connectTimeout)
	}
	return nil
}

// parseTarget completes an address as grpc-java would: no scheme means dns, no port means 80, or 443 with TLS.
func parseTarget(address string, tls bool) (target, error) {
	if address == "" {
		return target{}, fmt.Errorf("nothing to call: set %s or --target to HOST:PORT", EnvServerHost)
	}
	prefix, endpoint := "dns:///", address
	if scheme, rest, found := strings.Cut(address, "://"); found {
		authority, name, slash := strings.Cut(rest, "/")
		if !slash || (scheme != "dns" && scheme != "passthrough") {
			return target{}, fmt.Errorf("target %q: want HOST:PORT, dns:///HOST:PORT or passthrough:///HOST:PORT", address)
		}
		prefix, endpoint = scheme+"://"+authority+"/", name
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		var wrong *net.AddrError
		if !errors.As(err, &wrong) || wrong.Err != "missing port in address" {
			return target{}, fmt.Errorf("target %q: %w", address, err)
		}
		host, port = strings.Trim(endpoint, "[]"), "80"
		if tls {
			port = "443"
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return target{}, fmt.Errorf("target %q: %q is not a port number", address, port)
	}
	if host == "" {
		return target{}, fmt.Errorf("target %q names no host", address)
	}
	return target{dial: prefix + net.JoinHostPort(host, port), host: host, port: int(number)}, nil
}
