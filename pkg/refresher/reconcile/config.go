package reconcile

import (
	"errors"
	"fmt"
	"time"
)

// Config tunes the guard. [DefaultConfig] is what to start from; the zero value
// is not valid.
type Config struct {
	// EmptyGrace is how long an empty answer of a source that is not
	// authoritative is not believed, counted from the first of a run of them. 0
	// believes it at once.
	EmptyGrace time.Duration
	// MaxShrink is the share of the members, 0 to 1, that an answer may lack
	// without being asked again; 1 turns the question off.
	MaxShrink float64
	// MinShrink is how many members an answer lacks at least to be asked again,
	// 1 or more.
	MinShrink int
	// ConfirmAfter is how far apart two answers are at least that confirm each
	// other.
	ConfirmAfter time.Duration
	// HoldFor is how long a smaller answer that nothing confirms or contradicts
	// is not believed, at least ConfirmAfter.
	HoldFor time.Duration
}

// DefaultConfig returns the defaults. Their reasons are in
// docs/design/2026-11-22-membership.md.
func DefaultConfig() Config {
	return Config{
		EmptyGrace:   60 * time.Second,
		MaxShrink:    0.5,
		MinShrink:    2,
		ConfirmAfter: time.Second,
		HoldFor:      60 * time.Second,
	}
}

// Validate names every field that is out of its range.
func (c Config) Validate() error {
	var errs []error
	if c.EmptyGrace < 0 {
		errs = append(errs, fmt.Errorf("EmptyGrace is %v: it must not be negative", c.EmptyGrace))
	}
	if !(c.MaxShrink >= 0 && c.MaxShrink <= 1) { // NaN is neither
		errs = append(errs, fmt.Errorf("MaxShrink is %v: it is a share from 0 to 1", c.MaxShrink))
	}
	if c.MinShrink < 1 {
		errs = append(errs, fmt.Errorf("MinShrink is %d: it is at least 1", c.MinShrink))
	}
	if c.ConfirmAfter < 0 {
		errs = append(errs, fmt.Errorf("ConfirmAfter is %v: it must not be negative", c.ConfirmAfter))
	}
	if c.HoldFor < c.ConfirmAfter {
		errs = append(errs, fmt.Errorf("HoldFor is %v: it is at least ConfirmAfter (%v), or nothing could be confirmed", c.HoldFor, c.ConfirmAfter))
	}
	return errors.Join(errs...)
}
