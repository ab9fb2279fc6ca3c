package controlplane

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

func prepared(t *testing.T) (state.Dir, Config) {
	t.Helper()
	dir := state.Dir(t.TempDir())
	nodes, err := topology.Nodes(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := Prepare(dir, nodes); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(ConfigFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	var c Config
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return dir, c
}

func TestEveryFileThatAFlagNamesIsWritten(t *testing.T) {
	dir, c := prepared(t)
	// What the programs write themselves.
	written := map[string]bool{dir.AuditLog(): true, filepath.Join(dir.Control(), "volume-plugins"): true}
	path := regexp.MustCompile(regexp.QuoteMeta(string(dir)) + `[^,]*`)
	checked := 0
	for _, flags := range [][]string{c.APIServer, c.ControllerManager, c.Scheduler, {"--ca=" + c.CAFile}} {
		seen := map[string]bool{}
		for _, f := range flags {
			name, _, ok := strings.Cut(f, "=")
			if !ok || !strings.HasPrefix(name, "--") || seen[name] {
				t.Errorf("%q: want --name=value, once", f)
			}
			seen[name] = true
			for _, p := range path.FindAllString(f, -1) {
				checked++
				if _, err := os.Stat(p); err != nil && !written[p] {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	if checked < 15 {
		t.Errorf("only %d files were looked at: the pattern is wrong", checked)
	}
}

func TestAPIServerIsKnownByAllItsAddresses(t *testing.T) {
	dir, _ := prepared(t)
	b, err := os.ReadFile(filepath.Join(dir.PKI(), "apiserver.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", topology.ControlIP, topology.APIServiceIP, "kubernetes.default.svc"} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

func TestUserKubeconfigPointsToLoopback(t *testing.T) {
	dir, _ := prepared(t)
	b, err := UserKubeconfig(dir, "127.0.0.1:16443")
	if err != nil {
		t.Fatal(err)
	}
	var k map[string]any
	if err := yaml.Unmarshal(b, &k); err != nil {
		t.Fatal(err)
	}
	if k["current-context"] != state.ContextName || !strings.Contains(string(b), "server: https://127.0.0.1:16443\n") {
		t.Errorf("%s", b)
	}
}

func TestAuditPolicyIsYAML(t *testing.T) {
	var p struct{ Kind string }
	if err := yaml.Unmarshal([]byte(auditPolicy), &p); err != nil || p.Kind != "Policy" {
		t.Errorf("%+v, %v", p, err)
	}
}
