package cluster

import (
	"os"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

func TestPart(t *testing.T) {
	nodes, err := topology.Nodes(2)
	if err != nil {
		t.Fatal(err)
	}
	self, err := proc.Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	up := &state.Cluster{Nodes: 2, Processes: map[string]proc.ID{"controlplane": self.ID, "n1": self.ID}}
	if id, err := part(up, nodes, "controlplane"); err != nil || id != self.ID {
		t.Errorf("the control plane is %v, %v", id, err)
	}
	for name, want := range map[string]string{
		"apiserver":  "controlplane|kubelet/NODE",
		"kubelet":    "controlplane|kubelet/NODE",
		"kubelet/n9": `no node is called "n9"`,
		"kubelet/n2": "node n2 is not running",
		"kubelet/n1": "runs no kubelet", // this test is no node
	} {
		if _, err := part(up, nodes, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	if _, err := part(&state.Cluster{}, nodes, "controlplane"); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("error %v", err)
	}
}
