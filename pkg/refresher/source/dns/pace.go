package dns

import (
	"math/rand/v2"
	"time"
)

// Pace decides when to look again. It is a plain value without a clock, so that
// a fleet of clients can be simulated with it; the zero value is of no use, see
// [Config.Pace]. It is not for concurrent use.
//
//   - The wait is Interval, longer or shorter by up to Jitter's share.
//   - The first wait is a random part of Interval, from a fifth to the whole: all
//     clients of a Deployment start at the same moment, and jitter alone would
//     take minutes to spread them.
//   - The interval doubles up to MaxInterval while answers are large and
//     unchanged. A change, a failure or a question from outside ends that.
//   - With OnTTL it is the TTL where that is longer than Interval, and never
//     shorter: caches on the way would only repeat themselves.
type Pace struct {
	Interval, MaxInterval time.Duration
	Jitter                float64
	OnTTL                 bool
	// Random gives numbers from 0 to 1, without 1; nil means those of
	// math/rand/v2.
	Random func() float64

	current time.Duration // 0 before the first look
}

// Pace returns the pace of the configuration.
func (c Config) Pace() Pace {
	return Pace{Interval: c.Interval, MaxInterval: c.MaxInterval, Jitter: c.Jitter, OnTTL: c.RefreshOnTTL}
}

// Look is what the pace depends on.
type Look struct {
	// Changed is true when the Set differs from the last one, and when there is
	// none: an error says nothing about what is unchanged.
	Changed bool
	// Asked is true when somebody asked for the look.
	Asked bool
	// Bytes is the size of the answer, TTL its time to live, 0 when unknown.
	Bytes int
	TTL   time.Duration
}

// maxTTLWait is the longest wait for a TTL.
const maxTTLWait = time.Hour

// Next returns how long to wait after a look.
func (p *Pace) Next(l Look) time.Duration {
	first := p.current == 0
	if first || l.Changed || l.Asked || l.Bytes <= ednsSize {
		p.current = p.Interval
	} else {
		p.current = min(2*p.current, max(p.MaxInterval, p.Interval))
	}
	switch {
	case p.OnTTL && l.TTL > p.Interval:
		return stretch(min(l.TTL, max(maxTTLWait, p.Interval)), 2*p.Jitter*p.random())
	case first && p.Jitter > 0:
		return stretch(p.Interval, -0.8*p.random())
	}
	return stretch(p.current, p.Jitter*(2*p.random()-1))
}

func stretch(d time.Duration, share float64) time.Duration {
	return d + time.Duration(share*float64(d))
}

func (p *Pace) random() float64 {
	if p.Random != nil {
		return p.Random()
	}
	return rand.Float64()
}

// How often questions from outside are answered: so many in a row, then one per
// so long. A channel whose connections break one by one asks each time.
const (
	askBurst = 3
	askEvery = time.Second
)

// bucket is the token bucket of questions from outside. The zero value is full.
type bucket struct {
	used float64
	at   time.Time
}

// take takes a token, or says how long there will be none.
func (b *bucket) take(now time.Time) time.Duration {
	if !b.at.IsZero() {
		b.used = max(0, b.used-float64(now.Sub(b.at))/float64(askEvery))
	}
	b.at = now
	// The tolerance keeps rounding from asking for a wait of a nanosecond.
	const tolerance = 1e-6
	if over := b.used + 1 - askBurst; over > tolerance {
		return time.Duration(over * float64(askEvery))
	}
	b.used++
	return 0
}
