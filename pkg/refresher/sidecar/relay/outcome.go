package relay

import (
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// ending is how a call left its backend.
type ending uint8

const (
	answered  ending = iota // the pod ended the stream
	cancelled               // the client, or the relay in its place
	reset                   // the pod by RST_STREAM
	refused                 // the pod by REFUSED_STREAM
	unseen                  // the pod never saw it
	lost                    // the connection broke
	broken                  // the pod broke a rule of HTTP/2
	tooMuch                 // the pod's metadata were too large
)

// outcome is what the end of a call says about its backend. It follows what the
// library of this project makes of the same end.
func (s *stream) outcome(how ending, code ErrCode) policy.Outcome {
	c := &s.call
	switch how {
	case answered:
		if !s.grpc {
			return httpOutcome(c.HTTP)
		}
		if c.Code < 0 {
			return s.grpcOutcome(codeOfHTTP(c.HTTP))
		}
		return s.grpcOutcome(c.Code)
	case reset:
		return s.grpcOutcome(codeOfReset(code))
	case refused:
		// It has more to do than it wants to.
		return policy.Overloaded
	case lost:
		return policy.Failed
	case broken:
		return policy.Erred
	case cancelled:
		// Clients cancel when their deadline has passed. With a byte of an answer the
		// pod is alive, and the deadline says more about the caller.
		if c.FirstByte == 0 && s.timeout > 0 && c.End.Sub(s.arrived) >= s.timeout-slack(s.timeout) && c.End.Sub(c.Start) >= s.timeout/2 {
			return policy.TimedOut
		}
	}
	return policy.Neutral
}

// slack is how much earlier than its deadline a call may be cancelled for it to
// count as timed out: the client's clock began before the request was here, and a
// reset may travel faster than the request did.
func slack(timeout time.Duration) time.Duration {
	return min(timeout/8, 20*time.Millisecond)
}

func (s *stream) grpcOutcome(code int) policy.Outcome {
	const (
		ok, canceled, unknown, internal, dataLoss = 0, 1, 2, codeInternal, 15
	)
	if s.pushback && code != ok && code != canceled {
		return policy.Overloaded
	}
	answer := s.call.FirstByte != 0
	switch code {
	case canceled:
		return policy.Neutral
	case codeDeadlineExceeded:
		if answer {
			return policy.Neutral
		}
		return policy.TimedOut
	case codeResourceExhausted:
		return policy.Overloaded
	case unknown, internal, dataLoss:
		if answer {
			return policy.Erred
		}
		return policy.Failed
	case codeUnavailable:
		return policy.Failed
	}
	return policy.Success
}

func httpOutcome(status int) policy.Outcome {
	switch {
	case status == 429:
		return policy.Overloaded
	case status == 502 || status == 503 || status == 504:
		return policy.Failed
	case status >= 500:
		return policy.Erred
	}
	return policy.Success
}

// codeOfHTTP is gRPC's reading of a response without grpc-status (gRPC,
// doc/http-grpc-status-mapping.md).
func codeOfHTTP(status int) int {
	switch status {
	case 400:
		return codeInternal
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return codeUnavailable
	}
	return 2
}

// codeOfReset is gRPC's reading of an RST_STREAM (gRPC, doc/PROTOCOL-HTTP2.md).
func codeOfReset(code ErrCode) int {
	switch code {
	case RefusedStream:
		return codeUnavailable
	case Cancel:
		return 1
	case EnhanceYourCalm:
		return codeResourceExhausted
	case InadequateSecurity:
		return 7
	}
	return codeInternal
}
