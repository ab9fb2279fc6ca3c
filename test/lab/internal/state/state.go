// Package state says where the lab keeps what on disk, and what a running
// cluster consists of.
//
// Everything is below one directory: GRPCLB_LAB_STATE, or kubectl-grpclb-lab
// in the user's cache directory. Binaries are kept between runs; the rest
// lives only as long as the cluster. Nothing here starts or stops anything.
//
//	builds/KEY/   binaries and images of one version of the sources
//	bin           link to the binaries in use (kubectl among them)
//	kubeconfig    how to reach the API server from this machine
//	logs/         of the last cluster: one file a process, and audit.log
//	run/          the running cluster: keys, etcd, pods' disks, cluster.json
//	lock          held by the command that changes the cluster
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
)

// EnvDir is the environment variable that names another state directory.
const EnvDir = "GRPCLB_LAB_STATE"

// ContextName is the context of the lab's kubeconfig.
const ContextName = "grpclb-lab"

// Dir is the state directory, an absolute path.
type Dir string

// Locate returns the state directory of this user without making it.
func Locate() (Dir, error) {
	if d := os.Getenv(EnvDir); d != "" {
		abs, err := filepath.Abs(d)
		return Dir(abs), err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the lab's state (set %s): %w", EnvDir, err)
	}
	return Dir(filepath.Join(cache, "kubectl-grpclb-lab")), nil
}

func (d Dir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// Builds is the directory of all kept builds.
func (d Dir) Builds() string { return d.path("builds") }

// Build is the directory of the build of one key.
func (d Dir) Build(key string) string { return d.path("builds", key) }

// Bin is the link to the binaries in use.
func (d Dir) Bin() string { return d.path("bin") }

// Kubeconfig is the file that reaches the API server from this machine.
func (d Dir) Kubeconfig() string { return d.path("kubeconfig") }

// Logs is the directory of the last cluster's logs.
func (d Dir) Logs() string { return d.path("logs") }

// AuditLog is the API server's audit log, one JSON event a line.
func (d Dir) AuditLog() string { return d.path("logs", "audit.log") }

// Run is the directory of the running cluster; gone when there is none.
func (d Dir) Run() string { return d.path("run") }

// PKI is the directory of the running cluster's keys.
func (d Dir) PKI() string { return d.path("run", "pki") }

// Control is the control plane's directory.
func (d Dir) Control() string { return d.path("run", "cp") }

// Node is the directory of one node's disk and configuration.
func (d Dir) Node(name string) string { return d.path("run", "nodes", name) }

// LockFile is the file that [Lock] locks.
func (d Dir) LockFile() string { return d.path("lock") }

func (d Dir) record() string { return d.path("run", "cluster.json") }

// Cluster is the record of a cluster, written as it is put together, so that
// another process can find every part of it at any moment.
type Cluster struct {
	// Nodes is how many nodes were asked for.
	Nodes int `json:"nodes"`
	// ProxyMode is kube-proxy's mode: nftables or iptables.
	ProxyMode string `json:"proxyMode"`
	// Build is the key of the binaries it runs.
	Build string `json:"build"`
	// APIAddress is the loopback host:port of the API server.
	APIAddress string `json:"apiAddress,omitempty"`
	// Started is when `up` began.
	Started time.Time `json:"started"`
	// Complete is set when `up` has ended well.
	Complete bool `json:"complete"`
	// Processes are the daemons by name: controlplane, forward, n1, n2, ...
	Processes map[string]proc.ID `json:"processes"`
}

// Load reads the record. It returns nil and no error when there is no cluster,
// or when the record was cut short by a kill: both mean that none is complete.
func (d Dir) Load() (*Cluster, error) {
	b, err := os.ReadFile(d.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := new(Cluster)
	if json.Unmarshal(b, c) != nil {
		return nil, nil
	}
	return c, nil
}

// Save writes the record, whole or not at all.
func (d Dir) Save(c *Cluster) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(d.record(), b, 0o600)
}

// WriteFile writes a file so that a reader, or a kill, sees the old content or
// the new one and never a part. It makes the directory when missing.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
