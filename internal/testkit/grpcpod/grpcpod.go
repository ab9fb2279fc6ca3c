// Package grpcpod runs real gRPC servers on the loopback in the place of pods,
// for tests and for examples, which have no testing.T.
//
//	pod, err := grpcpod.Start("square-1")
//	defer pod.Stop()
//
// Each serves grpc.testing.TestService (UnaryCall answers with the pod's name,
// FullDuplexCall with a message for each message) and grpc.health.v1, and counts
// the calls that it got. It simulates nothing: connections, GOAWAY and refused
// ports are the kernel's and grpc-go's.
package grpcpod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// Pod is one server. Its methods may be called from any goroutine.
type Pod struct {
	testpb.UnimplementedTestServiceServer
	name   string
	addr   netip.AddrPort
	server *grpc.Server
	health *health.Server
	done   chan error
	calls  atomic.Int64
	fail   atomic.Pointer[error]
}

// Start serves on a free port of 127.0.0.1.
func Start(name string, opts ...grpc.ServerOption) (*Pod, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start pod %s: %w", name, err)
	}
	p := &Pod{
		name: name, addr: netip.MustParseAddrPort(lis.Addr().String()),
		server: grpc.NewServer(opts...), health: health.NewServer(), done: make(chan error, 1),
	}
	testpb.RegisterTestServiceServer(p.server, p)
	healthpb.RegisterHealthServer(p.server, p.health)
	go func() { p.done <- p.server.Serve(lis) }()
	return p, nil
}

// Addr is where it listens.
func (p *Pod) Addr() netip.AddrPort { return p.addr }

// Endpoint is the pod as a source tells it.
func (p *Pod) Endpoint() endpoint.Endpoint {
	e := endpoint.At(p.addr)
	e.Name = "default/" + p.name
	return e
}

// Calls is how many calls of TestService came, streams among them.
func (p *Pod) Calls() int64 { return p.calls.Load() }

// Fail makes every UnaryCall end with err; nil makes them succeed again.
func (p *Pod) Fail(err error) {
	if err == nil {
		p.fail.Store(nil)
		return
	}
	p.fail.Store(&err)
}

// Health is the pod's answer to health checks.
func (p *Pod) Health() *health.Server { return p.health }

// Stop ends every connection and waits for the server's end.
func (p *Pod) Stop() {
	p.server.Stop()
	<-p.done
	p.done <- nil
}

// UnaryCall is part of TestService.
func (p *Pod) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	p.calls.Add(1)
	if err := p.fail.Load(); err != nil {
		return nil, *err
	}
	return &testpb.SimpleResponse{Hostname: p.name}, nil
}

// FullDuplexCall is part of TestService. It ends when the client closes its side
// or goes away.
func (p *Pod) FullDuplexCall(s testpb.TestService_FullDuplexCallServer) error {
	p.calls.Add(1)
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}
