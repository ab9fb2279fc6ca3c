// Package policy chooses the endpoint of a call and decides which endpoint is
// left alone for a while.
//
// It refuses to know gRPC, connections or sets of endpoints: who embeds it says
// when a call begins and how it ended, and gets an index.
//
//	p := policy.PeakEWMA(policy.DefaultPeakEWMAConfig())
//	picker := p.NewPicker([]policy.Candidate{{Node: a}, {Node: b}}, policy.Now())
//
//	start := policy.Now()
//	node := nodes[picker.Pick(start)]
//	node.Begin(start)
//	… the call …
//	node.End(start, policy.Now(), policy.Success)
//
// # What is remembered, and where
//
// All that is learned about an endpoint lives in its [Node]: calls in flight,
// latency, failures. A [Picker] only arranges Nodes, and is made anew whenever
// the endpoints change, at the cost of one pass over them; no Node is rebuilt,
// copied or forgotten by that.
//
// # Policies
//
//   - [PeakEWMA]: of two endpoints drawn at random the one with the smaller
//     latency x (calls in flight + 1), the latency being a moving average that
//     climbs fast and comes down slowly; of two whose latencies are alike the one
//     with fewer calls in flight.
//   - [LeastRequest]: of some drawn at random the one with the fewest calls in
//     flight (gRFC A48).
//   - [RoundRobin]: one after the other, in proportion to the weights.
//
// [PeakEWMA] and [LeastRequest] keep away from an endpoint that fails fast, which
// both of their measures would otherwise take for a fast and idle one.
//
// # Outlier ejection
//
// An [Ejector] (gRFC A50) works with any policy: it names the endpoints to leave
// out, and its owner makes the next Picker without them.
//
// Package policytest holds the contract suite for every Policy.
package policy
