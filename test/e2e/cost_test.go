//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// TestCostDoesNotGrowWithPods: the number of requests for one Service is the
// same for few pods and for many; what grows with them has a limit.
func TestCostDoesNotGrowWithPods(t *testing.T) {
	const few, many, maxPods = 3, 60, 5
	s := newSpace(t)
	d := server("backend", replicas(few))
	d.Spec.Template.Spec.Containers[0].ReadinessProbe = nil // sixty probes a second are no part of this
	s.apply(d, service("backend"))
	s.rollout("backend")
	s.endpoints("backend", few)
	cost := func(args ...string) diagnose.Cost {
		t.Helper()
		o := s.grpclb(append([]string{"diagnose", "svc/backend", "-v=1", "-o", "json"}, args...)...)
		c := s.report(o).Cost
		line := fmt.Sprintf("asked of the API server: %d list, %d get, %d write requests, %d streams", c.Lists, c.Gets, c.Writes, c.Streams)
		if !strings.Contains(o.stderr, line) {
			t.Errorf("-v=1 does not say %q: %s", line, o)
		}
		return c
	}
	limit := fmt.Sprintf("--max-pods=%d", maxPods)
	static, observe := cost("--depth", "static"), cost(limit)
	s.kubectl("scale", "deploy/backend", fmt.Sprintf("--replicas=%d", many))
	s.rollout("backend")
	s.endpoints("backend", many)

	if got := cost("--depth", "static"); got != static || got.Streams != 0 || got.Writes != 0 {
		t.Errorf("depth static asks %s for %d pods, %s for %d", jsonText(static), few, jsonText(got), many)
	}
	got := cost(limit)
	if got.Lists != observe.Lists || got.Gets != observe.Gets || got.Writes != 0 {
		t.Errorf("depth observe asks %s for %d pods, %s for %d", jsonText(observe), few, jsonText(got), many)
	}
	// One stream a pod, and a second where the first showed that the port wants TLS; one for each DNS pod besides.
	dns := observe.Streams - few
	if most := maxPods + dns; got.Streams > most || dns < 0 {
		t.Errorf("%d streams for %d pods and --max-pods %d, %d for %d: want %d at most", got.Streams, many, maxPods, observe.Streams, few, most)
	}
}
