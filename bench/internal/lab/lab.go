// Package lab reads what the lab's status command says of itself. It starts nothing.
package lab

import (
	"encoding/json"
	"fmt"
)

// Status is the part of `status -o json` that benchmarks need.
type Status struct {
	State, Kubeconfig, Bin, ProxyMode string
	Nodes                             []struct{}
	Components                        []struct{ Name, Version string }
}

// Read takes the output of `status -o json`.
func Read(out []byte) (Status, error) {
	var s Status
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("read the lab's status: %w", err)
	}
	return s, nil
}

// Title names the lab in the heading of a measurement.
func (s Status) Title() string {
	title := fmt.Sprintf("the lab, %d nodes on this machine, kube-proxy %s", len(s.Nodes), s.ProxyMode)
	for _, c := range s.Components {
		if c.Name == "kubernetes" {
			title += ", Kubernetes " + c.Version
		}
	}
	return title
}
