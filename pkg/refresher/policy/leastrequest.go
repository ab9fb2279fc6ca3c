package policy

import (
	"fmt"
	"time"
)

// LeastRequestConfig configures [LeastRequest].
type LeastRequestConfig struct {
	// Choices is how many endpoints are drawn, from 2 to 10 (gRFC A48); 0 means 2.
	Choices int
	// SlowStart is how long a candidate with a Since grows to its full share; 0 is
	// no slow start.
	SlowStart time.Duration
}

// DefaultLeastRequestConfig returns the defaults.
func DefaultLeastRequestConfig() LeastRequestConfig {
	return LeastRequestConfig{Choices: 2, SlowStart: 10 * time.Second}
}

// Validate returns an error that names the first field with a value that cannot
// be used.
func (c LeastRequestConfig) Validate() error {
	if c.Choices != 0 && (c.Choices < 2 || c.Choices > mostChoices) {
		return notAllowed("Choices", c.Choices, fmt.Sprintf("from 2 to %d (gRFC A48)", mostChoices))
	}
	return nil
}

const mostChoices = 10

// LeastRequest returns the policy that draws some endpoints, not necessarily
// different ones beyond the second, and takes the one with the fewest calls in
// flight per weight (gRFC A48). Long streams count in full, which makes it the
// policy for clients that mostly hold streams.
func LeastRequest(cfg LeastRequestConfig) Policy {
	cfg.Choices = min(max(cfg.Choices, 2), mostChoices)
	return leastRequest{cfg}
}

type leastRequest struct{ cfg LeastRequestConfig }

func (leastRequest) Name() string { return "least_request" }

func (p leastRequest) NewPicker(c []Candidate, now Nanos) Picker {
	return &leastPicker{nodes: nodesOf(c), choices: p.cfg.Choices, draw: newDraw(c), ramp: newRamp(c, p.cfg.SlowStart, now)}
}

type leastPicker struct {
	nodes   []*Node
	choices int
	draw    draw
	ramp    ramp
}

func (p *leastPicker) Pick(now Nanos) int {
	if len(p.nodes) < 2 {
		return len(p.nodes) - 1
	}
	i, j := p.draw.two(p.draw.bits())
	a, b := p.requests(i, now), p.requests(j, now)
	if b < a {
		i, j, a, b = j, i, b, a
	}
	for range p.choices - 2 {
		k := p.draw.one(p.draw.bits())
		if k == i {
			continue
		}
		if c := p.requests(k, now); c < a {
			i, j, a, b = k, i, c, a
		} else if k != j && c < b {
			j, b = k, c
		}
	}
	if p.ramp.active(now) {
		return p.ramp.settle(i, j, now, &p.draw)
	}
	return i
}

func (p *leastPicker) requests(i int, now Nanos) float32 {
	return p.nodes[i].requests(now, p.draw.scaleOf(i))
}
