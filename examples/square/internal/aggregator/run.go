package aggregator

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
)

// The environment variables that the aggregator reads, named as the Spring application names them where it has one.
const (
	// EnvAddress is the target, as ParseTarget reads it. It must be set.
	EnvAddress = "GRPC_CLIENT_SQUARE_ADDRESS"
	// EnvPolicy overrides the policy that goes with the address's scheme.
	EnvPolicy = "GRPC_CLIENT_SQUARE_POLICY"
	// EnvLoad is a number of background calls per second; unset or 0 means none.
	EnvLoad = "GRPC_CLIENT_SQUARE_LOAD"
	// EnvPort is the HTTP port, 8080 by default.
	EnvPort = "SERVER_PORT"
)

// maxLoad keeps a typing error from turning an example into an attack.
const maxLoad = 10_000

type settings struct {
	target Target
	load   int
	port   int
	stop   serve.Stop
}

func readSettings(env app.Env) (settings, error) {
	s := settings{stop: serve.DefaultStop}
	address := env.Getenv(EnvAddress)
	if address == "" {
		return s, app.Usagef("%s is not set: %s", EnvAddress, wanted)
	}
	var err error
	if s.target, err = ParseTarget(address, env.Getenv(EnvPolicy)); err != nil {
		return s, app.Usagef("read %s and %s: %w", EnvAddress, EnvPolicy, err)
	}
	if s.load, err = env.Int(EnvLoad, 0, 0, maxLoad); err != nil {
		return s, err
	}
	s.port, err = env.Port(EnvPort, 8080)
	return s, err
}

// Run is the program: it serves HTTP until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	s, err := readSettings(env)
	if err != nil {
		return err
	}
	listener, err := serve.Listen(ctx, s.port)
	if err != nil {
		return err
	}
	return run(ctx, env, s, listener)
}

func run(ctx context.Context, env app.Env, s settings, listener net.Listener) error {
	conn, err := channel.Open(s.target.Dial, channel.Options{Policy: s.target.Policy})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer conn.Close()
	// Connecting now rather than at the first call lets round_robin reach all servers before it is asked to choose.
	conn.Connect()

	log := env.Logger()
	log.Info("square aggregator is ready", "address", listener.Addr().String(),
		"target", s.target.Dial, "policy", string(s.target.Policy), "load", s.load)
	a := New(conn)
	group, ctx := errgroup.WithContext(ctx)
	var load *Load
	if s.load > 0 {
		load = NewLoad(a, s.load, log)
		group.Go(func() error {
			load.Run(ctx)
			return nil
		})
	}
	server := serve.HTTP{Listener: listener, Handler: a.Handler(load), Stop: s.stop}
	group.Go(func() error { return server.Run(ctx) })
	return group.Wait()
}
