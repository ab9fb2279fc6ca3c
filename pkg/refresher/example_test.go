package refresher_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/grpcpod"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// The servers of the examples stand on the loopback in the place of pods.
func pods(n int, opts ...grpc.ServerOption) (pods []*grpcpod.Pod, stop func()) {
	for i := range n {
		pod, err := grpcpod.Start(fmt.Sprintf("square-%d", i+1), opts...)
		if err != nil {
			log.Fatal(err)
		}
		pods = append(pods, pod)
	}
	return pods, func() {
		for _, pod := range pods {
			pod.Stop()
		}
	}
}

// One dial option makes a channel follow the pods. In a cluster the target is
// "refresh:///square-service.default:6565"; here it is the address of a server.
func Example() {
	pods, stop := pods(1)
	defer stop()
	target := "refresh:///" + pods[0].Addr().String()

	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		refresher.DialOption())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	reply, err := testpb.NewTestServiceClient(conn).UnaryCall(context.Background(), &testpb.SimpleRequest{})
	fmt.Println(reply.GetHostname(), err)
	// Output: square-1 <nil>
}

// TLS needs nothing of its own: certificates are held against the target's host.
// Where that is not the name in them, WithServiceName says which one is.
func Example_tls() {
	ca, err := newAuthority()
	if err != nil {
		log.Fatal(err)
	}
	cert, err := ca.issue("square-service.default.svc")
	if err != nil {
		log.Fatal(err)
	}
	pods, stop := pods(1, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	defer stop()

	conn, err := grpc.NewClient("refresh:///"+pods[0].Addr().String(),
		grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(ca.pool, "")),
		refresher.DialOption(refresher.WithServiceName("square-service.default.svc")))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	reply, err := testpb.NewTestServiceClient(conn).UnaryCall(context.Background(), &testpb.SimpleRequest{})
	fmt.Println(reply.GetHostname(), err)
	// Output: square-1 <nil>
}

// With mutual TLS the client shows a certificate, too.
func Example_mutualTLS() {
	ca, err := newAuthority()
	if err != nil {
		log.Fatal(err)
	}
	serverCert, err := ca.issue("square-service.default")
	if err != nil {
		log.Fatal(err)
	}
	clientCert, err := ca.issue("aggregator.default")
	if err != nil {
		log.Fatal(err)
	}
	pods, stop := pods(2, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{serverCert}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	defer stop()

	source := static.New(pods[0].Endpoint(), pods[1].Endpoint())
	conn, err := grpc.NewClient("refresh:///square-service.default:grpc",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: ca.pool, Certificates: []tls.Certificate{clientCert},
		})),
		refresher.DialOption(refresher.WithSource(source)))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	_, err = testpb.NewTestServiceClient(conn).UnaryCall(context.Background(), &testpb.SimpleRequest{})
	fmt.Println(err)
	// Output: <nil>
}

// A service config tunes the policy and says which calls may be repeated: with
// this one a pod that answers UNAVAILABLE costs its callers nothing.
func ExampleWithServiceConfig() {
	pods, stop := pods(2)
	defer stop()
	pods[0].Fail(status.Error(codes.Unavailable, "shutting down"))

	source := static.New(pods[0].Endpoint(), pods[1].Endpoint())
	conn, err := grpc.NewClient("refresh:///square-service.default:grpc",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		refresher.DialOption(refresher.WithSource(source), refresher.WithServiceConfig(`{
			"loadBalancingConfig": [{"grpclb_refresher_peak_ewma": {"ejection": {"consecutiveFailures": 3}}}],
			"methodConfig": [{
				"name": [{"service": "grpc.testing.TestService"}],
				"waitForReady": true,
				"retryPolicy": {
					"maxAttempts": 5, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2,
					"retryableStatusCodes": ["UNAVAILABLE"]
				}
			}]
		}`)))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	failed := 0
	for range 50 {
		if _, err := testpb.NewTestServiceClient(conn).UnaryCall(context.Background(), &testpb.SimpleRequest{}); err != nil {
			failed++
		}
	}
	fmt.Println("failed calls:", failed)
	// Output: failed calls: 0
}

// A mistake in the configuration is told with the field's path.
func ExampleNew_error() {
	_, err := refresher.New(refresher.WithServiceConfig(
		`{"loadBalancingConfig": [{"grpclb_refresher_round_robin": {"slowStart": 10}}]}`))
	fmt.Println(err)
	// Output:
	// refresher: service config: grpclb_refresher_round_robin.slowStart: 10 is not what it takes: a duration from "0.001s" to "900s", or "0s": a full share at once
}

// Events say what happens to the endpoints, as values.
func ExampleWithEvents() {
	pods, stop := pods(2)
	defer stop()
	source := static.New(pods[0].Endpoint())
	sizes := make(chan int, 10)

	r, err := refresher.New(refresher.WithSource(source), refresher.WithEvents(func(e refresher.Event) {
		switch what := e.What.(type) {
		case endpoint.SetChanged:
			sizes <- what.Size
		case endpoint.Ejected:
			log.Printf("%s: %s gets no calls: %s", e.Target, what.Endpoint, what.Reason)
		default: // there may be more types one day
		}
	}))
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient("refresh:///square-service.default:grpc",
		grpc.WithTransportCredentials(insecure.NewCredentials()), r.DialOption())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	conn.Connect()
	fmt.Println("endpoints:", <-sizes)
	source.Set(pods[0].Endpoint(), pods[1].Endpoint())
	fmt.Println("endpoints:", <-sizes)
	// Output:
	// endpoints: 1
	// endpoints: 2
}

// A test of an application gives the endpoints itself, with the static source,
// and changes them while the application runs.
func Example_testing() {
	pods, stop := pods(3)
	defer stop()
	source := static.New(pods[0].Endpoint())
	r, err := refresher.New(refresher.WithSource(source))
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient("refresh:///square-service.default:grpc",
		grpc.WithTransportCredentials(insecure.NewCredentials()), r.DialOption())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	conn.Connect()
	fmt.Println("one pod:", r.WaitEndpoints(ctx, 1))
	source.Set(pods[0].Endpoint(), pods[1].Endpoint(), pods[2].Endpoint())
	fmt.Println("scaled out:", r.WaitEndpoints(ctx, 3))
	// Output:
	// one pod: <nil>
	// scaled out: <nil>
}
