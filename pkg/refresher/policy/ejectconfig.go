package policy

import (
	"fmt"
	"time"
)

// EjectConfig says when an [Ejector] ejects an endpoint and for how long. Each
// of the three reasons is switched off by its first field being 0.
type EjectConfig struct {
	// ConsecutiveFailures is how many calls in a row that [Failed] or were
	// [Overloaded] eject an endpoint.
	ConsecutiveFailures int
	// ConsecutiveTimeouts is how many calls in a row that [TimedOut] do, provided
	// that the first of them began at least SilentFor ago: a peer is taken for
	// dead when it was silent for so long, not when callers are impatient.
	ConsecutiveTimeouts int
	SilentFor           time.Duration
	// SuccessRateStdevs ejects an endpoint whose share of successful calls in an
	// Interval is more than so many standard deviations below the mean of all
	// (gRFC A50: stdev_factor / 1000). Only endpoints with SuccessRateVolume calls
	// in the interval are compared, and only when there are SuccessRateHosts of
	// them.
	SuccessRateStdevs float64
	SuccessRateHosts  int
	SuccessRateVolume int
	// Interval is the time between two comparisons of success rates; in each an
	// endpoint that is not ejected is forgiven one ejection.
	Interval time.Duration
	// BaseTime is the length of the first ejection, TimeoutBaseTime that of one for
	// time-outs: of a paused machine nobody knows for how long it is away. The n-th
	// lasts n times as long, but at most MaxTime.
	BaseTime, TimeoutBaseTime, MaxTime time.Duration
	// MaxEjectedPercent of the endpoints may be ejected at the same time, but one of
	// two always; 0 ejects nothing.
	MaxEjectedPercent int
	// PanicPercent sets all ejections aside while less than so many percent of the
	// endpoints are usable: better a bad endpoint than an overloaded good one. 0
	// never does.
	PanicPercent int
}

// DefaultEjectConfig returns the defaults: those of gRFC A50 for the success rate
// and the times, with a larger share that may be ejected, for sets of a few pods.
func DefaultEjectConfig() EjectConfig {
	return EjectConfig{
		ConsecutiveFailures: 5,
		ConsecutiveTimeouts: 3,
		SilentFor:           1500 * time.Millisecond,
		SuccessRateStdevs:   1.9,
		SuccessRateHosts:    5,
		SuccessRateVolume:   100,
		Interval:            10 * time.Second,
		BaseTime:            30 * time.Second,
		TimeoutBaseTime:     5 * time.Second,
		MaxTime:             300 * time.Second,
		MaxEjectedPercent:   50,
		PanicPercent:        50,
	}
}

// Enabled reports whether anything can be ejected.
func (c EjectConfig) Enabled() bool {
	return c.MaxEjectedPercent > 0 && (c.ConsecutiveFailures > 0 || c.ConsecutiveTimeouts > 0 || c.SuccessRateStdevs > 0)
}

// Validate returns an error that names the first field with a value that cannot
// be used.
func (c EjectConfig) Validate() error {
	for _, n := range []struct {
		name       string
		value, max int
	}{
		{"ConsecutiveFailures", c.ConsecutiveFailures, mostStreak},
		{"ConsecutiveTimeouts", c.ConsecutiveTimeouts, mostStreak},
		{"SuccessRateHosts", c.SuccessRateHosts, 1 << 30},
		{"SuccessRateVolume", c.SuccessRateVolume, 1 << 30},
		{"MaxEjectedPercent", c.MaxEjectedPercent, 100},
		{"PanicPercent", c.PanicPercent, 100},
	} {
		if n.value < 0 || n.value > n.max {
			return fmt.Errorf("%s is %d: from 0 to %d is allowed", n.name, n.value, n.max)
		}
	}
	if !(c.SuccessRateStdevs >= 0 && c.SuccessRateStdevs <= 100) {
		return fmt.Errorf("SuccessRateStdevs is %v: from 0 to 100 is allowed", c.SuccessRateStdevs)
	}
	for _, d := range []struct {
		name       string
		value, min time.Duration
	}{
		{"SilentFor", c.SilentFor, 0},
		{"Interval", c.Interval, 100 * time.Millisecond},
		{"BaseTime", c.BaseTime, 100 * time.Millisecond},
		{"TimeoutBaseTime", c.TimeoutBaseTime, 100 * time.Millisecond},
		{"MaxTime", c.MaxTime, 100 * time.Millisecond},
	} {
		if d.value < d.min || d.value > maxEjectTime {
			return fmt.Errorf("%s is %s: from %s to %s is allowed", d.name, d.value, d.min, maxEjectTime)
		}
	}
	return nil
}

const maxEjectTime = 24 * time.Hour
