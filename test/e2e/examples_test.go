//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// TestEcho: the same five pods behind a ClusterIP, where calls stick, and
// behind a headless Service, where they do not.
func TestEcho(t *testing.T) {
	s := newSpace(t)
	s.applyDir("examples/echo/plaintext")
	s.rollout("be-deployment", "fe-deployment")
	s.wantBackends("backend", 1)
	s.wantBackends("backendlb", 5)

	r, o := s.diagnose("be-srv")
	if o.code != 1 || !slices.Equal(troubles(r), []string{"clusterip-pinned"}) {
		t.Errorf("be-srv: %s", o)
	}
	r, o = s.diagnose("be-srv-lb")
	if o.code != 0 || len(troubles(r)) > 0 {
		t.Errorf("be-srv-lb: %s", o)
	}
	if r.GRPC.Level != diagnose.GRPCYes || !strings.Contains(jsonText(r.GRPC.Because), "answered as gRPC on 5 of 5 pods") {
		t.Errorf("be-srv-lb speaks gRPC: %s", jsonText(r.GRPC))
	}
	spread := s.grpclb("spread", "svc/be-srv-lb", "--interval", "1s")
	if spread.code != 0 || strings.Count(spread.stdout, "deploy/fe-deployment") == 0 {
		t.Errorf("spread: %s", spread)
	}
}

// wantBackends asks the frontend for ten calls and counts who answered.
func (s *space) wantBackends(path string, want int) {
	s.Helper()
	s.eventually(fmt.Sprintf("%d pods behind /%s", want, path), time.Minute, func() (bool, string) {
		out := s.kubectl("get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/services/fe-srv:http/proxy/%s", s.ns, path))
		pods := map[string]bool{}
		for _, w := range strings.FieldsFunc(out, func(r rune) bool { return strings.ContainsRune(`",[]{}: `, r) }) {
			if strings.HasPrefix(w, "be-deployment-") {
				pods[w] = true
			}
		}
		return len(pods) == want, out
	})
}

// TestEchoTLS: an encrypted port is recognised as gRPC, and the advice says
// what a headless name does to certificates.
func TestEchoTLS(t *testing.T) {
	s := newSpace(t)
	secret := s.goRun("./examples/echo/tls/gen", "-namespace", s.ns)
	s.kubectlIn(secret, "apply", "-f", "-")
	s.applyDir("examples/echo/tls")
	s.rollout("be-deployment", "fe-deployment")
	s.wantBackends("backend", 1)
	s.wantBackends("backendlb", 5)

	r, o := s.diagnose("be-srv")
	if r.GRPC.Level != diagnose.GRPCYes || !strings.Contains(jsonText(r.GRPC.Because), "answered as gRPC on 5 of 5 pods") {
		t.Errorf("gRPC over TLS is not recognised: %s", o)
	}
	fs := findings(r, "clusterip-pinned")
	if len(fs) != 1 || fs[0].Severity != diagnose.Critical {
		t.Fatalf("be-srv: %s", o)
	}
	code := jsonText(fs[0].Fixes)
	if strings.Contains(code, "insecure.NewCredentials") || strings.Contains(code, "usePlaintext") {
		t.Error("the client code for a TLS server speaks plaintext")
	}
	s.wantFix("The servers' certificate is valid for be-srv-lb." + s.ns + ".svc.cluster.local")

	r, _ = s.diagnose("be-srv", "--probe", "--interval", "1s")
	probed := false
	for _, p := range r.Spread.Probes {
		probed = probed || p.Calls == 300 && p.Failed == 0 && p.State == diagnose.SpreadOnePod && p.Via == "clusterip"
	}
	if !probed {
		t.Errorf("the probe over TLS: %s", jsonText(r.Spread.Probes))
	}
	// A twin that is yet to be made has a name that no certificate knows.
	s.kubectl("delete", "service", "be-srv-lb")
	s.wantFix("certificate", "WithAuthority", "overrideAuthority", "grpc.ssl_target_name_override")
}

// wantFix fails when what `fix svc/be-srv` writes lacks a part.
func (s *space) wantFix(parts ...string) {
	s.Helper()
	o := s.grpclb("fix", "svc/be-srv")
	for _, part := range parts {
		if o.code != 0 || !strings.Contains(o.stdout, part) {
			s.Errorf("the fix does not mention %q: %s", part, o)
		}
	}
}

// goRun runs a program of the repository and returns what it printed.
func (s *space) goRun(args ...string) []byte {
	s.Helper()
	cmd := s.bed.Command(s.ctx, append([]string{"go", "run"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("go run %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TestLoadPortTrap: a client that was moved to a headless Service dials a port
// that nobody opens; the advice makes it work.
func TestLoadPortTrap(t *testing.T) {
	s := newSpace(t)
	s.applyDir("examples/load/plaintext")
	s.rollout("grpc-server", "grpc-client")
	s.applyDir("examples/load/port-trap")
	s.endpoints("grpc-server-service-headless", 3)

	r, o := s.diagnose("grpc-server-service-headless")
	fs := findings(r, "headless-port-mismatch")
	if o.code != 1 || len(fs) != 1 {
		t.Fatalf("the port trap: %s", o)
	}
	want := finding{diagnose.Critical, diagnose.Configured, "svc/grpc-server-service-headless", []string{
		"port 80 of this headless Service leads nowhere: its pods listen on 8001",
		"deploy/grpc-client dials grpc-server-service-headless:80",
	}, "dial the pods' port, 8001"}
	if diff := want.differs(fs[0]); diff != "" {
		t.Error(diff)
	}
	s.follow(fs[0].Fixes[0])
	s.rollout("grpc-client")
	if r, o := s.diagnose("grpc-server-service-headless"); len(findings(r, "headless-port-mismatch")) > 0 {
		t.Errorf("after the advice: %s", o)
	}
	s.eventually("calls on three pods", time.Minute, func() (bool, string) {
		r, o := s.diagnose("grpc-server-service-headless", "--sockets", "--interval", "1s")
		return r.Spread.State == diagnose.SpreadEven, o.String()
	})
}

// follow does what a fix says, with the commands that it prints.
func (s *space) follow(f diagnose.Fix) {
	s.Helper()
	if len(f.Commands) == 0 {
		s.Fatalf("%s has no commands: %s", f.Title, jsonText(f))
	}
	for _, c := range f.Commands {
		if len(c.Args) < 2 || c.Args[0] != "kubectl" || len(c.PipeTo) > 0 {
			s.Fatalf("%s is no kubectl command that can be run as it is: %v", f.Title, c)
		}
		cmd := s.bed.Command(s.ctx, s.bed.Kubectl(c.Args[1:]...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			s.Fatalf("%s: %v: %v\n%s", f.Title, c.Args, err, out)
		}
	}
}
