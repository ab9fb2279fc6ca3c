package admin

import (
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	t1 := func(s time.Duration) time.Time { return now.Add(-s) }
	for want, got := range map[string]string{
		"0": count(0), "999": count(999), "1\u202f000": count(1000), "12\u202f345\u202f678": count(uint64(12345678)), "-1\u202f000": count(-1000), "-100": count(-100),
		"1 pod": plural(1, "pod"), "0 pods": plural(0, "pod"), "1\u202f000 pods": plural(1000, "pod"),
		"0\u202f%": percent(0), "<\u202f0.01\u202f%": percent(0.00001), "0.05\u202f%": percent(0.0005), "0.5\u202f%": percent(0.005), "33\u202f%": percent(1.0 / 3),
		"99.5\u202f%": percent(0.995), "99.95\u202f%": percent(0.9995), ">\u202f99.99\u202f%": percent(0.9999999), "100\u202f%": percent(1), "–": percent(nan()),
		"1\u202fns": latency(1), "1.5\u202fµs": latency(1500), "999\u202fµs": latency(999 * time.Microsecond), "1.0\u202fms": latency(999900), "12\u202fms": latency(12 * time.Millisecond),
		"1.0\u202fs": latency(999900 * time.Microsecond), "75\u202fs": latency(75 * time.Second), "1\u202f200\u202fs": latency(20 * time.Minute),
		"0\u202fB": size(0), "999\u202fB": size(999), "1.0\u202fkB": size(1000), "12\u202fMB": size(12_345_678), "3.4\u202fGB": size(3_400_000_000), "18\u202f446\u202f744\u202fTB": size(1<<64 - 1),
		"less than 1\u202fs": span(time.Millisecond), "59\u202fs": span(59 * time.Second), "119\u202fs": span(119 * time.Second), "2\u202fmin": span(2 * time.Minute),
		"2\u202fh": span(2 * time.Hour), "3\u202fdays": span(75 * time.Hour),
		"just now": ago(now, t1(0)), "3\u202fs ago": ago(now, t1(3*time.Second)),
		"2026-11-22 03:00:00 UTC": clock(now),
		"":                        list(nil), "a": list([]string{"a"}), "a and b": list([]string{"a", "b"}), "a, b and c": list([]string{"a", "b", "c"}),
		"0/s": perSecond(0), "<\u202f0.1/s": perSecond(0.01), "0.3/s": perSecond(0.3), "1\u202f234/s": perSecond(1234.4),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// The clock of another machine may be ahead.
	if got := ago(now, now.Add(time.Hour)); got != "just now" {
		t.Errorf("a time to come is %q", got)
	}
	if got := latency(-time.Second); got != none {
		t.Errorf("a negative latency is %q", got)
	}
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}
