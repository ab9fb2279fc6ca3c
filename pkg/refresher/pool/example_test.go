package pool_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/grpcpod"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/pool"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// A pool takes the place of a channel in generated code. This one opens four
// connections to each pod, and ends calls that are still on a pod ten seconds
// after it was removed.
func Example() {
	pod, err := grpcpod.Start("square-1", grpc.MaxConcurrentStreams(100))
	if err != nil {
		log.Fatal(err)
	}
	defer pod.Stop()

	p, err := pool.New("refresh:///square-service.default:grpc",
		pool.WithConnectionsPerEndpoint(4),
		pool.WithDrainTimeout(10*time.Second),
		pool.WithDialOptions(grpc.WithTransportCredentials(insecure.NewCredentials())),
		pool.WithRefresherOptions(refresher.WithSource(static.New(pod.Endpoint()))))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Ready(ctx, 1); err != nil {
		log.Fatal(err)
	}

	reply, err := testpb.NewTestServiceClient(p).UnaryCall(ctx, &testpb.SimpleRequest{})
	fmt.Println(reply.GetHostname(), err)
	// Output: square-1 <nil>
}
