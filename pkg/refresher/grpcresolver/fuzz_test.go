package grpcresolver

import (
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/config"
)

// Whatever somebody puts into a service config, it is merged or refused, and what
// was merged merges to itself.
func FuzzMergeServiceConfig(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"loadBalancingConfig":[{"grpclb_refresher_round_robin":{"slowStart":"1s"}}]}`,
		`{"loadBalancingPolicy":"round_robin","methodConfig":[]}`, `{"LoadBalancingConfig":null}`, `[]`, `{"loadBalancingConfig":[{}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		once, err := mergeServiceConfig(in, config.Default(config.PeakEWMA))
		if err != nil {
			return
		}
		twice, err := mergeServiceConfig(once.json, config.Default(config.PeakEWMA))
		if err != nil || twice != once {
			t.Errorf("%q became %+v, and that %+v (%v)", in, once, twice, err)
		}
	})
}
