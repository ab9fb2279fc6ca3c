package sidecar

import (
	"encoding/json"
	"time"
)

// Stats is what is known of one Proxy at a moment. Counts begin with the Proxy.
// In JSON, durations are seconds.
type Stats struct {
	// Name, Target and Listen are the Options'. Policy is the policy's name, Source
	// where the pods' addresses come from, "" before the first answer.
	Name   string   `json:"name"`
	Target string   `json:"target"`
	Policy string   `json:"policy"`
	Source string   `json:"source"`
	Listen []string `json:"listen"`
	// Ready and Reason are what Proxy.Ready says.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"`
	// Draining means that Proxy.Drain was called.
	Draining bool `json:"draining"`
	// Known is false before the first answer of the source. LastGood is when it
	// answered last, zero before that; LastError its error since then, or "".
	Known     bool      `json:"known"`
	LastGood  time.Time `json:"lastGood"`
	LastError string    `json:"lastError"`
	// Panic means that so many pods are ejected that ejections are set aside.
	Panic bool `json:"panic"`

	// Clients are the connections that are relayed now, ClientStreams the calls on
	// them, Waiting those of the calls that no pod has taken yet.
	Clients       int `json:"clients"`
	ClientStreams int `json:"clientStreams"`
	Waiting       int `json:"waiting"`
	// Calls are those that ended. Refused of them were answered by the sidecar
	// itself, Retried of them went to a second pod since the first never saw them.
	Calls   uint64 `json:"calls"`
	Refused uint64 `json:"refused"`
	Retried uint64 `json:"retried"`
	// RejectedClients are connections that were closed at once since
	// Limits.MaxClients were open.
	RejectedClients uint64      `json:"rejectedClients"`
	Passthrough     Passthrough `json:"passthrough"`

	// Pods are the members, in the order in which they were seen; then those that
	// were removed, for as long as they have calls and a minute longer.
	Pods []Pod `json:"pods"`
	// Refreshes are the last looks of the source, at most 50, the newest first.
	// Looks that found nothing new stand once in a row, with their number.
	Refreshes []Refresh `json:"refreshes"`
	// GuardDecisions counts by verdict (endpoint.Verdicts), RefreshOutcomes by
	// "source/outcome".
	GuardDecisions  map[string]uint64 `json:"guardDecisions"`
	RefreshOutcomes map[string]uint64 `json:"refreshOutcomes"`
	// RefreshDuration is how long looks took. Propagation is the time from the
	// moment that a pod was first seen to its first successful call.
	RefreshDuration Histogram `json:"refreshDuration"`
	Propagation     Histogram `json:"propagation"`
}

// Passthrough is about connections that are not HTTP/2.
type Passthrough struct {
	// Open are open now, Total began ever, Failed of them found no pod. Bytes went
	// through, both ways; they are counted after a second, or 256 KiB, at the latest.
	Open   int    `json:"open"`
	Total  uint64 `json:"total"`
	Failed uint64 `json:"failed"`
	Bytes  uint64 `json:"bytes"`
	// Kinds counts Total by "tls", "http1", "other" and "silent" (the client waited
	// for the server to speak first).
	Kinds map[string]uint64 `json:"kinds"`
	// LastPod is where the latest one went, "" before the first.
	LastPod string `json:"lastPod"`
}

// The states of a Pod.
const (
	// StateConnecting: no connection yet.
	StateConnecting = "connecting"
	// StateReady: it gets calls.
	StateReady = "ready"
	// StateWarming: it gets calls, fewer than its share as yet (slow start).
	StateWarming = "warming"
	// StateHeld: the source's last answer lacks it, and is not believed in that. It
	// gets calls only while no other pod can.
	StateHeld = "held"
	// StateEjected: it gets no calls for a while, because calls on it failed.
	StateEjected = "ejected"
	// StateDraining: it was removed, or its server shuts down; calls on it end.
	StateDraining = "draining"
	// StateUnreachable: no connection could be made, or nothing on it was HTTP/2.
	StateUnreachable = "unreachable"
	// StateSilent: it does not acknowledge what is sent to it; it gets no calls
	// until it does.
	StateSilent = "silent"
	// StateGone: it was removed and has no call left.
	StateGone = "gone"
)

