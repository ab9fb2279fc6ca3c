// Package server is the load example's gRPC server: it answers as fast as it can and logs how many calls it has had, so
// that the logs of several pods side by side show who does the work.
package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tlsfiles"
	loadpb "github.com/grpclb/kubectl-grpclb/examples/load/proto"
)

// DefaultPort is where the server listens unless a flag says otherwise.
const DefaultPort = 8001

// Server implements the LoadService. It must not be copied.
type Server struct {
	loadpb.UnimplementedLoadServiceServer

	host  string
	every int64
	log   *slog.Logger
	calls atomic.Int64
}

// New makes a server that answers as host and logs its count after every so many calls; every must be at least 1.
func New(host string, every int64, log *slog.Logger) *Server {
	return &Server{host: host, every: every, log: log}
}

// Call counts the call and answers it.
func (s *Server) Call(_ context.Context, in *loadpb.CallRequest) (*loadpb.CallReply, error) {
	if n := s.calls.Add(1); n%s.every == 0 {
		s.log.Info("calls served", "host", s.host, "calls", n)
	}
	return &loadpb.CallReply{Sequence: in.GetSequence(), Host: s.host}, nil
}

// Calls is the number of calls served so far.
func (s *Server) Calls() int64 { return s.calls.Load() }

type options struct {
	port          int
	cert, key     string
	logEveryCalls int64
}

func readFlags(env app.Env) (options, error) {
	var o options
	flags := flag.NewFlagSet("load-server", flag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.IntVar(&o.port, "port", DefaultPort, "TCP port to serve gRPC on; 0 picks a free one")
	flags.StringVar(&o.cert, "tls-cert", "", "PEM file with the server's certificate; empty serves plaintext")
	flags.StringVar(&o.key, "tls-key", "", "PEM file with the certificate's key")
	flags.Int64Var(&o.logEveryCalls, "log-every", 50_000, "log the count after this many calls")
	if err := flags.Parse(env.Args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, app.Usagef("%w", err)
	}
	switch {
	case flags.NArg() > 0:
		return o, app.Usagef("unexpected argument %q", flags.Arg(0))
	case o.port < 0 || o.port > 65535:
		return o, app.Usagef("--port=%d is not a TCP port (0 to 65535)", o.port)
	case o.logEveryCalls < 1:
		return o, app.Usagef("--log-every=%d: must be at least 1", o.logEveryCalls)
	}
	return o, nil
}

// Run is the program: it serves until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	o, err := readFlags(env)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	config, err := tlsfiles.Server(o.cert, o.key)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("learn the own host name: %w", err)
	}
	listener, err := serve.Listen(ctx, o.port)
	if err != nil {
		return err
	}
	log := env.Logger()
	log.Info("load server is ready", "address", listener.Addr().String(), "host", host, "tls", config != nil)
	server := New(host, o.logEveryCalls, log)
	err = serve.GRPC{
		Listener: listener,
		Register: func(r grpc.ServiceRegistrar) { loadpb.RegisterLoadServiceServer(r, server) },
		TLS:      config,
		Stop:     serve.DefaultStop,
	}.Run(ctx)
	log.Info("load server has stopped", "host", host, "calls", server.Calls())
	return err
}
