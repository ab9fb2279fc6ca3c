package refresher_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// TestExtraDialOptions: calls and streams work with them, a proxy is not asked,
// and the length of a stream is no latency.
func TestExtraDialOptions(t *testing.T) {
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refused.Close()
	t.Setenv("HTTPS_PROXY", "http://"+refused.Addr().String())
	ctx := within(t)
	pods := startPods(t, 1)
	var between time.Duration
	r := newRefresher(t, quiet, refresher.WithSource(static.New(endpoints(pods...)...)))
	opts := append(refresher.ExtraDialOptions(), r.DialOption(), grpc.WithChainStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			between++
			return streamer(ctx, desc, cc, method, opts...)
		}))
	conn := dial(t, target, opts...)
	stream, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Fatal("a message that was not sent")
	}
	if between != 1 {
		t.Errorf("the application's interceptor ran %d times", between)
	}
	if ewma := r.Stats().Targets[0].Endpoints[0].Calls.EWMA; ewma != 0 {
		t.Errorf("a stream was taken for a latency of %v", ewma)
	}
	if _, err := whoAnswers(ctx, conn); err != nil {
		t.Fatal(err)
	}
	if ewma := r.Stats().Targets[0].Endpoints[0].Calls.EWMA; ewma == 0 {
		t.Error("a unary call gave no latency")
	}
}

func TestDialerWithoutTimeout(t *testing.T) {
	pods := startPods(t, 1)
	conn, err := refresher.Dialer(0)(within(t), pods[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
