// Package report is what a load client tells of its run: every call and every stream, with times, so that whoever reads it decides which
// part of the run a question is about.
//
//	r.Window(fault, end).Failed() // calls that began after the fault and failed
//
// It refuses to judge: budgets are the driver's.
package report

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

// Call is one unary call as four numbers, which keeps 20,000 of them small in JSON: when it began and how long it took, in microseconds,
// the status code, and the index of its peer in [Report.Peers], -1 when it never got one.
type Call [4]int64

// NewCall makes a Call; start is the time since the report's Began.
func NewCall(start, took time.Duration, code codes.Code, peer int) Call {
	return Call{start.Microseconds(), took.Microseconds(), int64(code), int64(peer)}
}

// Start is when it began, since the report's Began.
func (c Call) Start() time.Duration { return time.Duration(c[0]) * time.Microsecond }

// Took is how long it took.
func (c Call) Took() time.Duration { return time.Duration(c[1]) * time.Microsecond }

// End is when it ended, since the report's Began.
func (c Call) End() time.Duration { return c.Start() + c.Took() }

// Code is its status.
func (c Call) Code() codes.Code { return codes.Code(c[2]) }

// Peer is the index of its peer, -1 for none.
func (c Call) Peer() int { return int(c[3]) }

// Stream is one long stream.
type Stream struct {
	// Peer is the address of the server.
	Peer string
	// Opened and Ended are since the report's Began; Ended is 0 for one that lived until the end of the run.
	Opened, Ended time.Duration
	// Code is how it ended: OK when the server ended it, as one does that is about to stop.
	Code codes.Code
	// Message is the status message, for people.
	Message string
	// Echoes counts messages that came back, Gap is the longest time without one.
	Echoes int
	Gap    time.Duration
}

// Broken reports whether it ended with an error before the run did.
func (s Stream) Broken() bool { return s.Ended > 0 && s.Code != codes.OK }

// Report is one run of one client.
type Report struct {
	Variant string
	// Hidden says that a proxy stands between the client and the servers: who would have answered a call that failed is not known then.
	Hidden bool
	// Began is the wall clock at the start of the run.
	Began time.Time
	// Peers are the servers' IP addresses, in the order in which they were first met.
	Peers []string
	// Calls are in the order in which they ended.
	Calls   []Call
	Streams []Stream
	// Lag is by how much the client was late with a call at worst: more than some milliseconds say that the machine was busy, and nothing
	// about load balancing.
	Lag time.Duration
	// Errors are some messages of failed calls, each once.
	Errors []string
	// Notes are what the variant has to tell about itself: events, statistics.
	Notes []string
}

// At turns a wall clock time into one since Began.
func (r Report) At(t time.Time) time.Duration { return t.Sub(r.Began) }

// Calls is a part of a run.
type Calls []Call

// Window is the calls that began in [from, to).
func (r Report) Window(from, to time.Time) Calls {
	a, b := r.At(from), r.At(to)
	return Calls(r.Calls).Where(func(c Call) bool { return c.Start() >= a && c.Start() < b })
}

// Where is the calls for which keep is true.
func (cs Calls) Where(keep func(Call) bool) Calls {
	var out Calls
	for _, c := range cs {
		if keep(c) {
			out = append(out, c)
		}
	}
	return out
}

// Failed is the calls that failed.
func (cs Calls) Failed() Calls { return cs.Where(func(c Call) bool { return c.Code() != codes.OK }) }

// Codes counts calls by status.
func (cs Calls) Codes() map[codes.Code]int {
	out := map[codes.Code]int{}
	for _, c := range cs {
		out[c.Code()]++
	}
	return out
}

// Quantile is the time under which a share p (0 to 1) of the calls ended, failed ones included: a call that runs into its deadline was
// slow, whatever its code. It is 0 without calls.
func (cs Calls) Quantile(p float64) time.Duration {
	if len(cs) == 0 {
		return 0
	}
	took := make([]time.Duration, len(cs))
	for i, c := range cs {
		took[i] = c.Took()
	}
	slices.Sort(took)
	return took[min(int(p*float64(len(took))), len(took)-1)]
}

// On is the calls on some peers. Where peers are hidden, calls that failed without an answer are taken for theirs.
func (r Report) On(cs Calls, peers ...string) Calls {
	return cs.Where(func(c Call) bool {
		if c.Peer() < 0 {
			return r.Hidden && c.Code() != codes.OK
		}
		return slices.Contains(peers, r.Peers[c.Peer()])
	})
}

// InFlight counts the calls on some peers that were under way at some time between from and to.
func (r Report) InFlight(from, to time.Time, peers ...string) int {
	a, b := r.At(from), r.At(to)
	return len(r.On(r.Calls, peers...).Where(func(c Call) bool { return c.Start() <= b && c.End() >= a }))
}

// FirstCall is when the first call that succeeded on a peer began; false when there was none.
func (r Report) FirstCall(peer string) (time.Time, bool) {
	i := slices.Index(r.Peers, peer)
	var first time.Duration
	found := false
	for _, c := range r.Calls {
		if c.Peer() == i && i >= 0 && c.Code() == codes.OK && (!found || c.Start() < first) {
			first, found = c.Start(), true
		}
	}
	return r.Began.Add(first), found
}