// Pod is one endpoint.
type Pod struct {
	// Addr is its preferred address. Name, Node and Zone are "" where the source
	// does not know them.
	Addr string `json:"addr"`
	Name string `json:"name"`
	Node string `json:"node"`
	Zone string `json:"zone"`
	// State is one of the constants, StateReason a sentence for people or "". Since
	// is when it was first seen.
	State       string    `json:"state"`
	StateReason string    `json:"stateReason"`
	Since       time.Time `json:"since"`
	// Connections are those that can take calls, InFlight the calls on it now.
	Connections int `json:"connections"`
	InFlight    int `json:"inFlight"`
	// Calls are those that ended, the others count them by policy.Outcome, Codes by
	// the gRPC status code's name ("OK", "UNAVAILABLE"); "HTTP 404" is an answer
	// that was not gRPC's, "NONE" a call that ended without one.
	Calls      uint64            `json:"calls"`
	Succeeded  uint64            `json:"succeeded"`
	Failed     uint64            `json:"failed"`
	Overloaded uint64            `json:"overloaded"`
	TimedOut   uint64            `json:"timedOut"`
	Erred      uint64            `json:"erred"`
	Neutral    uint64            `json:"neutral"`
	Codes      map[string]uint64 `json:"codes"`
	// EWMA is the latency that the policy sees; P50 and so on are of the calls that
	// ended in the last minute, 0 when none did. They are exact to an eighth.
	EWMA time.Duration `json:"-"`
	P50  time.Duration `json:"-"`
	P95  time.Duration `json:"-"`
	P99  time.Duration `json:"-"`
	// Share is its part of all calls that ended in the last minute, 0 to 1.
	Share float64 `json:"share"`
	// Recent are its calls that ended in the last minute, RecentErrors those of them
	// that are neither Succeeded nor Neutral.
	Recent       uint64 `json:"recent"`
	RecentErrors uint64 `json:"recentErrors"`
	// Latency is that of all its calls.
	Latency Histogram `json:"latency"`
	// BytesIn came from it, BytesOut went to it: messages, without headers.
	BytesIn  uint64 `json:"bytesIn"`
	BytesOut uint64 `json:"bytesOut"`
	// Passthrough are the connections to it that are not HTTP/2 and are open now,
	// PassthroughBytes what went through such ones, both ways.
	Passthrough      int    `json:"passthrough"`
	PassthroughBytes uint64 `json:"passthroughBytes"`
	// EjectedUntil is when its ejection ends, zero when it is not ejected.
	EjectedUntil time.Time `json:"ejectedUntil"`
	// Ejections is how often it was ejected.
	Ejections uint64 `json:"ejections"`
}

// Histogram counts durations.
type Histogram struct {
	// Bounds are upper bounds in seconds, ascending; nobody writes to them.
	Bounds []float64 `json:"bounds"`
	// Counts[i] are those of at most Bounds[i] and more than the bound before; the
	// last one has no bound. Count is their number, Sum the sum in seconds.
	Counts []uint64 `json:"counts"`
	Sum    float64  `json:"sum"`
	Count  uint64   `json:"count"`
}

// Refresh is one look of the source, or a row of looks that found the same.
type Refresh struct {
	// At is when the (last) look ended, Took how long it took. Looks is how many
	// there were in the row, 1 or more.
	At     time.Time     `json:"at"`
	Source string        `json:"source"`
	Took   time.Duration `json:"-"`
	Looks  int           `json:"looks"`
	// Outcome is a word of the source's: "ok", "unchanged", "nxdomain" ...
	Outcome string `json:"outcome"`
	// Added and Removed are addresses, or nil. Size is how many pods are believed
	// afterwards, Held how many the guard keeps beside them.
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Size    int      `json:"size"`
	Held    int      `json:"held"`
	// Guard is the guard's "verdict: reason", Error why the look failed; both may be
	// "".
	Guard string `json:"guard"`
	Error string `json:"error"`
}

// MarshalJSON writes durations as seconds.
func (p Pod) MarshalJSON() ([]byte, error) {
	type plain Pod
	return json.Marshal(struct {
		plain
		EWMA float64 `json:"ewma"`
		P50  float64 `json:"p50"`
		P95  float64 `json:"p95"`
		P99  float64 `json:"p99"`
	}{plain(p), p.EWMA.Seconds(), p.P50.Seconds(), p.P95.Seconds(), p.P99.Seconds()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Pod) UnmarshalJSON(b []byte) error {
	type plain Pod
	in := struct {
		*plain
		EWMA float64 `json:"ewma"`
		P50  float64 `json:"p50"`
		P95  float64 `json:"p95"`
		P99  float64 `json:"p99"`
	}{plain: (*plain)(p)}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	p.EWMA, p.P50, p.P95, p.P99 = seconds(in.EWMA), seconds(in.P50), seconds(in.P95), seconds(in.P99)
	return nil
}

// MarshalJSON writes Took as seconds.
func (r Refresh) MarshalJSON() ([]byte, error) {
	type plain Refresh
	return json.Marshal(struct {
		plain
		Took float64 `json:"took"`
	}{plain(r), r.Took.Seconds()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Refresh) UnmarshalJSON(b []byte) error {
	type plain Refresh
	in := struct {
		*plain
		Took float64 `json:"took"`
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	r.Took = seconds(in.Took)
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
