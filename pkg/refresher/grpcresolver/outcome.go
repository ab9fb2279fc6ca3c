package grpcresolver

import (
	"strings"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// pushback is the trailer by which a server asks for no retry, or a later one
// (gRFC A6). A server sends it when it has too much to do.
const pushback = "grpc-retry-pushback-ms"

// outcome is what the end of a call says about the endpoint.
func outcome(info balancer.DoneInfo) policy.Outcome {
	switch {
	case !info.BytesSent:
		// The call was never there: the connection was gone before a stream was
		// made, or the caller's credentials could not be had. Connections are
		// judged by their own state.
		return policy.Neutral
	case info.Err == nil:
		return policy.Success
	}
	return failedOutcome(info)
}

func failedOutcome(info balancer.DoneInfo) policy.Outcome {
	s, _ := status.FromError(info.Err)
	if s.Code() != codes.Canceled && len(info.Trailer[pushback]) > 0 {
		return policy.Overloaded
	}
	switch s.Code() {
	case codes.Canceled:
		return policy.Neutral
	case codes.DeadlineExceeded:
		// With a byte from the server it is alive, and the caller's deadline says
		// more about the caller. Without one it may be gone.
		if info.BytesReceived {
			return policy.Neutral
		}
		return policy.TimedOut
	case codes.ResourceExhausted:
		if ownSizeLimit(info, s) {
			return policy.Neutral
		}
		return policy.Overloaded
	case codes.Unavailable, codes.Internal, codes.DataLoss, codes.Unknown:
		if neverLeft(info, s) {
			return policy.Neutral
		}
		if s.Code() != codes.Unavailable && info.BytesReceived {
			return policy.Erred
		}
		return policy.Failed
	}
	// All other codes are the application's answer: the server worked.
	return policy.Success
}

// ownSizeLimit tells a message that is larger than the client's own limits from
// a server that is out of resources. grpc-go uses one code for both.
func ownSizeLimit(info balancer.DoneInfo, s *status.Status) bool {
	return !info.BytesReceived || strings.HasPrefix(s.Message(), "grpc: received message")
}

// neverLeft tells a message that the client could not write, invalid UTF-8 in a
// string say, from a server's error. grpc-go uses one code for both.
func neverLeft(info balancer.DoneInfo, s *status.Status) bool {
	return !info.BytesReceived && strings.HasPrefix(s.Message(), "grpc: error while ")
}
