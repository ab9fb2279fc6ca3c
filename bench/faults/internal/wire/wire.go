// Package wire is the gRPC service that the fault benchmarks call: one unary method and one stream in both directions, both with
// messages that protobuf brings along, so that nothing has to be generated.
package wire

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The full names of the methods.
const (
	Call = "/bench.faults.Faults/Call"
	Chat = "/bench.faults.Faults/Chat"
)

// ServedBy is the metadata in which a server names the address at which it was reached: in the trailers of Call, which are there for a call
// that fails at once as well, and in the header of Chat. A client behind a proxy has no other way to learn it.
const ServedBy = "served-by"

// Server answers both methods.
type Server interface {
	// Call returns what it was given.
	Call(context.Context, *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error)
	// Chat returns each message that it gets, until the client or the server has had enough.
	Chat(grpc.ServerStream) error
}

// ChatDesc is the stream, for a client.
var ChatDesc = &grpc.StreamDesc{StreamName: "Chat", ServerStreams: true, ClientStreams: true}

// Service describes the service, for a server.
var Service = &grpc.ServiceDesc{
	ServiceName: "bench.faults.Faults",
	HandlerType: (*Server)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Call", Handler: call}},
	Streams: []grpc.StreamDesc{{
		StreamName: ChatDesc.StreamName, ServerStreams: true, ClientStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error { return srv.(Server).Chat(stream) },
	}},
}

//nolint:revive // the order of the arguments is grpc-go's
func call(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.Int64Value)
	if err := decode(in); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, in any) (any, error) {
		return srv.(Server).Call(ctx, in.(*wrapperspb.Int64Value))
	}
	if intercept == nil {
		return handle(ctx, in)
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: Call}, handle)
}
