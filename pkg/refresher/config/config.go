package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// The names under which the policies are registered with gRPC.
const (
	// PeakEWMA takes the better of two endpoints by latency and calls in flight.
	PeakEWMA = "grpclb_refresher_peak_ewma"
	// RoundRobin takes one endpoint after the other.
	RoundRobin = "grpclb_refresher_round_robin"
	// LeastRequest takes the one of two endpoints with fewer calls in flight.
	LeastRequest = "grpclb_refresher_least_request"
)

// Names lists the policies, the default first.
func Names() []string { return []string{PeakEWMA, RoundRobin, LeastRequest} }

// Known reports whether name is one of the policies.
func Known(name string) bool { return slices.Contains(Names(), name) }

// Config is one policy with everything that may be tuned. The zero value is not
// valid: begin with [Default].
type Config struct {
	// Policy is one of [Names].
	Policy string
	// SlowStart is how long a new endpoint's share grows to a full one; 0 gives
	// it a full share at once.
	SlowStart time.Duration
	// Decay is the time in which a latency or a penalty loses about two thirds of
	// its weight (PeakEWMA alone).
	Decay time.Duration
	// LongCall is the length from which on a call tells nothing about latency: it
	// is a stream (PeakEWMA alone).
	LongCall time.Duration
	// ConnectionsPerEndpoint is how many connections each endpoint gets.
	ConnectionsPerEndpoint int
	// Ejection says when an endpoint whose calls fail gets no calls for a while.
	Ejection Ejection
	// Refresh says how often endpoints are looked up and which answers are
	// believed.
	Refresh Refresh
}

// Ejection is outlier ejection; gRFC A50 is the model, and the fields that it
// has too carry its names.
type Ejection struct {
	// Enabled is false to switch all of it off.
	Enabled bool
	// ConsecutiveFailures in a row eject an endpoint at once; 0: they do not.
	ConsecutiveFailures int
	// ConsecutiveTimeouts in a row, calls whose deadline passed without one byte
	// from the server, eject an endpoint at once, provided that the first of them
	// began SilentFor ago or earlier; 0: they do not.
	ConsecutiveTimeouts int
	SilentFor           time.Duration
	// Interval is the time between two evaluations of success rates, and the time
	// that each looks back.
	Interval time.Duration
	// BaseEjectionTime is how long the first ejection lasts, TimeoutEjectionTime
	// the first one for time-outs. Both are multiplied by how often the endpoint
	// was ejected.
	BaseEjectionTime, TimeoutEjectionTime time.Duration
	// MaxEjectionTime bounds that product.
	MaxEjectionTime time.Duration
	// MaxEjectionPercent of the endpoints are ejected at most, though always one
	// when there are two or more; 0: none is.
	MaxEjectionPercent int
	// PanicPercent: when fewer than that share of the endpoints are usable,
	// ejections are set aside; 0: never.
	PanicPercent int
	// SuccessRate compares endpoints with each other.
	SuccessRate SuccessRate
}

// SuccessRate ejects endpoints whose share of successful calls is far below the
// others' (gRFC A50, success rate ejection).
type SuccessRate struct {
	// StdevFactor in thousandths: an endpoint is an outlier below the mean minus
	// StdevFactor/1000 standard deviations; 0: success rates eject nothing.
	StdevFactor int
	// MinimumHosts with RequestVolume calls each must exist, or nothing is judged.
	MinimumHosts int
	// RequestVolume is how many calls in an interval make an endpoint judged.
	RequestVolume int
}

// Refresh is about looking endpoints up. The first three fields concern the DNS
// source alone; a watch needs no interval.
type Refresh struct {
	// Interval is the time between two looks, give or take 10 %.
	Interval time.Duration
	// MaxInterval is what Interval is doubled up to while answers are large and
	// unchanged.
	MaxInterval time.Duration
	// OnTTL waits for the TTL of the answer where it is longer than Interval.
	OnTTL bool
	// FollowHeadlessTwin uses NAME-headless for a NAME that is a ClusterIP.
	FollowHeadlessTwin bool
	// EmptyGrace is how long an empty answer of a source that is not
	// authoritative is not believed.
	EmptyGrace time.Duration
	// MaxShrinkPercent: an answer that lost more than this share of the
	// endpoints, and at least MinShrink of them, is asked again.
	MaxShrinkPercent, MinShrink int
	// ConfirmAfter: two equal answers at least so far apart confirm a shrink.
	ConfirmAfter time.Duration
	// HoldFor is when a shrink that nothing confirmed or contradicted is
	// believed.
	HoldFor time.Duration
}

// Tuner is an [endpoint.Opener] that obeys [Refresh] in what it opens. Whoever
// opens sources with a Config in hand calls Tune first, once, and opens with what
// it returns. What the Opener was told itself counts more.
type Tuner interface {
	endpoint.Opener
	Tune(Refresh) endpoint.Opener
}

// Default is the policy with every field at its default. An unknown name gives
// a Config that [Config.Validate] refuses.
func Default(policy string) Config {
	return Config{
		Policy:                 policy,
		SlowStart:              10 * time.Second,
		Decay:                  10 * time.Second,
		LongCall:               5 * time.Second,
		ConnectionsPerEndpoint: 1,
		Ejection: Ejection{
			Enabled:             true,
			ConsecutiveFailures: 5,
			ConsecutiveTimeouts: 3,
			SilentFor:           1500 * time.Millisecond,
			Interval:            10 * time.Second,
			BaseEjectionTime:    30 * time.Second,
			TimeoutEjectionTime: 5 * time.Second,
			MaxEjectionTime:     300 * time.Second,
			MaxEjectionPercent:  50,
			PanicPercent:        50,
			SuccessRate: SuccessRate{
				StdevFactor: 1900, MinimumHosts: 5, RequestVolume: 100,
			},
		},
		Refresh: Refresh{
			Interval:           5 * time.Second,
			MaxInterval:        30 * time.Second,
			FollowHeadlessTwin: true,
			EmptyGrace:         60 * time.Second,
			MaxShrinkPercent:   50,
			MinShrink:          2,
			ConfirmAfter:       time.Second,
			HoldFor:            60 * time.Second,
		},
	}
}

// Validate reports every field that is out of its range, or that contradicts
// another one, in one error.
func (c Config) Validate() error {
	if !Known(c.Policy) {
		return fmt.Errorf("no policy is called %q: there are %s", c.Policy, strings.Join(Names(), ", "))
	}
	var wrong []string
	for _, f := range fields {
		if msg := f.check(&c); msg != "" {
			wrong = append(wrong, c.Policy+"."+f.Path+": "+msg)
		}
	}
	for _, p := range pairs {
		low, high := *p.low(&c), *p.high(&c)
		if low > high {
			wrong = append(wrong, fmt.Sprintf("%s.%s: %s is less than %s, which is %s", c.Policy, p.highPath, seconds(high), p.lowPath, seconds(low)))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &Error{Fields: wrong}
}

// Error is what is wrong with a configuration.
type Error struct {
	// Fields holds one sentence for each wrong field; each begins with the
	// field's path.
	Fields []string
}

func (e *Error) Error() string { return strings.Join(e.Fields, "; ") }
