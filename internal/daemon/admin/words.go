package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// How numbers are written on the page. Widths change as little as can be: the
// page is looked at while it lives.

const (
	thin = "\u202f" // narrow no-break space
	none = "–"
)

// count groups the digits of n by threes: 1 234 567.
func count[N ~int | ~uint64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + thin + digits[i:]
	}
	return digits
}

// plural is a count with its noun: "1 pod", "3 pods".
func plural[N ~int | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// percent is a share of 0 to 1. It is never rounded to 0 or 100 %: one failed
// call in a million is a failed call.
func percent(share float64) string {
	p := share * 100
	switch {
	case math.IsNaN(p):
		return none
	case p <= 0:
		return "0" + thin + "%"
	case p >= 100:
		return "100" + thin + "%"
	case p < 0.01:
		return "<" + thin + "0.01" + thin + "%"
	case p > 99.99:
		return ">" + thin + "99.99" + thin + "%"
	case p < 0.1 || p > 99.9:
		return fmt.Sprintf("%.2f%s%%", math.Min(p, 99.99), thin)
	case p < 10 || p > 99:
		return fmt.Sprintf("%.1f%s%%", p, thin)
	}
	return fmt.Sprintf("%.0f%s%%", p, thin)
}

// latency has three digits at most; 0 means that nothing was measured.
func latency(d time.Duration) string {
	switch {
	case d <= 0:
		return none
	case d < time.Microsecond:
		return fmt.Sprintf("%d%sns", d, thin)
	case d < 999500*time.Nanosecond:
		return digits(float64(d)/float64(time.Microsecond)) + thin + "µs"
	case d < 999500*time.Microsecond:
		return digits(float64(d)/float64(time.Millisecond)) + thin + "ms"
	}
	return digits(d.Seconds()) + thin + "s"
}

func digits(v float64) string {
	if v < 9.95 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(int(math.Round(v)))
}

// size is a number of bytes in units of 1000.
func size(n uint64) string {
	v := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB", "TB"} {
		if v < 999.5 || unit == "TB" {
			if unit == "B" {
				return count(n) + thin + unit
			}
			return digits(v) + thin + unit
		}
		v /= 1000
	}
	return none
}

// span is a duration for people, in its largest unit or two.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than 1" + thin + "s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d%ss", int(d.Seconds()), thin)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d%smin", int(d.Minutes()), thin)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d%sh", int(d.Hours()), thin)
	}
	return fmt.Sprintf("%d%sdays", int(d.Hours()/24), thin)
}

// ago is how long before now t was.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

// clock is the full form of a time, for titles.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// list joins words: "a", "a and b", "a, b and c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// perSecond is a rate.
func perSecond(v float64) string {
	switch {
	case v <= 0:
		return "0/s"
	case v < 0.05:
		return "<" + thin + "0.1/s"
	}
	return digits(v) + "/s"
}
