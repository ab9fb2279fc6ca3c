package plain_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/grpcpod"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver/plain"
)

const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// call makes one call over a channel of its own.
func call(t *testing.T, target string, o plain.Options) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(plain.New(o)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = testpb.NewTestServiceClient(conn).UnaryCall(ctx, &testpb.SimpleRequest{})
	return err
}

func startPod(t *testing.T) *grpcpod.Pod {
	t.Helper()
	pod, err := grpcpod.Start("square-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pod.Stop)
	return pod
}

// TestTargets: what the refresher takes works without it.
func TestTargets(t *testing.T) {
	pod := startPod(t)
	zone := dnstest.NewZone(t, "cluster.local.")
	zone.Headless("square.default.svc.cluster.local.", "grpc", pod.Addr().Port(), pod.Addr().Addr())
	server := dnstest.Serve(t, zone)
	o := plain.Options{Scheme: "refresh", ServiceConfig: roundRobin}
	port := pod.Addr().String()[strings.LastIndex(pod.Addr().String(), ":"):]
	for _, target := range []string{
		"refresh:///" + pod.Addr().String(),
		"refresh://" + server.Addr() + "/square.default.svc.cluster.local." + port,
		"refresh://" + server.Addr() + "/square.default.svc.cluster.local.:grpc",
	} {
		if err := call(t, target, o); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	if err := call(t, "refresh:///127.0.0.1", plain.Options{Scheme: "refresh", DefaultPort: port[1:]}); err != nil {
		t.Errorf("the default port: %v", err)
	}
}

func TestTargetsThatFail(t *testing.T) {
	pod := startPod(t)
	zone := dnstest.NewZone(t, "cluster.local.")
	zone.Headless("square.default.svc.cluster.local.", "grpc", pod.Addr().Port(), pod.Addr().Addr())
	server := dnstest.Serve(t, zone)
	for _, tc := range []struct{ target, want string }{
		{"refresh:///a/b:1", "malformed target"},
		{"refresh://" + server.Addr() + "/square.default.svc.cluster.local.:http", `look up the port "http" of square.default.svc.cluster.local`},
	} {
		err := call(t, tc.target, plain.Options{Scheme: "refresh"})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v\nwant one with: %s", tc.target, err, tc.want)
		}
	}
}

func TestAuthority(t *testing.T) {
	for _, tc := range []struct{ target, name, want string }{
		{"refresh:///square.default:6565", "", "square.default:6565"},
		{"refresh:///square.default:grpc", "", "square.default"},
		{"refresh:///square.default", "", "square.default"},
		{"refresh:///square-headless.default:6565", "square.default.svc", "square.default.svc"},
		{"refresh:///a/b", "", "a/b"},
	} {
		u, err := url.Parse(tc.target)
		if err != nil {
			t.Fatal(err)
		}
		b := plain.New(plain.Options{Scheme: "refresh", ServiceName: tc.name})
		if got := b.(resolver.AuthorityOverrider).OverrideAuthority(resolver.Target{URL: *u}); got != tc.want {
			t.Errorf("%s: the authority is %q, want %q", tc.target, got, tc.want)
		}
		if b.Scheme() != "refresh" {
			t.Errorf("the scheme is %q", b.Scheme())
		}
	}
}
