// Package addons holds the manifests of what every lab cluster runs: CoreDNS
// and metrics-server.
//
// They are what kubeadm and the metrics-server project install, reduced to a
// cluster without an uplink; each file says where it differs and why.
package addons

import (
	_ "embed"
)

//go:embed coredns.yaml
var coreDNS string

//go:embed metrics-server.yaml
var metricsServer string

// The images that the manifests name.
const (
	CoreDNSImage       = "lab.grpclb.dev/coredns:dev"
	MetricsServerImage = "lab.grpclb.dev/metrics-server:dev"
)

// Manifest returns all objects as one stream of YAML documents.
func Manifest() string { return coreDNS + "---\n" + metricsServer }
