//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// The interoperability test ends its process when it fails. So each case is a process: this test's own program, which TestMain turns into a
// client when the variables say so.
const (
	interopVariable = "GRPCLB_INTEROP_CASE"
	interopAddress  = "GRPCLB_INTEROP_ADDRESS"
)

// client is what a case needs.
type client struct {
	ctx  context.Context
	conn *grpc.ClientConn
	addr string
	test testgrpc.TestServiceClient
}

// cases are those of gRPC's interop-test-descriptions.md that apply without TLS, accounts, or a Google service behind them. With "_gzip" they
// run with messages compressed both ways, which stands for client_compressed_* and server_compressed_*: grpc-go's suite has none of those.
var cases = map[string]func(client){
	"empty_unary":                 func(c client) { interop.DoEmptyUnaryCall(c.ctx, c.test) },
	"large_unary":                 func(c client) { interop.DoLargeUnaryCall(c.ctx, c.test) },
	"large_unary_gzip":            func(c client) { interop.DoLargeUnaryCall(c.ctx, c.test, grpc.UseCompressor(gzip.Name)) },
	"client_streaming":            func(c client) { interop.DoClientStreaming(c.ctx, c.test) },
	"client_streaming_gzip":       func(c client) { interop.DoClientStreaming(c.ctx, c.test, grpc.UseCompressor(gzip.Name)) },
	"server_streaming":            func(c client) { interop.DoServerStreaming(c.ctx, c.test) },
	"server_streaming_gzip":       func(c client) { interop.DoServerStreaming(c.ctx, c.test, grpc.UseCompressor(gzip.Name)) },
	"ping_pong":                   func(c client) { interop.DoPingPong(c.ctx, c.test) },
	"ping_pong_gzip":              func(c client) { interop.DoPingPong(c.ctx, c.test, grpc.UseCompressor(gzip.Name)) },
	"empty_stream":                func(c client) { interop.DoEmptyStream(c.ctx, c.test) },
	"timeout_on_sleeping_server":  func(c client) { interop.DoTimeoutOnSleepingServer(c.ctx, c.test) },
	"cancel_after_begin":          func(c client) { interop.DoCancelAfterBegin(c.ctx, c.test) },
	"cancel_after_first_response": func(c client) { interop.DoCancelAfterFirstResponse(c.ctx, c.test) },
	"custom_metadata":             func(c client) { interop.DoCustomMetadata(c.ctx, c.test) },
	"status_code_and_message":     func(c client) { interop.DoStatusCodeAndMessage(c.ctx, c.test) },
	"special_status_message":      func(c client) { interop.DoSpecialStatusMessage(c.ctx, c.test) },
	"unimplemented_method":        func(c client) { interop.DoUnimplementedMethod(c.ctx, c.conn) },
	"unimplemented_service":       func(c client) { interop.DoUnimplementedService(c.ctx, testgrpc.NewUnimplementedServiceClient(c.conn)) },
	"rpc_soak":                    func(c client) { soak(c, c.shared) },
	"channel_soak":                func(c client) { soak(c, c.anew) },
}

// interopCase runs one case. It is not a test: it ends the process when the case fails.
func interopCase(name, addr string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := dial(addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cases[name](client{ctx, conn, addr, testgrpc.NewTestServiceClient(conn)})
	if err := conn.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dial(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
}

// shared is the channel of rpc_soak.
func (c client) shared() (*grpc.ClientConn, func()) { return c.conn, func() {} }

// anew is a channel for each call, as in channel_soak.
func (c client) anew() (*grpc.ClientConn, func()) {
	conn, err := dial(c.addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return conn, func() { _ = conn.Close() } // it has no calls
}

// soak is a small one: 100 calls of the sizes that the descriptions name.
func soak(c client, channel func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(c.ctx, interop.SoakTestConfig{
		RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: 5 * time.Second, OverallTimeout: 25 * time.Second,
		ServerAddr: c.addr, NumWorkers: 4, Iterations: 100, ChannelForTest: channel,
	})
}

func TestInterop(t *testing.T) {
	addr := startSidecar(t, serveInterop(t)).addr
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), interopVariable+"="+name, interopAddress+"="+addr, "GRPC_GO_LOG_SEVERITY_LEVEL=error")
			out, err := cmd.CombinedOutput()
			if err != nil || bytes.Contains(out, []byte("WARNING")) {
				t.Errorf("%v: %s", err, strings.TrimSpace(string(out)))
			}
		})
	}
}

// serveInterop is a pod with the interoperability test's server.
func serveInterop(t *testing.T) string {
	t.Helper()
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	l := listen(t)
	serve(t, s, l)
	return l.Addr().String()
}

// serve runs a gRPC server for the time of a test.
func serve(t *testing.T, s *grpc.Server, l net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
