//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// withoutMetricsAPI takes the group metrics.k8s.io away from the API server and returns how it comes back. metrics-server runs on: it is as
// if it had never been installed.
func (s *space) withoutMetricsAPI() (back func()) {
	s.Helper()
	const name = "v1beta1.metrics.k8s.io"
	run := func(ctx context.Context, in []byte, args ...string) []byte {
		s.Helper()
		cmd := s.bed.Command(ctx, s.bed.Kubectl(args...)...)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			s.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	var object map[string]any
	if err := yaml.Unmarshal(run(s.ctx, nil, "get", "apiservice", name, "-o", "yaml"), &object); err != nil {
		s.Fatal(err)
	}
	meta, _ := object["metadata"].(map[string]any)
	object["metadata"] = map[string]any{"name": name, "labels": meta["labels"], "annotations": meta["annotations"]}
	delete(object, "status")
	manifest, err := yaml.Marshal(object)
	if err != nil {
		s.Fatal(err)
	}
	served := func(ctx context.Context) bool {
		return s.client.Discovery().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/nodes").Do(ctx).Error() == nil
	}
	back = sync.OnceFunc(func() {
		ctx := s.later()
		run(ctx, manifest, "apply", "-f", "-")
		s.eventually("the metrics API again", startTime, func() (bool, string) { return served(ctx), "not served" })
	})
	s.Cleanup(back)
	run(s.ctx, nil, "delete", "apiservice", name)
	s.eventually("the end of the metrics API", startTime, func() (bool, string) { return !served(s.ctx), "still served" })
	return back
}

// TestNoMetricsAPI: a cluster without metrics-server lacks CPU, and nothing else.
func TestNoMetricsAPI(t *testing.T) {
	s := newBreakable(t)
	s.apply(server("backend"), service("backend", headless))
	s.rollout("backend")
	s.settled()
	back := s.withoutMetricsAPI()
	r, o := s.diagnose("backend")
	rep := s.report(o)
	if o.code != 0 || len(rep.Gaps) != 1 || rep.Gaps[0].Fact != diagnose.FactMetrics || rep.Gaps[0].Reason != "the cluster has no metrics-server" ||
		!strings.Contains(rep.Gaps[0].Hint, "install metrics-server") || len(r.Spread.Rows) != 2 {
		t.Errorf("%s", o)
	}
	back()
}
