package relay

import (
	"fmt"
	"time"
)

// Config are the bounds of an Engine. Sizes are bytes.
type Config struct {
	// StreamWindow and ConnWindow are the flow-control windows that both sides are
	// told (RFC 9113, 5.2). They must be 65535 at least, and ConnWindow not less
	// than StreamWindow. A stream that nobody reads holds at most StreamWindow.
	StreamWindow, ConnWindow int
	// MaxHeaderList is the largest header list (RFC 9113, 6.5.2: names, values and
	// 32 for each field) that is relayed. A call with a larger one is refused, and
	// nothing else suffers, as long as its block is not larger than MaxHeaderBlock
	// and comes in no more than MaxContinuations frames besides the first; beyond
	// that the connection is closed.
	MaxHeaderList, MaxHeaderBlock, MaxContinuations int
	// MaxStreams is how many calls a client connection may have open
	// (SETTINGS_MAX_CONCURRENT_STREAMS). One that the client cancelled counts until
	// the pod's connection has taken the RST_STREAM.
	MaxStreams uint32
	// MaxWaiting is how many calls may wait for a backend that has room, and MaxWait
	// how long each does at most when its own grpc-timeout does not end it before;
	// 0: as long as the client does.
	MaxWaiting int
	MaxWait    time.Duration
	// MaxOut is how much may lie in a connection's Out, taken and not yet Written
	// included, before messages wait in their streams instead. MaxControl is how
	// much of what cannot wait (acknowledgements, resets) may come on top of it
	// before the peer, who reads nothing and makes work, is disconnected; it must
	// have room for two header lists.
	MaxOut, MaxControl int
	// MaxBuffered is how much may wait in all streams together. Beyond that a call
	// that is not read ends with RESOURCE_EXHAUSTED when it holds more than
	// MaxBuffered / open calls: all others go on as before, and memory is bound by
	// twice MaxBuffered. The same much may be kept of metadata; a call beyond that is
	// refused.
	MaxBuffered int
	// RetainRequest is how much of a call's messages is kept until its response
	// begins, so that the call can be given to another backend when the first says
	// that it never looked at it. RetainTotal bounds the sum.
	RetainRequest, RetainTotal int
	// Retries is how often a call is given to another backend at most.
	Retries int
	// HandshakeTimeout is how long a peer has to send its preface and SETTINGS and
	// to acknowledge ours.
	HandshakeTimeout time.Duration
	// GoAwayGrace is the longest time between the two GOAWAY frames of a drain
	// (RFC 9113, 6.8): the answer to a PING usually ends it before.
	GoAwayGrace time.Duration
	// Budgets bound frames that cost a peer little and us much.
	Budgets Budgets
}

// Rate is how many events a connection may cause.
type Rate struct {
	PerSecond int
	// Burst is how many may come at once.
	Burst int
}

// Budgets are the rates of frames that are legal one by one and an attack in
// masses. A connection that exceeds one is closed with ENHANCE_YOUR_CALM.
type Budgets struct {
	// Resets are calls that the client cancels within a second, with no byte of a
	// response seen (CVE-2023-44487, rapid reset).
	Resets Rate
	// Pings that want an answer (CVE-2019-9512). grpc-go measures the bandwidth with
	// them, up to one for each round trip.
	Pings Rate
	// Settings, each of which touches all streams (CVE-2019-9515).
	Settings Rate
	// Empty frames of DATA and headers that end nothing (CVE-2019-9518).
	Empty Rate
	// Windows are WINDOW_UPDATE frames beyond four for each DATA frame that was sent
	// to the peer.
	Windows Rate
	// Others: PRIORITY, unknown types, frames for streams that have ended.
	Others Rate
}

