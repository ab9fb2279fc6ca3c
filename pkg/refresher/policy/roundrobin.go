package policy

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// RoundRobinConfig configures [RoundRobin].
type RoundRobinConfig struct {
	// SlowStart is how long a candidate with a Since grows to its full share; 0 is
	// no slow start.
	SlowStart time.Duration
}

// DefaultRoundRobinConfig returns the defaults.
func DefaultRoundRobinConfig() RoundRobinConfig {
	return RoundRobinConfig{SlowStart: 10 * time.Second}
}

// RoundRobin returns the policy that takes one endpoint after the other, each in
// proportion to its weight. It begins at a random one, so that many clients that
// start together do not all begin with the same.
func RoundRobin(cfg RoundRobinConfig) Policy { return roundRobin{cfg} }

type roundRobin struct{ cfg RoundRobinConfig }

func (roundRobin) Name() string { return "round_robin" }

func (p roundRobin) NewPicker(c []Candidate, now Nanos) Picker {
	if len(c) == 0 {
		return &roundPicker{}
	}
	r := &roundPicker{n: uint64(len(c)), share: shares(c), ramp: newRamp(c, p.cfg.SlowStart, now)}
	r.next.Store(rand.Uint64N(1 << 32))
	return r
}

type roundPicker struct {
	n     uint64
	share []uint16 // nil when all weights are equal
	ramp  ramp
	_     [64]byte // the counter changes with every pick, the rest never
	next  atomic.Uint64
}

func (p *roundPicker) Pick(now Nanos) int {
	if p.n < 2 {
		return int(p.n) - 1
	}
	i := p.turn()
	if !p.ramp.active(now) {
		return i
	}
	// The neighbour takes what a new endpoint gives away. Where all are new, one
	// of them has to.
	const tries = 8
	for range tries {
		if !p.ramp.refuses(i, now, rand.Uint32()) {
			break
		}
		i = p.turn()
	}
	return i
}

// turn returns whose turn it is. With weights it is the static stride scheduler
// of gRFC A58: in round g an endpoint of share s of 2^16-1 is passed over unless
// g x s crosses a multiple of 2^16-1, with an offset per endpoint so that those of
// equal weight are not all passed over in the same round. The heaviest is never
// passed over.
func (p *roundPicker) turn() int {
	for {
		at := p.next.Add(1)
		i := at % p.n
		if p.share == nil {
			return int(i)
		}
		s := uint64(p.share[i])
		if (at/p.n*s+i*(mostShare/2))%mostShare+s >= mostShare {
			return int(i)
		}
	}
}

const mostShare = 1<<16 - 1

// shares scales the weights so that the largest is mostShare. None falls below a
// thousandth, so that a turn takes a bounded number of steps.
func shares(c []Candidate) []uint16 {
	largest, equal := 0.0, true
	for i := range c {
		largest = max(largest, c[i].weight())
		equal = equal && c[i].weight() == c[0].weight()
	}
	if equal {
		return nil
	}
	out := make([]uint16, len(c))
	for i := range c {
		out[i] = uint16(max(c[i].weight()/largest*mostShare+0.5, mostShare/1000))
	}
	return out
}
