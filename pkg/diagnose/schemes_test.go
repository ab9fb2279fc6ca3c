package diagnose_test

import (
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func TestResolverOfATarget(t *testing.T) {
	tests := map[string]struct {
		target   diagnose.Target
		resolver diagnose.Resolver
		balances bool
	}{
		"no scheme":                    {diagnose.Target{}, diagnose.ResolverName, false},
		"dns":                          {diagnose.Target{Scheme: "dns"}, diagnose.ResolverName, false},
		"dns, round_robin":             {diagnose.Target{Scheme: "dns", Policy: "round_robin"}, diagnose.ResolverName, false}, // over one cluster IP, maybe
		"SRV records":                  {diagnose.Target{Scheme: "dnssrv", Policy: "round_robin"}, diagnose.ResolverName, false},
		"passthrough":                  {diagnose.Target{Scheme: "passthrough"}, diagnose.ResolverName, false},
		"endpoints":                    {diagnose.Target{Scheme: "kubernetes"}, diagnose.ResolverPods, false},
		"endpoints, round_robin":       {diagnose.Target{Scheme: "kubernetes", Policy: "round_robin"}, diagnose.ResolverPods, true},
		"endpoints, weighted":          {diagnose.Target{Scheme: "k8s", Policy: "weighted_round_robin"}, diagnose.ResolverPods, true},
		"endpoints, pick_first":        {diagnose.Target{Scheme: "k8s", Policy: "pick_first"}, diagnose.ResolverPods, false},
		"control plane":                {diagnose.Target{Scheme: "xds"}, diagnose.ResolverXDS, true},
		"control plane, with a policy": {diagnose.Target{Scheme: "xds", Policy: "pick_first"}, diagnose.ResolverXDS, true},
		"Google's control plane":       {diagnose.Target{Scheme: "google-c2p"}, diagnose.ResolverXDS, true},
	}
	for name, tc := range tests {
		if r, b := tc.target.Resolver(), tc.target.Balances(); r != tc.resolver || b != tc.balances {
			t.Errorf("%s: resolver %s, balances %v", name, r, b)
		}
	}
}

func TestLoneWord(t *testing.T) {
	tests := map[string]struct {
		target diagnose.Target
		want   bool
	}{
		"word":            {diagnose.Target{Name: "API_HOST", Host: "api"}, true},
		"port":            {diagnose.Target{Name: "API_HOST", Host: "api", Port: 80}, false},
		"scheme":          {diagnose.Target{Name: "API_HOST", Host: "api", Scheme: "dns"}, false},
		"name of several": {diagnose.Target{Name: "API_HOST", Host: "api.shop"}, false},
		"gRPC by policy":  {diagnose.Target{Name: "API_HOST", Host: "api", GRPC: true}, false},
		"gRPC by name":    {diagnose.Target{Name: "grpcHost", Host: "api"}, false},
		"IPv6 address":    {diagnose.Target{Name: "API_HOST", Host: "fd00::7"}, false},
	}
	for name, tc := range tests {
		if got := tc.target.LoneWord(); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
