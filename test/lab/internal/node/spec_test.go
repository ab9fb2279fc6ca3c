package node

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

var update = flag.Bool("update", false, "write the golden files anew")

func spec(t *testing.T, dir state.Dir) *Spec {
	t.Helper()
	nodes, err := topology.Nodes(2)
	if err != nil {
		t.Fatal(err)
	}
	return &Spec{
		Node: nodes[1], State: dir, Build: "0123", ProxyMode: ModeNFTables,
		Images: []string{"/state/builds/0123/images/pause.tar"}, Cgroup: SystemCgroup(nodes[1]),
	}
}

func TestRenderedConfiguration(t *testing.T) {
	files, err := spec(t, "/state").Render()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range files {
		golden := filepath.Join("testdata", filepath.Base(name))
		if *update {
			if err := state.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (-update writes it anew):\n%s", name, d)
		}
	}
	if len(files) != 4 {
		t.Errorf("%d files, want those of containerd, kubelet, kube-proxy and CNI", len(files))
	}
}

func TestRenderedConfigurationParses(t *testing.T) {
	files, err := spec(t, "/state").Render()
	if err != nil {
		t.Fatal(err)
	}
	var kubelet struct {
		Kind, CgroupRoot string
		MaxPods          int
		ClusterDNS       []string
	}
	if err := yaml.Unmarshal(files["kubelet.yaml"], &kubelet); err != nil {
		t.Fatal(err)
	}
	if kubelet.Kind != "KubeletConfiguration" || kubelet.CgroupRoot != "/grpclb-lab/n2" || kubelet.MaxPods != topology.MaxPods ||
		len(kubelet.ClusterDNS) != 1 || kubelet.ClusterDNS[0] != topology.DNSIP {
		t.Errorf("kubelet.yaml: %+v", kubelet)
	}
	var proxy struct{ Kind, Mode string }
	if err := yaml.Unmarshal(files["kube-proxy.yaml"], &proxy); err != nil {
		t.Fatal(err)
	}
	if proxy.Kind != "KubeProxyConfiguration" || proxy.Mode != ModeNFTables {
		t.Errorf("kube-proxy.yaml: %+v", proxy)
	}
	if !json.Valid(files["cni/10-lab.conflist"]) {
		t.Error("the CNI configuration is not JSON")
	}
}

// Inside a node the state directory is elsewhere: a path of the machine in a
// file that the node reads would point to nothing.
func TestConfigurationNamesNoPathOfTheMachine(t *testing.T) {
	files, err := spec(t, "/machine/path").Render()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if bytes.Contains(content, []byte("/machine/path")) {
			t.Errorf("%s:\n%s", name, content)
		}
	}
}

func TestPreparedSpecIsLoadedWhole(t *testing.T) {
	want := spec(t, state.Dir(t.TempDir()))
	if err := want.Prepare(); err != nil {
		t.Fatal(err)
	}
	got, err := LoadSpec(want.File())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(want.File()), "etc", "cni", "10-lab.conflist")); err != nil {
		t.Error(err)
	}
	if _, err := LoadSpec(want.File() + "x"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
}
