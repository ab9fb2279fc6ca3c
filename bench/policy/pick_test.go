package policy

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/bufbuild/httplb/conn"
	httppicker "github.com/bufbuild/httplb/picker"
	orca "github.com/cncf/xds/go/xds/data/orca/v3"
	"github.com/zeromicro/go-zero/core/logx"
	_ "github.com/zeromicro/go-zero/zrpc" // registers p2c_ewma
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/balancer/weightedroundrobin"

	_ "github.com/grpclb/kubectl-grpclb/pkg/refresher/grpcresolver" // registers ours
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

var sizes = []int{3, 10, 100, 1000, 10000}

// pair is a pick and the end of its call. Several goroutines call it at once.
type pair func()

// contestants are all that are compared; each makes its pair for a number of endpoints, up to most (0: any). Two peers make a list of all
// endpoints for each of them that is READY, which takes minutes for 10,000.
var contestants = []struct {
	name string
	make func(tb testing.TB, n int) pair
	most int
}{
	{"two_clock_reads", clocks, 0},
	{"peak_ewma", bare(policy.PeakEWMA(policy.DefaultPeakEWMAConfig())), 0},
	{"least_request", bare(policy.LeastRequest(policy.DefaultLeastRequestConfig())), 0},
	{"round_robin", bare(policy.RoundRobin(policy.DefaultRoundRobinConfig())), 0},
	{"grpc_peak_ewma", stock("grpclb_refresher_peak_ewma", `{}`), 0},
	{"grpc-go_round_robin", stock(roundrobin.Name, `{}`), 0},
	{"grpc-go_weighted_round_robin", stock(weightedroundrobin.Name, `{"blackoutPeriod":"0s"}`), 1000},
	{"grpc-go_least_request", stock(leastrequest.Name, `{}`), 0},
	{"go-zero_p2c_ewma", stock("p2c_ewma", `{}`), 1000},
	{"httplb_power_of_two", httplb, 0},
}

// made keeps what was set up: benchmarks run many times.
var made = map[string]pair{}

func BenchmarkPick(b *testing.B) {
	logx.Disable() // go-zero tells each minute what it counted
	for _, n := range sizes {
		for _, c := range contestants {
			if c.most > 0 && n > c.most {
				continue
			}
			b.Run(fmt.Sprintf("endpoints=%d/impl=%s", n, c.name), func(b *testing.B) {
				key := fmt.Sprint(n, c.name)
				do := made[key]
				if do == nil {
					do = c.make(b, n)
					made[key] = do
				}
				// Package testing collects garbage before each run, of all that is in made: the caches hold nothing of this one then, and
				// to fetch it would be a tenth of the time with 10,000 endpoints.
				for range 2 * n {
					do()
				}
				b.ReportAllocs()
				report := measureCPU(b)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						do()
					}
				})
				report()
			})
		}
	}
}

// measureCPU begins to count the CPU time of a benchmark's loop; what it returns ends that.
func measureCPU(b *testing.B) (report func()) {
	before, ok := cpuTime()
	return func() {
		if after, _ := cpuTime(); ok {
			b.ReportMetric(float64(after-before)/float64(b.N), "cpu-ns/op")
		}
	}
}

func clocks(testing.TB, int) pair {
	return func() {
		if start := policy.Now(); policy.Now() < start {
			panic("time runs backwards")
		}
	}
}

// bare is a policy of ours without gRPC.
func bare(p policy.Policy) func(testing.TB, int) pair {
	return func(_ testing.TB, n int) pair {
		nodes := make([]*policy.Node, n)
		candidates := make([]policy.Candidate, n)
		for i := range nodes {
			nodes[i] = policy.NewNodeAmong(policy.DefaultNodeConfig(), n)
			candidates[i].Node = nodes[i]
			now := policy.Now()
			nodes[i].Begin(now)
			nodes[i].End(now, now.Add(time.Millisecond), policy.Success)
		}
		picker := p.NewPicker(candidates, policy.Now())
		return func() {
			start := policy.Now()
			node := nodes[picker.Pick(start)]
			node.Begin(start)
			node.End(start, policy.Now(), policy.Success)
		}
	}
}

// stock is a registered gRPC balancer.
func stock(name, config string) func(testing.TB, int) pair {
	return func(tb testing.TB, n int) pair {
		d, err := drive(name, config, n)
		if err != nil {
			tb.Fatal(err)
		}
		done := balancer.DoneInfo{BytesSent: true, BytesReceived: true}
		if name == weightedroundrobin.Name {
			// Weights that differ: without them it is round_robin.
			reports := [2]*orca.OrcaLoadReport{{CpuUtilization: 0.5, RpsFractional: 100}, {CpuUtilization: 0.5, RpsFractional: 150}}
			d.all(tb, n, func(i int) balancer.DoneInfo {
				return balancer.DoneInfo{BytesSent: true, BytesReceived: true, ServerLoad: reports[i%2]}
			})
			<-time.After(1500 * time.Millisecond) // it weighs once a second
		} else {
			d.all(tb, n, func(int) balancer.DoneInfo { return done })
		}
		_, picker := d.current()
		info := balancer.PickInfo{FullMethodName: "/bench/Call", Ctx: context.Background()}
		return func() {
			r, err := picker.Pick(info)
			if err != nil {
				panic(err)
			}
			if r.Done != nil {
				r.Done(done)
			}
		}
	}
}

// httplb is not for gRPC: its picker is called as its transport does.
func httplb(tb testing.TB, n int) pair {
	conns := make(httpConns, n)
	for i := range conns {
		conns[i] = &httpConn{}
	}
	picker := httppicker.NewPowerOfTwo(nil, conns)
	return func() {
		_, done, err := picker.Pick((*http.Request)(nil))
		if err != nil {
			panic(err)
		}
		done()
	}
}

type httpConn struct{ conn.Conn }

type httpConns []*httpConn

func (c httpConns) Len() int            { return len(c) }
func (c httpConns) Get(i int) conn.Conn { return c[i] }
