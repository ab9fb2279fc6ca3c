package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/api"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cluster"
)

func TestWithoutAClusterEachCommandSaysWhatToDo(t *testing.T) {
	for _, args := range [][]string{{"kubeconfig"}, {"kubectl", "get", "nodes", "-o", "wide"}} {
		code, out, errOut := run(t, args...)
		if code != exitFailure || out != "" || errOut != "lab: the lab is not up: run the up command first\n" {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, code, out, errOut)
		}
	}
}

func TestStatusIsJSONOnDemand(t *testing.T) {
	code, out, errOut := run(t, "status", "-o", "json")
	var s cluster.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, errOut)
	}
	if s.State != cluster.StateDown || s.Context != "grpclb-lab" {
		t.Errorf("%+v", s)
	}
	if code, _, errOut = run(t, "status", "-o", "yaml"); code != exitFailure || !strings.Contains(errOut, "-o json") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

func TestPath(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GRPCLB_LAB_STATE", dir)
	for name, want := range map[string]string{"bin": dir + "/bin\n", "audit": dir + "/logs/audit.log\n", "state": dir + "\n"} {
		if code, out, _ := run(t, "path", name); code != 0 || out != want {
			t.Errorf("path %s: exit code %d, %q", name, code, out)
		}
	}
	if code, _, _ := run(t, "path", "nowhere"); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}

func TestVersionNamesEveryComponent(t *testing.T) {
	_, out, _ := run(t, "version")
	for _, name := range []string{"kubernetes", "etcd", "containerd", "runc", "coredns", "metrics-server"} {
		if !strings.Contains(out, name+" ") {
			t.Errorf("%s is missing:\n%s", name, out)
		}
	}
}

func TestWithoutRootOneSentenceNamesTheAlternative(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("runs as root")
	}
	for _, args := range [][]string{{"up"}, {"down"}, {"check"}, {"load", "x.tar"}, {"fault", "kill", "n1"}, {"freeze", "controlplane"}, {"restart", "kubelet/n1"}} {
		code, out, errOut := run(t, args...)
		if code != exitFailure || out != "" || strings.Count(errOut, "\n") != 1 ||
			!strings.Contains(errOut, "root") || !strings.Contains(errOut, "--context") {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, code, out, errOut)
		}
	}
}

func TestUpRefusesWhatCannotBeBeforeAnythingElse(t *testing.T) {
	for _, args := range [][]string{{"up", "--nodes", "99"}, {"up", "--proxy-mode", "ipvs"}} {
		if code, _, errOut := run(t, args...); code != exitFailure || strings.Count(errOut, "\n") != 1 {
			t.Errorf("%v: exit code %d, %s", args, code, errOut)
		}
	}
}

func TestPrintedStatus(t *testing.T) {
	var out bytes.Buffer
	err := printStatus(&out, &cluster.Status{
		State: cluster.StateDegraded, Trouble: []string{"node n2 is not ready"}, ProxyMode: "nftables",
		Nodes: []cluster.NodeStatus{
			{Name: "n1", Zone: "a", IP: "10.66.0.11", PodCIDR: "10.244.1.0/24", Alive: true, Ready: true},
			{Name: "n2", Zone: "b", IP: "10.66.0.12", PodCIDR: "10.244.2.0/24"},
		},
		CoreDNS: &api.Deployment{Wanted: 2, Ready: 1}, Metrics: true, APIServer: "https://127.0.0.1:1",
		Kubeconfig: "/k", Context: "grpclb-lab", Bin: "/b", Logs: "/l",
		Components: []build.Component{{Name: "runc", Version: "v1.5.1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `lab         degraded
            ! node n2 is not ready
node n1     ready, zone a, 10.66.0.11, pods 10.244.1.0/24
node n2     ended, zone b, 10.66.0.12, pods 10.244.2.0/24
coredns     1 of 2 ready
metrics     answering
api server  https://127.0.0.1:1
kubeconfig  /k (context grpclb-lab)
bin         /b
logs        /l
runc        v1.5.1
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}
