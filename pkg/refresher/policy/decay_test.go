package policy

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// The bound that the comment of pow2neg states.
func TestPow2neg(t *testing.T) {
	const step = 1.0 / 4096
	worst, before := 0.0, float32(2)
	for y := float32(0); y < 126; y += step {
		got, want := pow2neg(y), math.Exp2(-float64(y))
		worst = max(worst, math.Abs(float64(got)-want)/want)
		if got >= before {
			t.Fatalf("pow2neg(%v) = %v does not fall from %v", y, got, before)
		}
		before = got
	}
	if worst > 1.1e-4 {
		t.Errorf("relative error %.3g", worst)
	}
	for n := range 126 {
		if got, want := pow2neg(float32(n)), float32(math.Exp2(-float64(n))); got != want {
			t.Errorf("pow2neg(%d) = %v, want %v", n, got, want)
		}
	}
	for _, y := range []float32{126, 1e9, float32(math.Inf(1)), float32(math.NaN())} {
		if got := pow2neg(y); got != 0 {
			t.Errorf("pow2neg(%v) = %v, want 0", y, got)
		}
	}
}

// A latency falls to 1/e in Decay.
func TestRate(t *testing.T) {
	for _, tau := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second, time.Hour} {
		n := NewNode(NodeConfig{Decay: tau})
		got := float64(n.decay(ticks(Nanos(tau))))
		if want := 1 / math.E; math.Abs(got-want) > 0.02 {
			t.Errorf("after Decay of %v %.4f is left, want %.4f", tau, got, want)
		}
	}
}

func BenchmarkPow2neg(b *testing.B) {
	var sum float32
	for i := 0; b.Loop(); i++ {
		sum += pow2neg(float32(i&1023) / 64)
	}
	_ = sum
}

func BenchmarkExp2(b *testing.B) {
	var sum float64
	for i := 0; b.Loop(); i++ {
		sum += math.Exp2(-float64(i&1023) / 64)
	}
	_ = sum
}

func TestSince(t *testing.T) {
	for _, c := range []struct{ later, earlier, want uint32 }{
		{5, 3, 2}, {3, 5, 0}, {3, 3, 0}, {1, math.MaxUint32, 2}, {math.MaxUint32, 1, 0},
	} {
		if got := since(c.later, c.earlier); got != c.want {
			t.Errorf("since(%d, %d) = %d, want %d", c.later, c.earlier, got, c.want)
		}
	}
}

func TestNow(t *testing.T) {
	a := Now()
	if d := Now().Sub(a); d < 0 || d > time.Minute {
		t.Errorf("two readings are %v apart", d)
	}
	if got := a.Add(time.Second).Sub(a); got != time.Second {
		t.Errorf("a second later is %v later", got)
	}
	synctest.Test(t, func(t *testing.T) {
		a := Now()
		<-time.After(time.Second)
		if got := Now().Sub(a); got != time.Second {
			t.Errorf("a second of a synctest bubble is %v", got)
		}
		n := NewNode(DefaultNodeConfig())
		n.Begin(a)
		n.Begin(a)
		n.End(a, Now(), Success)
		if s := n.Stats(); s.InFlight != 1 || s.Long != 0 || s.EWMA != time.Second {
			t.Errorf("in a synctest bubble: %+v", s)
		}
	})
}
