package policy

import "time"

// PeakEWMAConfig configures [PeakEWMA]. Decay and LongCall belong to the Nodes:
// [NodeConfig].
type PeakEWMAConfig struct {
	// SlowStart is how long a candidate with a Since grows to its full share; 0 is
	// no slow start.
	SlowStart time.Duration
}

// DefaultPeakEWMAConfig returns the defaults.
func DefaultPeakEWMAConfig() PeakEWMAConfig { return PeakEWMAConfig{SlowStart: 10 * time.Second} }

// PeakEWMA returns the policy that draws two endpoints (the power of two choices,
// M. Mitzenmacher 2001) and takes the one with the smaller latency x (calls in
// flight + 1), the measure of Finagle and Linkerd. While the larger latency is less
// than twice the smaller one and 1 ms, they are alike, and calls in flight decide
// alone, and the draw where those are equal, too: such a difference says more of
// schedulers and of luck than of endpoints, and would give every draw between idle
// equals to the same one.
//
// Where the better one has many calls in flight all the same, or failed, two pairs
// more are drawn: most endpoints of a client may hang or fail at once, those of a
// node that died say, and the few that are left are to get the calls.
//
// The latency is a moving average that climbs with some dozens of slow calls, or
// with one that is very slow, and comes down within Decay. An endpoint that had
// fewer than two calls has none yet and is like any other: it neither waits for a
// call that nobody gives it nor draws all of them.
func PeakEWMA(cfg PeakEWMAConfig) Policy { return peakEWMA{cfg} }

type peakEWMA struct{ cfg PeakEWMAConfig }

func (peakEWMA) Name() string { return "peak_ewma" }

func (p peakEWMA) NewPicker(c []Candidate, now Nanos) Picker {
	return &peakPicker{nodes: nodesOf(c), draw: newDraw(c), ramp: newRamp(c, p.cfg.SlowStart, now)}
}

// nodesOf keeps what a pick needs of a candidate, as densely as can be: the
// list is read at random places.
func nodesOf(c []Candidate) []*Node {
	nodes := make([]*Node, len(c))
	for i := range c {
		nodes[i] = c[i].Node
	}
	return nodes
}

type peakPicker struct {
	nodes []*Node
	draw  draw
	ramp  ramp
}

// alike is the factor by which latencies must differ to count, after [noise] was
// added to both. The averages of equal endpoints differ by less nearly always, also
// where one call of a hundred takes 40 times as long as the others.
const alike = 2

// indifference is by how much the one drawn second must be better. What is left of
// a failure, or a single stream, would otherwise decide between idle equals, against
// their weights.
const indifference = 1.0 / 16

// crowded is from which load on the better one of two is not good enough: so many
// calls are in flight on it, or two in a row failed. It is likely then that both
// drawn are in trouble, as every third pair is where two of three endpoints hang,
// and others may not be. rounds is how many pairs more are drawn.
const (
	crowded = 8
	rounds  = 2
)

func (p *peakPicker) Pick(now Nanos) int {
	if len(p.nodes) < 2 {
		return len(p.nodes) - 1
	}
	i, j := p.draw.two(p.draw.bits())
	k, load := p.better(i, j, now)
	other := i + j - k
	if load >= crowded && len(p.nodes) > 2 {
		k, other = p.lookAround(k, other, now)
	}
	if p.ramp.active(now) {
		return p.ramp.settle(k, other, now, &p.draw)
	}
	return k
}

// better returns the better one of two and its load in calls.
func (p *peakPicker) better(i, j int, now Nanos) (k int, load float32) {
	// Of many endpoints neither is in the nearest cache: both are asked for before
	// one is waited for.
	x, y := p.nodes[i], p.nodes[j]
	wx, wy := x.latency.Load(), y.latency.Load()
	a, fa := x.load(wx, now, p.draw.scaleOf(i))
	b, fb := y.load(wy, now, p.draw.scaleOf(j))
	if a == 0 || b == 0 || a < b*alike && b < a*alike {
		a, b = 1, 1
	}
	if b*fb < a*fa*(1-indifference) {
		return j, fb
	}
	return i, fa
}

// lookAround looks for a better one than k, and returns the one it beat, too.
func (p *peakPicker) lookAround(k, other int, now Nanos) (best, second int) {
	for range rounds {
		i, j := p.draw.two(p.draw.bits())
		m, _ := p.better(i, j, now)
		if m == k {
			continue
		}
		w, load := p.better(k, m, now)
		if w == k {
			continue
		}
		k, other = m, k
		if load < crowded {
			break
		}
	}
	return k, other
}
