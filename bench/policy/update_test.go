package policy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// BenchmarkUpdate replaces one endpoint of many. "policy" is the picker alone, "refresher" all of it: the static source, the guard, the
// resolver, the balancer and its picker, from the Set to the moment when gRPC has the new picker.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprintf("endpoints=%d/impl=policy", n), func(b *testing.B) {
			candidates := make([]policy.Candidate, n)
			for i := range candidates {
				candidates[i].Node = policy.NewNode(policy.DefaultNodeConfig())
			}
			p := policy.PeakEWMA(policy.DefaultPeakEWMAConfig())
			b.ReportAllocs()
			report := measureCPU(b)
			for i := 0; b.Loop(); i++ {
				candidates[i%n].Node = policy.NewNode(policy.DefaultNodeConfig())
				p.NewPicker(candidates, policy.Now())
			}
			report()
		})
		b.Run(fmt.Sprintf("endpoints=%d/impl=refresher", n), func(b *testing.B) {
			c := embed(b, n)
			kept := c.source.members[n/2]
			b.ReportAllocs()
			report := measureCPU(b)
			for b.Loop() {
				c.source.replaceOne()
				c.update(b)
			}
			report()
			if got := c.source.members[n/2]; got.String() != kept.String() {
				b.Fatalf("the benchmark changed what it should keep: %v", got)
			}
		})
		b.Run(fmt.Sprintf("endpoints=%d/impl=grpc-go_round_robin", n), func(b *testing.B) {
			d, err := drive(roundrobin.Name, `{}`, n)
			if err != nil {
				b.Fatal(err)
			}
			to := endpoints(0, n)
			b.ReportAllocs()
			report := measureCPU(b)
			for i := 0; b.Loop(); i++ {
				to[0] = endpoints(n+i, 1)[0]
				if err := d.update(to); err != nil {
					b.Fatal(err)
				}
				if err := d.settle(func() bool { return d.connected() == n }); err != nil {
					b.Fatal(err)
				}
			}
			report()
		})
	}
}

// embedded is a refresher's resolver and balancer on a channel without a network.
type embedded struct {
	resolver.ClientConn // never set
	*driven
	source  *counted
	parsed  *serviceconfig.ParseResult
	updates chan error
}

// counted is a static source whose members are replaced one at a time.
type counted struct {
	*static.Source
	members []endpoint.Endpoint
	next    int
}

// replaceOne replaces the last one, so that the members stay sorted: sorting is the source's work.
func (c *counted) replaceOne() {
	c.members[len(c.members)-1] = memberAt(c.next)
	c.next++
	c.Set(c.members...)
}

func memberAt(k int) endpoint.Endpoint {
	return endpoint.At(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)}), 6565))
}

func embed(tb testing.TB, n int) *embedded {
	tb.Helper()
	source := &counted{next: n}
	for i := range n {
		source.members = append(source.members, memberAt(i))
	}
	source.Source = static.New(source.members...)
	b, err := grpcresolver.New(grpcresolver.Options{Opener: source})
	if err != nil {
		tb.Fatal(err)
	}
	builder := balancer.Get("grpclb_refresher_peak_ewma")
	lb, err := builder.(balancer.ConfigParser).ParseConfig([]byte(`{}`))
	if err != nil {
		tb.Fatal(err)
	}
	c := &embedded{driven: &driven{channel: newChannel(), config: lb}, source: source, updates: make(chan error, 1)}
	c.balancer = builder.Build(c.channel, balancer.BuildOptions{})
	c.parsed = &serviceconfig.ParseResult{}
	target := resolver.Target{URL: url.URL{Scheme: "refresh", Path: "/bench.default:6565"}}
	r, err := b.Build(target, c, resolver.BuildOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close(); c.balancer.Close() })
	c.update(tb)
	if err := c.settle(func() bool { return c.connected() == n }); err != nil {
		tb.Fatal(err)
	}
	return c
}

// update waits until the balancer has taken what the source said.
func (c *embedded) update(tb testing.TB) {
	if err := <-c.updates; err != nil {
		tb.Fatal(err)
	}
	if err := c.settle(func() bool { return true }); err != nil {
		tb.Fatal(err)
	}
}

func (c *embedded) UpdateState(s resolver.State) error {
	err := c.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: c.driven.config})
	c.updates <- err
	return err
}

func (c *embedded) ReportError(error) {}

func (c *embedded) ParseServiceConfig(string) *serviceconfig.ParseResult { return c.parsed }

// BenchmarkMemory reports what a channel to many endpoints holds per endpoint, without the connections: the refresher with its source, guard,
// resolver and balancer, and the stock balancer alone.
func BenchmarkMemory(b *testing.B) {
	const n = 1000
	for _, c := range []struct {
		name string
		make func() any
	}{
		{"impl=refresher", func() any { return embed(b, n) }},
		{"impl=grpc-go_round_robin", func() any {
			d, err := drive(roundrobin.Name, `{}`, n)
			if err != nil {
				b.Fatal(err)
			}
			return d
		}},
	} {
		b.Run(fmt.Sprintf("endpoints=%d/%s", n, c.name), func(b *testing.B) {
			var bytes float64
			rounds := 0.0
			for b.Loop() {
				before := heap()
				held := c.make()
				bytes += float64(heap()-before) / n
				rounds++
				runtime.KeepAlive(held)
			}
			b.ReportMetric(bytes/rounds, "held-B/endpoint")
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// servers are real ones on loopback, the same for all that call them.
var servers = sync.OnceValues(func() ([]endpoint.Endpoint, error) {
	var out []endpoint.Endpoint
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		s := grpc.NewServer()
		healthgrpc.RegisterHealthServer(s, alwaysServing{})
		go func() { _ = s.Serve(l) }() // until the process ends
		out = append(out, endpoint.At(l.Addr().(*net.TCPAddr).AddrPort()))
	}
	return out, nil
})

type alwaysServing struct {
	healthgrpc.UnimplementedHealthServer
}

func (alwaysServing) Check(context.Context, *healthgrpc.HealthCheckRequest) (*healthgrpc.HealthCheckResponse, error) {
	return &healthgrpc.HealthCheckResponse{Status: healthgrpc.HealthCheckResponse_SERVING}, nil
}

// BenchmarkCall is a unary call over loopback to one of three servers of this process.
func BenchmarkCall(b *testing.B) {
	pods, err := servers()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		dial func() (*grpc.ClientConn, error)
	}{
		{"impl=refresher", func() (*grpc.ClientConn, error) {
			return grpc.NewClient("refresh:///bench.default:1", grpc.WithTransportCredentials(insecure.NewCredentials()),
				refresher.DialOption(refresher.WithSource(static.New(pods...))))
		}},
		{"impl=grpc-go_round_robin", func() (*grpc.ClientConn, error) {
			r := manual.NewBuilderWithScheme("bench")
			var s resolver.State
			for _, p := range pods {
				s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: p.String()}}})
			}
			r.InitialState(s)
			return grpc.NewClient("bench:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(r),
				grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			cc, err := c.dial()
			if err != nil {
				b.Fatal(err)
			}
			defer func() { err = errors.Join(err, cc.Close()) }()
			client := healthgrpc.NewHealthClient(cc)
			for range 100 {
				if _, err := client.Check(b.Context(), &healthgrpc.HealthCheckRequest{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			report := measureCPU(b)
			for b.Loop() {
				if _, err := client.Check(b.Context(), &healthgrpc.HealthCheckRequest{}); err != nil {
					b.Fatal(err)
				}
			}
			report()
		})
	}
}
