package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func BenchmarkClock(b *testing.B) {
	for b.Loop() {
		a := Now()
		_ = Now() - a
	}
}

func candidates(n int) []Candidate {
	c := make([]Candidate, n)
	for i := range c {
		c[i] = Candidate{Node: NewNode(DefaultNodeConfig())}
		c[i].Node.latency.Store(pack(1e6*(1+rand.Float32()/10), ticks(Now())))
	}
	return c
}

func BenchmarkPickDone(b *testing.B) {
	for _, p := range []Policy{PeakEWMA(PeakEWMAConfig{}), LeastRequest(LeastRequestConfig{}), RoundRobin(RoundRobinConfig{})} {
		for _, n := range []int{3, 100, 10000} {
			b.Run(fmt.Sprintf("%s/n=%d/serial", p.Name(), n), func(b *testing.B) {
				c := candidates(n)
				k := p.NewPicker(c, Now())
				nodes := nodesOf(c)
				b.ReportAllocs()
				for b.Loop() {
					s := Now()
					node := nodes[k.Pick(s)]
					node.Begin(s)
					node.End(s, Now(), Success)
				}
			})
			b.Run(fmt.Sprintf("%s/n=%d/parallel", p.Name(), n), func(b *testing.B) {
				c := candidates(n)
				k := p.NewPicker(c, Now())
				nodes := nodesOf(c)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						s := Now()
						node := nodes[k.Pick(s)]
						node.Begin(s)
						node.End(s, Now(), Success)
					}
				})
			})
		}
	}
}
