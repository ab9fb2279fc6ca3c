// Package server is the square example's gRPC server: it squares a number and names its host. It keeps no state.
package server

import (
	"context"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/internal/serve"
	squarepb "github.com/grpclb/kubectl-grpclb/examples/square/proto"
)

// DefaultPort is where the server listens unless GRPC_SERVER_PORT says otherwise.
const DefaultPort = 6565

// MaxNumber is the largest number whose square fits the int32 of the contract.
const MaxNumber = 46340

// Server implements the SquareService; Host is what it answers as its own name.
type Server struct {
	squarepb.UnimplementedSquareServiceServer

	Host string
}

// FindSquareUnary squares one number, or returns OUT_OF_RANGE where the result would overflow.
func (s Server) FindSquareUnary(_ context.Context, in *squarepb.Input) (*squarepb.Output, error) {
	n := in.GetNumber()
	if n < -MaxNumber || n > MaxNumber {
		return nil, status.Errorf(codes.OutOfRange, "the square of %d does not fit 32 bits: stay within ±%d", n, MaxNumber)
	}
	return &squarepb.Output{Number: n, Result: n * n, Host: s.Host}, nil
}

// Run is the program: it serves on GRPC_SERVER_PORT until ctx ends.
func Run(ctx context.Context, env app.Env) error {
	port, err := env.Port("GRPC_SERVER_PORT", DefaultPort)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("learn the own host name: %w", err)
	}
	listener, err := serve.Listen(ctx, port)
	if err != nil {
		return err
	}
	env.Logger().Info("square server is ready", "address", listener.Addr().String(), "host", host)
	return serve.GRPC{
		Listener: listener,
		Register: func(r grpc.ServiceRegistrar) { squarepb.RegisterSquareServiceServer(r, Server{Host: host}) },
		Stop:     serve.DefaultStop,
	}.Run(ctx)
}
