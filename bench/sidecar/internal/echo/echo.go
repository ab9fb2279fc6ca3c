// Package echo is the server behind the proxies that the sidecar's benchmark compares: grpc-go, which returns every message as it came,
// without looking into it.
package echo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// message is bytes that nobody decodes.
type message struct{ data mem.BufferSlice }

// raw hands bytes through in place of protobuf's codec.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, fmt.Errorf("not a message of this service: %T", v)
	}
	return m.data, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("not a message of this service: %T", v)
	}
	data.Ref()
	m.data = data
	return nil
}

func (raw) Name() string { return "raw" }

//nolint:revive // grpc.MethodDesc says where the context stands
func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	m := &message{}
	if err := decode(m); err != nil {
		return nil, err
	}
	return m, nil
}

func bidi(_ any, s grpc.ServerStream) error {
	for {
		m := &message{}
		err := s.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// Serve answers on all listeners until the context ends.
func Serve(ctx context.Context, listeners ...net.Listener) error {
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		s := grpc.NewServer(grpc.ForceServerCodecV2(raw{}))
		s.RegisterService(&grpc.ServiceDesc{
			ServiceName: "bench.Echo",
			Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
			Streams:     []grpc.StreamDesc{{StreamName: "Bidi", Handler: bidi, ServerStreams: true, ClientStreams: true}},
		}, nil)
		go func() { failed <- s.Serve(l) }()
		defer s.Stop()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
