package refresher_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/grpcpod"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// patience bounds what a test waits for on real sockets.
const patience = 10 * time.Second

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// startPods runs n servers until the test ends.
func startPods(t *testing.T, n int, opts ...grpc.ServerOption) []*grpcpod.Pod {
	t.Helper()
	pods := make([]*grpcpod.Pod, n)
	for i := range pods {
		pod, err := grpcpod.Start(fmt.Sprintf("square-%d", i+1), opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pod.Stop)
		pods[i] = pod
	}
	return pods
}

func endpoints(pods ...*grpcpod.Pod) []endpoint.Endpoint {
	out := make([]endpoint.Endpoint, len(pods))
	for i, p := range pods {
		out[i] = p.Endpoint()
	}
	return out
}

// dial makes a channel that ends with the test.
func dial(t *testing.T, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{plaintext}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// whoAnswers makes one call and returns the name of the pod that got it.
func whoAnswers(ctx context.Context, conn grpc.ClientConnInterface) (string, error) {
	reply, err := testpb.NewTestServiceClient(conn).UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.WaitForReady(true))
	return reply.GetHostname(), err
}

// within is the test's context with patience.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
