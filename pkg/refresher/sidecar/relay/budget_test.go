package relay

import (
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
)

// TestResetBudget: clients that cancel much for good reasons never meet the default
// rate of resets, and one that does nothing else does soon.
func TestResetBudget(t *testing.T) {
	every := func(d time.Duration) func(policy.Nanos) int {
		return func(at policy.Nanos) int {
			if time.Duration(at)%d == 0 {
				return 1
			}
			return 0
		}
	}
	for name, tt := range map[string]struct {
		// in is how many are cancelled in the millisecond that begins at a time.
		in   func(at policy.Nanos) int
		ends time.Duration // 0: it does not
	}{
		"one of 20 of 10,000 calls a second": {every(2 * time.Millisecond), 0},
		"the same, and hedging":              {every(time.Millisecond), 0},
		"handlers with 1,000 calls that end": {func(at policy.Nanos) int { return 1000 * every(time.Second)(at) }, 0},
		"all calls there can be, every 5 s":  {func(at policy.Nanos) int { return maxStreams * every(5*time.Second)(at) }, 0},
		"9,999 a second":                     {func(at policy.Nanos) int { return 10 - every(time.Second)(at) }, 2 * time.Second},
		"3,000 a second":                     {func(policy.Nanos) int { return 3 }, 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l := DefaultConfig().Budgets.limits()
			var b budget
			for at := policy.Nanos(0); at < policy.Nanos(time.Minute); at += policy.Nanos(time.Millisecond) {
				for range tt.in(at) {
					if b.spend(&l, budgetResets, at) {
						continue
					}
					if tt.ends == 0 || time.Duration(at) > tt.ends {
						t.Errorf("the connection ends after %v", time.Duration(at))
					}
					return
				}
			}
			if tt.ends != 0 {
				t.Error("it goes on")
			}
		})
	}
}

// TestBudgetIsNotSaved: a connection that did nothing for long may do no more at once
// than a new one.
func TestBudgetIsNotSaved(t *testing.T) {
	cfg := DefaultConfig().Budgets
	l := cfg.limits()
	var b budget
	n := 0
	for b.spend(&l, budgetSettings, policy.Nanos(time.Hour)) && n < 10*cfg.Settings.Burst {
		n++
	}
	if n != cfg.Settings.Burst {
		t.Errorf("%d at once", n)
	}
}
