package policy

import "time"

// leastRamp is the share that a new endpoint begins with, that of Envoy's slow
// start (min_weight_percent). Less would leave an endpoint of a client with few
// calls without any.
const leastRamp = 0.1

// ramp is the slow start: it lets a new endpoint have a part of the picks that
// fall on it, growing evenly from a tenth to all of them. A new pod has cold
// caches and unfinished JIT compilation, and at once the fewest calls in flight
// of all.
type ramp struct {
	length Nanos
	// since is parallel to the candidates, nil when none of them ramps; until is
	// when the last of them is done.
	since []Nanos
	until Nanos
}

func newRamp(c []Candidate, length time.Duration, now Nanos) ramp {
	r := ramp{length: Nanos(length)}
	if length <= 0 {
		return r
	}
	for i := range c {
		if s := c[i].Since; s != 0 && now-s < r.length {
			if r.since == nil {
				r.since, r.until = make([]Nanos, len(c)), s+r.length
			}
			r.since[i], r.until = s, max(r.until, s+r.length)
		}
	}
	return r
}

// active reports whether any candidate still ramps.
func (r *ramp) active(now Nanos) bool { return r.since != nil && now < r.until }

// refuses reports whether candidate i gives this pick away. random are 32 random
// bits.
func (r *ramp) refuses(i int, now Nanos, random uint32) bool {
	s := r.since[i]
	if s == 0 {
		return false
	}
	age := now - s
	if age >= r.length {
		return false
	}
	share := max(float64(age)/float64(r.length), leastRamp)
	return float64(random) >= share*(1<<32)
}

// redraws is how often somebody else is looked for when both of a draw give a
// pick away. Half of the endpoints may ramp at once, the pods of a node that
// come back from an ejection say: every fourth draw has two of them then.
const redraws = 4

// settle returns the winner of a draw, or the other one when the winner gives
// this pick away and the other would take it. When neither would, others are
// drawn; where nearly all ramp one of them has to, and it is the winner.
func (r *ramp) settle(winner, other int, now Nanos, d *draw) int {
	if !r.refuses(winner, now, uint32(d.bits())) {
		return winner
	}
	if !r.refuses(other, now, uint32(d.bits())) {
		return other
	}
	for range redraws {
		if k := d.one(d.bits()); !r.refuses(k, now, uint32(d.bits())) {
			return k
		}
	}
	return winner
}
