package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
)

// TestFilledFixesSayThingsOnce: the report says each caveat once, in one way, also where a check and the strategy know of it both.
func TestFilledFixesSayThingsOnce(t *testing.T) {
	snap := squares(func(s *diagnose.Service) { s.Terminating = true })
	r := diagnose.Run(snap, diagnose.Options{Checks: checks.All()})
	fillFixes(snap, &r)
	about := map[diagnose.Strategy][]string{
		diagnose.StrategyHeadless: {"round_robin", "certificate", "being deleted"},
		diagnose.StrategyMesh:     {"plaintext", "control plane", "being deleted"},
		diagnose.StrategyMaxAge:   {"cut with UNAVAILABLE", "only deals the connections", "being deleted"},
	}
	seen := map[diagnose.Strategy]bool{}
	for _, f := range r.Services[0].Findings {
		for _, x := range f.Fixes {
			for _, topic := range about[x.Strategy] {
				n := 0
				for _, c := range x.Caveats {
					if strings.Contains(c, topic) && !strings.HasPrefix(c, "Through a ClusterIP") == (topic != "only deals the connections") {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%s of %s says %d times %q: %q", x.Strategy, f.Check, n, topic, x.Caveats)
				}
				seen[x.Strategy] = true
			}
			sorted := slices.Sorted(slices.Values(x.Caveats))
			if len(slices.Compact(sorted)) != len(x.Caveats) {
				t.Errorf("%s: %q", x.Title, x.Caveats)
			}
			if x.Strategy == diagnose.StrategyMesh && len(x.Snippets)+len(x.Manifests)+len(x.Patches)+len(x.Commands) < 1 {
				t.Errorf("the mesh that its command names is not written out: %+v", x)
			}
		}
	}
	if len(seen) != len(about) {
		t.Errorf("only %v were looked at", seen)
	}
}
