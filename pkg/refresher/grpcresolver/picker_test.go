package grpcresolver

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/tuning"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// newPicker is a picker over n endpoints.
func newPicker(name string, n, conns int) *picker {
	cfg := config.Default(name)
	h := newHub(square, cfg, &queue{})
	p := &picker{stream: 1}
	candidates := make([]policy.Candidate, n)
	for i := range n {
		m := &member{hub: h, id: uint64(i), node: policy.NewNode(h.nodes)}
		candidates[i] = policy.Candidate{Node: m.node, Weight: 1}
		c := &choice{m: m, node: m.node, sc: &fakeSub{}}
		for range conns {
			c.more = append(c.more, &conn{sc: &fakeSub{}})
		}
		p.choices = append(p.choices, c)
	}
	p.policy = tuning.Policy(cfg).NewPicker(candidates, policy.Now())
	return p
}

var success = balancer.DoneInfo{BytesSent: true, BytesReceived: true}

// A call allocates nothing in the picker.
func TestPickAllocatesNothing(t *testing.T) {
	for _, name := range config.Names() {
		for _, conns := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, conns), func(t *testing.T) {
				p := newPicker(name, 10, conns)
				got := testing.AllocsPerRun(1000, func() {
					r, err := p.Pick(balancer.PickInfo{})
					if err != nil {
						t.Fatal(err)
					}
					r.Done(success)
				})
				if got != 0 && !raceEnabled {
					t.Errorf("%v allocations for a call", got)
				}
			})
		}
	}
}

// A second Done for one call ends nothing else.
func TestDoneTwice(t *testing.T) {
	p := newPicker(config.RoundRobin, 1, 2)
	first, err := p.Pick(balancer.PickInfo{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Pick(balancer.PickInfo{})
	if err != nil {
		t.Fatal(err)
	}
	first.Done(success)
	first.Done(success)
	s := p.choices[0].m.node.Stats()
	if s.InFlight != 1 || s.Succeeded != 1 {
		t.Errorf("after a double end %d calls are in flight, %d succeeded", s.InFlight, s.Succeeded)
	}
	second.Done(success)
	for _, c := range p.choices[0].more {
		if n := c.inFlight.Load(); n != 0 {
			t.Errorf("%d calls on a connection", n)
		}
	}
}

func TestPickerOfNothing(t *testing.T) {
	p := newPicker(config.PeakEWMA, 0, 0)
	if _, err := p.Pick(balancer.PickInfo{}); err != balancer.ErrNoSubConnAvailable { //nolint:errorlint // gRPC compares it like this
		t.Errorf("error %v", err)
	}
}

// BenchmarkClock is what no policy with latencies can save.
func BenchmarkClock(b *testing.B) {
	var sum policy.Nanos
	for b.Loop() {
		start := policy.Now()
		sum += policy.Now() - start
	}
	_ = sum
}

func BenchmarkPickAndDone(b *testing.B) {
	for _, name := range config.Names() {
		for _, n := range []int{3, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				p := newPicker(name, n, 0)
				b.ReportAllocs()
				for b.Loop() {
					r, _ := p.Pick(balancer.PickInfo{})
					r.Done(success)
				}
			})
		}
	}
}

func BenchmarkPickAndDoneParallel(b *testing.B) {
	p := newPicker(config.PeakEWMA, 100, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := p.Pick(balancer.PickInfo{})
			r.Done(success)
		}
	})
}

// One endpoint of 10,000 changes: hub, balancer and picker together.
func BenchmarkUpdate(b *testing.B) {
	const n = 10_000
	r := newRig(b)
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i + 1
	}
	members := believed(ids...)
	r.mustSet(members)
	for i := 0; i < len(r.cc.subs); i++ {
		r.cc.subs[i].ready()
	}
	next := n
	b.ReportAllocs()
	for b.Loop() {
		next++
		members = append(members[1:], believed(next)...)
		r.mustSet(members)
	}
}
