// Package backend is the echo example's gRPC server: it greets a caller in its own name, in plaintext or over TLS.
package backend

import (
	"context"
	"fmt"
	"os"

	"google.golang.org/grpc"

	echopb "github.com/grpclb/kubectl-grpclb/examples/echo/proto"
	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	"github.com/grpclb/kubectl-grpclb/examples/internal/tlsfiles"
)

// The environment variables that the backend reads.
const (
	// EnvPort is the gRPC port, 50051 by default.
	EnvPort = "GRPC_PORT"
	// EnvCert and EnvKey name PEM files; both unset means plaintext.
	EnvCert = "TLS_CERT_FILE"
	EnvKey  = "TLS_KEY_FILE"
)

// Server implements the EchoServer; Host is what it answers as its own name.
type Server struct {
	echopb.UnimplementedEchoServerServer

	Host string
}

// SayHello greets the caller by the name it gave, which may be empty.
func (s Server) SayHello(_ context.Context, in *echopb.EchoRequest) (*echopb.EchoReply, error) {
	name := in.GetName()
	if name == "" {
		name = "stranger"
	}
	return &echopb.EchoReply{Message: fmt.Sprintf("hello %s, %s speaking", name, s.Host), Host: s.Host}, nil
}

// Run is the program: it serves until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	port, err := env.Port(EnvPort, 50051)
	if err != nil {
		return err
	}
	config, err := tlsfiles.Server(env.Getenv(EnvCert), env.Getenv(EnvKey))
	if err != nil {
		return fmt.Errorf("read %s and %s: %w", EnvCert, EnvKey, err)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("learn the own host name: %w", err)
	}
	listener, err := serve.Listen(ctx, port)
	if err != nil {
		return err
	}
	env.Logger().Info("echo backend is ready", "address", listener.Addr().String(), "host", host, "tls", config != nil)
	return serve.GRPC{
		Listener: listener,
		Register: func(r grpc.ServiceRegistrar) { echopb.RegisterEchoServerServer(r, Server{Host: host}) },
		TLS:      config,
		Stop:     serve.DefaultStop,
	}.Run(ctx)
}
