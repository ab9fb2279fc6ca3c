package policy

import (
	"fmt"
	"math"
)

// verdicts are the calls that said something about the endpoint, and those of
// them that went well.
func verdicts(n *Node) (good, all uint64) {
	s := n.Stats()
	return s.Succeeded, s.Succeeded + s.Failed + s.Overloaded + s.TimedOut + s.Erred
}

// outlier is a Node with a success rate far below the others'.
type outlier struct {
	node   *Node
	reason string
}

// outliers compares success rates by the algorithm of gRFC A50, "success rate":
// of the endpoints with enough calls in the interval those are outliers for which
//
//	rate < mean - stdev x factor
//
// with the mean and the (population) standard deviation of these endpoints'
// rates. An ejected endpoint has too few calls to take part.
func (e *Ejector) outliers(nodes []*Node) []outlier {
	if e.cfg.SuccessRateStdevs <= 0 {
		return nil
	}
	type host struct {
		node *Node
		rate float64
	}
	var hosts []host
	var sum float64
	for _, n := range nodes {
		r := e.records[n]
		good, all := verdicts(n)
		good, all = good-min(good, r.good), all-min(all, r.all)
		if r.ejected || all == 0 || all < uint64(e.cfg.SuccessRateVolume) {
			continue
		}
		h := host{n, min(float64(good)/float64(all), 1)}
		hosts, sum = append(hosts, h), sum+h.rate
	}
	if len(hosts) == 0 || len(hosts) < e.cfg.SuccessRateHosts {
		return nil
	}
	mean := sum / float64(len(hosts))
	var variance float64
	for _, h := range hosts {
		variance += (h.rate - mean) * (h.rate - mean)
	}
	stdev := math.Sqrt(variance / float64(len(hosts)))
	threshold := mean - stdev*e.cfg.SuccessRateStdevs
	var out []outlier
	for _, h := range hosts {
		// Equal rates differ from their mean by rounding alone.
		if h.rate < threshold && mean-h.rate > 1e-9 {
			out = append(out, outlier{h.node, fmt.Sprintf("%.1f%% of its calls succeed, %.1f%% on average", 100*h.rate, 100*mean)})
		}
	}
	return out
}

// nextInterval begins to count anew, and forgives an ejection to those that were
// in use all the time (gRFC A50: the multiplier is decremented).
func (e *Ejector) nextInterval(now Nanos, nodes []*Node) {
	for _, n := range nodes {
		r := e.records[n]
		r.good, r.all = verdicts(n)
		if !r.ejected && r.times > 0 && r.back <= e.interval {
			r.times--
		}
	}
	e.interval = now
}
