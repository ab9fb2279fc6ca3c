package grpcresolver

import (
	"context"
	"sync/atomic"
)

// streamMark is the key of a context whose call is a stream.
type streamMark struct{}

// marksInUse keeps the look-up in the context off the path of calls of programs
// that mark nothing. It is set once and never cleared.
var marksInUse atomic.Bool

// MarkStream returns a context for a streaming call. How long such a call lasts
// is the application's choice, so the policies take no latency from it. A
// balancer cannot see on its own that a call is a stream; calls that are not
// marked count as streams when they last longer than the policy's longCall.
func MarkStream(ctx context.Context) context.Context {
	if !marksInUse.Load() {
		marksInUse.Store(true)
	}
	return context.WithValue(ctx, streamMark{}, true)
}

func isStream(ctx context.Context) bool {
	return marksInUse.Load() && ctx != nil && ctx.Value(streamMark{}) != nil
}
