package policy

// Outcome is how a call ended, as far as it says something about the endpoint.
type Outcome uint8

// The outcomes.
const (
	// Success: the endpoint did its work. A status of the application, such as
	// NOT_FOUND or INVALID_ARGUMENT, is a success: the server answered.
	Success Outcome = iota
	// Failed: UNAVAILABLE and its like. The endpoint is reachable, or its machine
	// is, but it does not do its work.
	Failed
	// Overloaded: RESOURCE_EXHAUSTED, or a server's push-back against retries
	// (gRFC A6).
	Overloaded
	// TimedOut: the deadline passed and the endpoint had sent nothing at all. A
	// deadline that passes later says more about the caller: Neutral.
	TimedOut
	// Erred: INTERNAL, UNKNOWN or DATA_LOSS that the server sent. Whether it is
	// the server or the call that is bad cannot be told: a handler's plain error
	// is UNKNOWN. It weighs in the comparison of success rates, where a fault that
	// all endpoints share is nobody's, and nowhere else.
	Erred
	// Neutral: it says nothing about the endpoint, as when the caller cancels.
	Neutral

	outcomes = iota
)

// String is the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Success:
		return "success"
	case Failed:
		return "failed"
	case Overloaded:
		return "overloaded"
	case TimedOut:
		return "timed out"
	case Erred:
		return "erred"
	case Neutral:
		return "neutral"
	}
	return "unknown"
}
