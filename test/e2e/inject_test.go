//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// reaches waits until the aggregator's answers came from that many pods, over several questions: a sidecar weighs pods by latency, and
// nine calls need not meet each.
func (s *space) reaches(pods int) {
	s.Helper()
	seen := map[string]bool{}
	s.eventually(fmt.Sprintf("answers of %d pods", pods), 2*time.Minute, func() (bool, string) {
		for h := range s.answering() {
			seen[h] = true
		}
		return len(seen) >= pods, fmt.Sprint(seen)
	})
}

// throughSidecar holds that diagnose says so of the aggregator, and that nothing is pinned.
func (s *space) throughSidecar(says ...string) {
	s.Helper()
	r, o := s.diagnose("square-service", "--sockets", "--interval", "4s")
	if fs := findings(r, "clusterip-pinned"); len(fs) > 0 || r.Verdict.State == diagnose.VerdictPinned {
		s.Errorf("an injected client is called pinned: %s", o)
	}
	fs := findings(r, "client-sidecar")
	if len(fs) != 1 {
		s.Fatalf("nothing is said of the sidecar: %s", o)
	}
	want := finding{diagnose.Info, diagnose.Observed, "deploy/aggregator-app", says, ""}
	if diff := want.differs(fs[0]); diff != "" {
		s.Error(diff)
	}
	if fs := findings(r, "sidecar-broken"); len(fs) > 0 {
		s.Errorf("its sidecar is called broken: %s", o)
	}
}

// looksAtSockets holds that --sockets finds the aggregator's page on port 8080, which its manifest does not declare, in the way of a Service
// with that port and of no other.
func (s *space) looksAtSockets() {
	s.Helper()
	s.kubectl("create", "service", "clusterip", "page", "--tcp=8080:8080")
	for service, c := range map[string]struct {
		code int
		says string
	}{
		"page":           {3, "a running pod of deploy/aggregator-app listens on [::]:8080"},
		"square-service": {0, "adding an ephemeral container"},
	} {
		o := s.grpclb("inject", "deploy/aggregator-app", "--service", service, "--sockets", "-o", "patch")
		if o.code != c.code || !strings.Contains(o.stderr, c.says) || strings.Contains(o.stderr, "warning") {
			s.Errorf("svc/%s: want code %d and %q: %s", service, c.code, c.says, o)
		}
	}
	s.kubectl("delete", "service", "page")
}

// TestInject is the second story: the client is not touched, neither its code nor its configuration, and spreads all the same.
func TestInject(t *testing.T) {
	s := newSpace(t)
	s.applyDir("examples/square/plaintext")
	s.kubectl("set", "env", "deploy/aggregator-app", "GRPC_CLIENT_SQUARE_LOAD=100")
	s.rollout("square-app", "aggregator-app")
	if hosts := s.answering(); len(hosts) != 1 {
		t.Fatalf("answers of %v, want one pod", hosts)
	}

	s.looksAtSockets()
	o := s.grpclbByKubectl("inject", "deploy/aggregator-app", "--service", "square-service", "--apply", "--yes")
	if o.code != 0 {
		t.Fatalf("not injected: %s", o)
	}
	for _, want := range []string{"+      hostAliases:", "+        name: grpclb-refresher", "+  clusterIP: None"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("the dry run does not show %q: %s", want, o)
		}
	}
	s.rollout("aggregator-app")
	if env := s.kubectl("get", "deploy/aggregator-app", "-o", "jsonpath={.spec.template.spec.containers[0].env[0].value}"); env != "static://square-service:6565" {
		t.Errorf("the client's target became %s", env)
	}
	s.reaches(3)
	s.throughSidecar("hostAliases lead square-service to 127.0.0.10", "grpclb.dev/injected", "dials static://square-service:6565")

	s.kubectl("scale", "deploy/square-app", "--replicas=6")
	s.rollout("square-app")
	s.reaches(6)

	again := func() {
		if o := s.grpclb("inject", "deploy/aggregator-app", "--service", "square-service", "--apply", "--yes"); o.code != 0 ||
			!strings.Contains(o.stderr, "nothing is changed") {
			t.Errorf("a second time: %s", o)
		}
	}
	s.wantUnchanged("an injection", again)
	if o := s.grpclb("inject", "deploy/aggregator-app", "--service", "square-service", "--sockets", "--apply", "--yes"); o.code != 0 ||
		!strings.Contains(o.stderr, "nothing is changed") || strings.Contains(o.stderr, "warning") {
		t.Errorf("the sidecar's own sockets are in its way: %s", o)
	}

	s.kubectl("delete", "svc", "square-service-headless")
	r, o := s.diagnose("square-service", "--depth", "static")
	if fs := findings(r, "sidecar-broken"); len(fs) != 1 || fs[0].Severity != diagnose.Critical || !strings.Contains(fs[0].Summary, "does not exist") {
		t.Errorf("a missing twin is not reported: %s", o)
	}

	if o := s.grpclb("uninject", "deploy/aggregator-app", "--apply", "--yes"); o.code != 0 {
		t.Fatalf("not taken out: %s", o)
	}
	s.rollout("aggregator-app")
	if left := s.kubectl("get", "deploy/aggregator-app", "-o", "jsonpath={.spec.template.spec.initContainers}{.spec.template.spec.hostAliases}"); left != "" {
		t.Errorf("something is left: %s", left)
	}
}

// TestInjectByManifest pipes the manifest through inject into kubectl apply, in both modes, and holds that applying the plain manifest
// again takes the injection out.
func TestInjectByManifest(t *testing.T) {
	s := newSpace(t)
	s.applyDir("examples/square/plaintext")
	s.rollout("square-app", "aggregator-app")
	plain, err := os.ReadFile(filepath.Join(stand.bed.Root, "examples/square/plaintext/aggregator-app.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode, says string
	}{{"aliases", "hostAliases lead square-service to 127.0.0.10"}, {"env", "listens on 127.0.0.1:15661"}} {
		o := s.grpclb("inject", "-f", file, "--service", "square-service", "--mode", c.mode)
		if o.code != 0 {
			t.Fatalf("mode %s: %s", c.mode, o)
		}
		s.kubectlIn([]byte(o.stdout), "apply", "-f", "-")
		s.kubectl("set", "env", "deploy/aggregator-app", "GRPC_CLIENT_SQUARE_LOAD=100")
		s.rollout("aggregator-app")
		s.reaches(3)
		s.throughSidecar(c.says)
	}
	s.kubectlIn(plain, "apply", "-f", "-")
	s.rollout("aggregator-app")
	if left := s.kubectl("get", "deploy/aggregator-app", "-o", "jsonpath={.spec.template.spec.initContainers}{.spec.template.spec.hostAliases}"); left != "" {
		t.Errorf("applying the plain manifest leaves %s", left)
	}
}
