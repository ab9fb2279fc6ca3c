package tuning_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/internal/tuning"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// TestDefaultsAreThoseOfTheParts: who uses package policy or reconcile by itself
// gets what is documented of the configuration.
func TestDefaultsAreThoseOfTheParts(t *testing.T) {
	c := config.Default(config.PeakEWMA)
	if diff := cmp.Diff(policy.DefaultNodeConfig(), tuning.Nodes(c)); diff != "" {
		t.Errorf("policy (-its default +ours)\n%s", diff)
	}
	if diff := cmp.Diff(reconcile.DefaultConfig(), tuning.Guard(c.Refresh)); diff != "" {
		t.Errorf("reconcile (-its default +ours)\n%s", diff)
	}
}

// TestEveryFieldArrives: numbers that differ from each other and from every
// default end up where they belong.
func TestEveryFieldArrives(t *testing.T) {
	c := config.Config{
		Decay: 1, LongCall: 2,
		Ejection: config.Ejection{
			Enabled: true, ConsecutiveFailures: 3, ConsecutiveTimeouts: 4, SilentFor: 5, Interval: 6, BaseEjectionTime: 7, TimeoutEjectionTime: 8,
			MaxEjectionTime: 9, MaxEjectionPercent: 10, PanicPercent: 11,
			SuccessRate: config.SuccessRate{StdevFactor: 12_000, MinimumHosts: 13, RequestVolume: 14},
		},
		Refresh: config.Refresh{EmptyGrace: 15, MaxShrinkPercent: 25, MinShrink: 17, ConfirmAfter: 18, HoldFor: 19},
	}
	nodes := policy.NodeConfig{Decay: 1, LongCall: 2, Eject: policy.EjectConfig{
		ConsecutiveFailures: 3, ConsecutiveTimeouts: 4, SilentFor: 5, Interval: 6, BaseTime: 7, TimeoutBaseTime: 8,
		MaxTime: 9, MaxEjectedPercent: 10, PanicPercent: 11, SuccessRateStdevs: 12, SuccessRateHosts: 13, SuccessRateVolume: 14,
	}}
	if diff := cmp.Diff(nodes, tuning.Nodes(c)); diff != "" {
		t.Errorf("Nodes (-want +got)\n%s", diff)
	}
	guard := reconcile.Config{EmptyGrace: 15, MaxShrink: 0.25, MinShrink: 17, ConfirmAfter: 18, HoldFor: 19}
	if diff := cmp.Diff(guard, tuning.Guard(c.Refresh)); diff != "" {
		t.Errorf("Guard (-want +got)\n%s", diff)
	}
}

func TestEjectionOff(t *testing.T) {
	c := config.Default(config.PeakEWMA)
	c.Ejection.Enabled = false
	if got := tuning.Nodes(c).Eject; got.Enabled() {
		t.Errorf("ejects with %+v", got)
	}
}

func TestPolicy(t *testing.T) {
	for name, want := range map[string]string{
		config.PeakEWMA: "peak_ewma", config.RoundRobin: "round_robin", config.LeastRequest: "least_request", "": "peak_ewma",
	} {
		if got := tuning.Policy(config.Default(name)).Name(); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}
