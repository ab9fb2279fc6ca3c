// Package node is one node of the lab: its configuration files, and the
// process that is its init.
//
// A node is a set of Linux namespaces (mount, pid, uts, ipc, network) with a
// real containerd, kubelet and kube-proxy in it. [Prepare] writes what they
// read; [Init] runs as process 1 inside, sets the mounts up, starts the three
// and reaps. Killing that one process ends everything on the node, as pulling
// a machine's plug does.
//
// Nothing of the machine is changed: whatever a node writes below /run,
// /var/lib and /var/log, and the machine-wide sysctls a kubelet insists on,
// is covered by mounts that end with the node.
package node

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// inside is where a node sees the state directory.
const inside = "/run/lab"

// Socket is containerd's, seen from inside the node.
const Socket = "/run/containerd/containerd.sock"

// PauseImage is the image of the process that holds a pod's namespaces.
const PauseImage = "lab.grpclb.dev/pause:dev"

// Proxy modes that a lab can run.
const (
	ModeNFTables = "nftables"
	ModeIPTables = "iptables"
)

//go:embed config/*.tmpl
var configFiles embed.FS

// Spec is all that a node's init needs to know; the driver passes it as JSON.
type Spec struct {
	Node topology.Node `json:"node"`
	// State is the state directory, seen from the machine.
	State state.Dir `json:"state"`
	// Build is the key of the binaries to run.
	Build string `json:"build"`
	// ProxyMode is kube-proxy's mode.
	ProxyMode string `json:"proxyMode"`
	// Images are archives to import before the kubelet starts, seen from the machine.
	Images []string `json:"images"`
	// Cgroup holds the node's own processes; pods are beside it.
	Cgroup string `json:"cgroup"`
}

// SystemCgroup is the group of a node's own processes.
func SystemCgroup(n topology.Node) string { return n.Cgroup + "/system" }

// seen translates a path below the state directory to where the node sees it.
func (s *Spec) seen(path string) string {
	return inside + strings.TrimPrefix(path, string(s.State))
}

func (s *Spec) bin() string { return s.seen(filepath.Join(s.State.Build(s.Build), "bin")) }
func (s *Spec) etc() string { return s.seen(s.State.Node(s.Node.Name)) + "/etc" }

// File is where Prepare writes the spec itself.
func (s *Spec) File() string { return filepath.Join(s.State.Node(s.Node.Name), "spec.json") }

// values are what the configuration templates refer to.
type values struct {
	Name, Cgroup, Bin, Etc, PKI, Socket, PauseImage string
	ProxyMode, PodCIDR, NodePodCIDR                 string
	ClusterDomain, DNSIP                            string
	MaxPods                                         int
}

// Render returns the node's configuration files by their path below its etc
// directory.
func (s *Spec) Render() (map[string][]byte, error) {
	v := values{
		Name: s.Node.Name, Cgroup: s.Node.Cgroup, Bin: s.bin(), Etc: s.etc(), PKI: s.seen(s.State.PKI()),
		Socket: Socket, PauseImage: PauseImage, ProxyMode: s.ProxyMode,
		PodCIDR: topology.PodCIDR, NodePodCIDR: s.Node.PodCIDR,
		ClusterDomain: topology.ClusterDomain, DNSIP: topology.DNSIP, MaxPods: topology.MaxPods,
	}
	files := map[string][]byte{}
	names, err := fs.Glob(configFiles, "config/*.tmpl")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		t, err := template.New(filepath.Base(name)).Option("missingkey=error").ParseFS(configFiles, name)
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		if err := t.Execute(&out, v); err != nil {
			return nil, fmt.Errorf("render %s: %w", name, err)
		}
		target := strings.TrimSuffix(filepath.Base(name), ".tmpl")
		if strings.HasSuffix(target, ".conflist") {
			target = "cni/" + target
		}
		files[target] = out.Bytes()
	}
	return files, nil
}

// Prepare writes the node's configuration and spec.
func (s *Spec) Prepare() error {
	files, err := s.Render()
	if err != nil {
		return err
	}
	dir := s.State.Node(s.Node.Name)
	for name, content := range files {
		if err := state.WriteFile(filepath.Join(dir, "etc", name), content, 0o644); err != nil {
			return err
		}
	}
	for _, sub := range []string{"kubelet", "containerd"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return state.WriteFile(s.File(), b, 0o600)
}

// LoadSpec reads what Prepare wrote.
func LoadSpec(path string) (*Spec, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := new(Spec)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}
