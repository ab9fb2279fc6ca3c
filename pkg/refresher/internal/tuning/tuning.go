// Package tuning says what an operator tunes, package config, in the terms of
// the packages that do it: policy and reconcile. Every surface does the same with
// the same configuration because all of them ask here.
//
//	nodes, guard := tuning.Nodes(c), tuning.Guard(c.Refresh)
//
// It checks nothing: a Config is validated where it comes from. What DNS is told
// is in package dnstuning, so that who has another source links no DNS client.
package tuning

import (
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// Policy is the policy that c names; a name that is none of [config.Names] gives
// the default one.
func Policy(c config.Config) policy.Policy {
	switch c.Policy {
	case config.RoundRobin:
		return policy.RoundRobin(policy.RoundRobinConfig{SlowStart: c.SlowStart})
	case config.LeastRequest:
		return policy.LeastRequest(policy.LeastRequestConfig{SlowStart: c.SlowStart})
	}
	return policy.PeakEWMA(policy.PeakEWMAConfig{SlowStart: c.SlowStart})
}

// Nodes is what the endpoints learn by. Its Eject is the ejector's, too.
func Nodes(c config.Config) policy.NodeConfig {
	return policy.NodeConfig{Decay: c.Decay, LongCall: c.LongCall, Eject: eject(c.Ejection)}
}

// eject states every field: the defaults are those of package config.
func eject(c config.Ejection) policy.EjectConfig {
	if !c.Enabled {
		return policy.EjectConfig{}
	}
	return policy.EjectConfig{
		ConsecutiveFailures: c.ConsecutiveFailures, ConsecutiveTimeouts: c.ConsecutiveTimeouts, SilentFor: c.SilentFor,
		SuccessRateStdevs: float64(c.SuccessRate.StdevFactor) / 1000,
		SuccessRateHosts:  c.SuccessRate.MinimumHosts, SuccessRateVolume: c.SuccessRate.RequestVolume,
		Interval: c.Interval, BaseTime: c.BaseEjectionTime, TimeoutBaseTime: c.TimeoutEjectionTime, MaxTime: c.MaxEjectionTime,
		MaxEjectedPercent: c.MaxEjectionPercent, PanicPercent: c.PanicPercent,
	}
}

// Guard says which answers are believed.
func Guard(c config.Refresh) reconcile.Config {
	return reconcile.Config{
		EmptyGrace: c.EmptyGrace, MaxShrink: float64(c.MaxShrinkPercent) / 100, MinShrink: c.MinShrink,
		ConfirmAfter: c.ConfirmAfter, HoldFor: c.HoldFor,
	}
}
