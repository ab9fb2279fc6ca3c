//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// answering asks the aggregator for nine squares and counts the answering pods.
func (s *space) answering() map[string]int {
	s.Helper()
	out := s.kubectl("get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/services/aggregator-service:8080/proxy/grpc/9", s.ns))
	var rows []struct{ Hostname string }
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		s.Fatalf("the aggregator says %s: %v", out, err)
	}
	hosts := map[string]int{}
	for _, r := range rows {
		hosts[r.Hostname]++
	}
	return hosts
}

// TestSquare is the main story: pinned, diagnosed, fixed by what the plugin
// writes, even.
func TestSquare(t *testing.T) {
	s := newSpace(t)
	s.applyDir("examples/square/plaintext")
	s.kubectl("set", "env", "deploy/aggregator-app", "GRPC_CLIENT_SQUARE_LOAD=100")
	s.rollout("square-app", "aggregator-app")
	if hosts := s.answering(); len(hosts) != 1 {
		t.Fatalf("answers of %v, want one pod", hosts)
	}

	text := s.grpclbByKubectl("diagnose", "svc/square-service", "--probe")
	// kubectl passes the plugin's exit code on everywhere but on Windows.
	if text.code != 1 {
		t.Errorf("exit code %d, want 1: %s", text.code, text)
	}
	for _, want := range []string{
		"✗ square-service (" + s.ns + ")   all traffic lands on 1 of 3 ready pods",
		"✗ clusterip-pinned  critical · observed",
		"deploy/aggregator-app dials static://square-service:6565 (env GRPC_CLIENT_SQUARE_ADDRESS); its 1 connection ends on square-app-",
		"probe  via clusterip: 300 calls over 1 channel reached 1 of 3 pods",
		"kubectl grpclb fix svc/square-service -n " + s.ns + " --strategy headless",
	} {
		if !strings.Contains(text.stdout, want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	for _, want := range []string{"creating the short-lived pod", "it is deleted afterwards", "adding an ephemeral container", "stays in the pod's spec"} {
		if !strings.Contains(text.stderr, want) {
			t.Errorf("it was not announced: %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	s.wantPinned()

	plan := s.grpclbByKubectl("fix", "svc/square-service", "--strategy", "headless")
	if plan.code != 0 {
		t.Fatalf("no fix: %s", plan)
	}
	applied := s.kubectlIn([]byte(plan.stdout), "apply", "-f", "-")
	for _, want := range []string{"service/square-service-headless created", "deployment.apps/aggregator-app configured"} {
		if !strings.Contains(applied, want) {
			t.Errorf("kubectl apply does not say %q but:\n%s", want, applied)
		}
	}
	s.rollout("aggregator-app")
	s.eventually("answers of all three pods", time.Minute, func() (bool, string) {
		hosts := s.answering()
		return len(hosts) == 3, fmt.Sprint(hosts)
	})
	s.wantEven()
	s.wantUnchanged("a fix that was applied", func() { s.kubectlIn([]byte(plan.stdout), "apply", "-f", "-") })
}

// wantPinned holds the JSON report against what the text said.
func (s *space) wantPinned() {
	s.Helper()
	r, o := s.diagnose("square-service", "--probe", "--interval", "8s")
	fs := findings(r, "clusterip-pinned")
	if o.code != 1 || r.Verdict.State != diagnose.VerdictPinned || len(fs) != 1 {
		s.Fatalf("verdict %q, %d findings: %s", r.Verdict.State, len(fs), o)
	}
	want := finding{diagnose.Critical, diagnose.Observed, "svc/square-service", []string{
		"each connection of deploy/aggregator-app stays on 1 of 3 ready pods",
		"300 calls of a probe", "all landed on one pod",
	}, "use a headless Service"}
	if diff := want.differs(fs[0]); diff != "" {
		s.Error(diff)
	}
	if len(fs[0].Fixes) == 0 || len(fs[0].Fixes[0].Manifests) == 0 || len(fs[0].Fixes[0].Snippets) < 6 {
		s.Errorf("the first fix has no manifest, or not code for six languages: %+v", fs[0].Fixes)
	}
	sp := r.Spread
	if sp.Basis != "bytes" || sp.State != diagnose.SpreadOnePod || len(sp.Rows) != 3 || sp.Statistic == nil || sp.Statistic.N < 1000 {
		s.Errorf("the spread is %s by %s: %s", sp.State, sp.Basis, jsonText(sp))
	}
	if len(sp.Flows) != 1 || sp.Flows[0].Workload != "deploy/aggregator-app" || sp.Flows[0].Conns != 1 {
		s.Errorf("flows are %s, want one connection of the aggregator", jsonText(sp.Flows))
	}
	if r.GRPC.Level != diagnose.GRPCYes || len(r.GRPC.Because) == 0 || !strings.Contains(r.GRPC.Because[0], "answered as gRPC on 3 of 3 pods") {
		s.Errorf("gRPC: %s", jsonText(r.GRPC))
	}
}

// wantEven holds what the Service looks like after the fix.
func (s *space) wantEven() {
	s.Helper()
	r, o := s.diagnose("square-service", "--probe", "--interval", "8s")
	if r.Spread.State != diagnose.SpreadEven {
		s.Logf("measured again, since the pods' tables are read one by one and the machine may have stalled between: %s", jsonText(r.Spread.Statistic))
		r, o = s.diagnose("square-service", "--probe", "--interval", "8s")
	}
	if o.code != 0 || r.Verdict.State != diagnose.VerdictOK || r.Spread.State != diagnose.SpreadEven || len(troubles(r)) > 0 {
		s.Errorf("after the fix: %s", o)
	}
	if st := r.Spread.Statistic; st == nil || st.Name != "jain" || st.Value < 0.95 || st.Active != 3 {
		s.Errorf("Jain's index after the fix: %s", jsonText(st))
	}
	for _, p := range r.Spread.Probes {
		want := map[string]diagnose.SpreadState{"clusterip": diagnose.SpreadOnePod, "headless": diagnose.SpreadEven}[p.Via]
		if p.State != want || p.Calls != 300 || p.Failed != 0 {
			s.Errorf("the probe via %s: %s", p.Via, jsonText(p))
		}
	}
}

// wantUnchanged fails when doing something again changes the Deployment.
func (s *space) wantUnchanged(what string, again func()) {
	s.Helper()
	generation := func() string {
		return s.kubectl("get", "deploy/aggregator-app", "-o", "jsonpath={.metadata.generation}")
	}
	before := generation()
	again()
	if after := generation(); after != before {
		s.Errorf("%s is no longer the same when applied again: generation %s -> %s", what, before, after)
	}
}
