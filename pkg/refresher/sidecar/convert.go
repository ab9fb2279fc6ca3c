package sidecar

import (
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/reconcile"
)

// What an operator tunes, in the terms of the packages that do it.

func newPolicy(c config.Config) policy.Policy {
	switch c.Policy {
	case config.RoundRobin:
		return policy.RoundRobin(policy.RoundRobinConfig{SlowStart: c.SlowStart})
	case config.LeastRequest:
		return policy.LeastRequest(policy.LeastRequestConfig{SlowStart: c.SlowStart})
	}
	return policy.PeakEWMA(policy.PeakEWMAConfig{SlowStart: c.SlowStart})
}

func nodeConfig(c config.Config) policy.NodeConfig {
	return policy.NodeConfig{Decay: c.Decay, LongCall: c.LongCall, Eject: ejectConfig(c.Ejection)}
}

func ejectConfig(c config.Ejection) policy.EjectConfig {
	if !c.Enabled {
		return policy.EjectConfig{}
	}
	e := policy.DefaultEjectConfig()
	e.ConsecutiveFailures, e.ConsecutiveTimeouts, e.SilentFor = c.ConsecutiveFailures, c.ConsecutiveTimeouts, c.SilentFor
	e.Interval, e.BaseTime, e.TimeoutBaseTime, e.MaxTime = c.Interval, c.BaseEjectionTime, c.TimeoutEjectionTime, c.MaxEjectionTime
	e.MaxEjectedPercent, e.PanicPercent = c.MaxEjectionPercent, c.PanicPercent
	e.SuccessRateStdevs = float64(c.SuccessRate.StdevFactor) / 1000
	e.SuccessRateHosts, e.SuccessRateVolume = c.SuccessRate.MinimumHosts, c.SuccessRate.RequestVolume
	return e
}

func guardConfig(c config.Refresh) reconcile.Config {
	return reconcile.Config{
		EmptyGrace: c.EmptyGrace, MaxShrink: float64(c.MaxShrinkPercent) / 100, MinShrink: c.MinShrink,
		ConfirmAfter: c.ConfirmAfter, HoldFor: c.HoldFor,
	}
}
