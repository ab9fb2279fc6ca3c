package grpcresolver

import (
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

// anyReady is a policy made of grpc-go's base, as most that are not grpc-go's own
// are: it knows addresses and has not learned of endpoints.
type anyReady struct{}

func (anyReady) Build(info base.PickerBuildInfo) balancer.Picker {
	p := &inTurn{}
	for sc := range info.ReadySCs {
		p.all = append(p.all, sc)
	}
	return p
}

type inTurn struct {
	all  []balancer.SubConn
	next int // one call at a time
}

func (p *inTurn) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	if len(p.all) == 0 {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	p.next++
	return balancer.PickResult{SubConn: p.all[p.next%len(p.all)]}, nil
}

func TestPolicyThatKnowsAddresses(t *testing.T) {
	const name = "any_ready_for_tests"
	balancer.Register(base.NewBalancerBuilder(name, anyReady{}, base.Config{}))
	bs := backends(t, 3)
	source := static.New(endpoints(bs[:2]...)...)
	c, _ := dial(t, newBuilder(t, source, withPolicy(name, `{}`)))
	reached := func(n int) func() bool {
		return func() bool { return len(answeredBy(t, c, 20)) == n }
	}
	eventually(t, "both get calls", reached(2))
	source.Set(endpoints(bs...)...)
	eventually(t, "the third gets calls", reached(3))
}