// maxStreams is also how many calls may be cancelled at once: a client that gives up
// all it has does nothing wrong, and can have no more.
//
// resetsPerSecond is four times what a client of 10,000 calls a second cancels when
// it gives up one in twenty, which leaves room for hedging; and what a hostile
// one gains by staying below it is less than a tenth of a core. Others count what a
// server's clients do, who are browsers mostly: nghttp2 takes 33 a second
// and 1000 at once, Envoy closes when most of 500 requests were given up within a
// second. A client of ours can be a whole application. grpc-go, x/net/http2 and
// HAProxy have no rate: they bound what runs at a time, given up or not, as
// MaxStreams does here.
const (
	maxStreams      = 10_000
	resetsPerSecond = 2000
)

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		StreamWindow:     128 << 10,
		ConnWindow:       1 << 20,
		MaxHeaderList:    64 << 10,
		MaxHeaderBlock:   512 << 10,
		MaxContinuations: 64,
		MaxStreams:       maxStreams,
		MaxWaiting:       1000,
		MaxWait:          30 * time.Second,
		MaxOut:           256 << 10,
		MaxControl:       256 << 10,
		MaxBuffered:      32 << 20,
		RetainRequest:    16 << 10,
		RetainTotal:      8 << 20,
		Retries:          2,
		HandshakeTimeout: 10 * time.Second,
		GoAwayGrace:      time.Second,
		Budgets: Budgets{
			Resets:   Rate{PerSecond: resetsPerSecond, Burst: maxStreams},
			Pings:    Rate{PerSecond: 10_000, Burst: 10_000},
			Settings: Rate{PerSecond: 50, Burst: 100},
			Empty:    Rate{PerSecond: 1000, Burst: 1000},
			Windows:  Rate{PerSecond: 10_000, Burst: 10_000},
			Others:   Rate{PerSecond: 10_000, Burst: 10_000},
		},
	}
}

// Validate returns an error that names the first field with a value that cannot
// be used.
func (c Config) Validate() error {
	for _, f := range []struct {
		name     string
		v        int64
		min, max int64
	}{
		{"StreamWindow", int64(c.StreamWindow), defaultWindow, maxWindow},
		{"ConnWindow", int64(c.ConnWindow), int64(c.StreamWindow), maxWindow},
		{"MaxHeaderList", int64(c.MaxHeaderList), 4096, 16 << 20},
		{"MaxHeaderBlock", int64(c.MaxHeaderBlock), int64(c.MaxHeaderList), 64 << 20},
		{"MaxContinuations", int64(c.MaxContinuations), 1, 1 << 20},
		{"MaxStreams", int64(c.MaxStreams), 1, maxStreamID},
		{"MaxWaiting", int64(c.MaxWaiting), 0, 1 << 24},
		{"MaxWait", int64(c.MaxWait), 0, int64(24 * time.Hour)},
		{"MaxOut", int64(c.MaxOut), maxFrame, 1 << 30},
		{"MaxControl", int64(c.MaxControl), 2 * int64(c.MaxHeaderList), 1 << 30},
		{"MaxBuffered", int64(c.MaxBuffered), int64(c.MaxHeaderList), 1 << 40},
		{"RetainRequest", int64(c.RetainRequest), 0, 1 << 30},
		{"RetainTotal", int64(c.RetainTotal), 0, 1 << 40},
		{"Retries", int64(c.Retries), 0, 100},
		{"HandshakeTimeout", int64(c.HandshakeTimeout), 1, int64(time.Hour)},
		{"GoAwayGrace", int64(c.GoAwayGrace), 1, int64(time.Hour)},
	} {
		if f.v < f.min || f.v > f.max {
			return fmt.Errorf("relay: %s is %d, must be from %d to %d", f.name, f.v, f.min, f.max)
		}
	}
	for i, r := range c.Budgets.list() {
		if r.PerSecond < 1 || r.PerSecond > int(time.Second) || r.Burst < 1 || r.Burst > 1<<30 {
			return fmt.Errorf("relay: budget of %s is %d a second, %d at once: both must be at least 1", budgetNames[i], r.PerSecond, r.Burst)
		}
	}
	return nil
}
