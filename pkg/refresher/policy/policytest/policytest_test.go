package policytest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/policy/policytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPeakEWMA(t *testing.T) {
	policytest.Run(t, func() policy.Policy { return policy.PeakEWMA(policy.DefaultPeakEWMAConfig()) })
}

func TestLeastRequest(t *testing.T) {
	policytest.Run(t, func() policy.Policy { return policy.LeastRequest(policy.DefaultLeastRequestConfig()) })
	policytest.Run(t, func() policy.Policy {
		cfg := policy.DefaultLeastRequestConfig()
		cfg.Choices = 4
		return policy.LeastRequest(cfg)
	})
}

func TestRoundRobin(t *testing.T) {
	policytest.Run(t, func() policy.Policy { return policy.RoundRobin(policy.DefaultRoundRobinConfig()) })
}
