package policy

// Policy makes Pickers. It may be used by several goroutines at once.
type Policy interface {
	// Name is the policy's name in configuration: "peak_ewma", "round_robin",
	// "least_request".
	Name() string
	// NewPicker arranges endpoints, at the moment now. It copies what it needs of
	// c and changes no Node. It takes time linear in len(c).
	NewPicker(c []Candidate, now Nanos) Picker
}

// Picker chooses among the candidates that it was made of. It may be used by
// several goroutines at once, takes no lock and allocates nothing.
type Picker interface {
	// Pick returns an index into those candidates, -1 when there are none. It
	// does not begin the call: the caller does that with [Node.Begin], or picks
	// again when it cannot use the answer.
	Pick(now Nanos) int
}

// Candidate is an endpoint that may get calls.
type Candidate struct {
	// Node is the endpoint's state; never nil. A Node may stand for several
	// candidates.
	Node *Node
	// Weight is its share of calls relative to the others. What is not a positive
	// number counts as 1.
	Weight float64
	// Since is when the endpoint began to take calls, for the slow start; 0 means
	// that it gets its full share at once.
	Since Nanos
}

// weight is the weight that counts.
func (c Candidate) weight() float64 {
	if c.Weight > 0 && c.Weight <= maxWeight {
		return c.Weight
	}
	if c.Weight > maxWeight {
		return maxWeight
	}
	return 1
}

// maxWeight is the largest weight of an EndpointSlice-like source (uint32).
const maxWeight = 1 << 32
