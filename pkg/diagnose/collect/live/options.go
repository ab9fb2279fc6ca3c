package live

import (
	"cmp"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// Defaults of Options.
const (
	DefaultDNSNamespace = "kube-system"
	DefaultDNSSelector  = "k8s-app=kube-dns" // kubeadm, and every large provider, labels CoreDNS like this
	DefaultMaxPods      = 20
	DefaultImage        = "grpclb.dev/grpclb-refresher:dev"
	DefaultInterval     = 4 * time.Second
	DefaultCalls        = 300
)

// Ways of dialling for Options.Via.
const (
	ViaClusterIP = "clusterip"
	ViaHeadless  = "headless"
	ViaPods      = "pods"
)

// Options say how running pods are asked. The zero value is useful.
type Options struct {
	// DNSNamespace and DNSSelector find the cluster's DNS pods.
	DNSNamespace string
	DNSSelector  string
	// MaxPods bounds the server pods that are looked into, for each way of looking.
	MaxPods int
	// Image is the agent's image, for depths sockets and probe.
	Image string
	// Interval is the time over which bytes per second are measured.
	Interval time.Duration
	// From sends the probe's calls from a pod of this workload, by an ephemeral container; nil uses a short-lived pod.
	From *collect.ClientRef
	// Via lists the ways of dialling; empty means the cluster IP and a headless Service, where they exist.
	Via []string
	// Channels is the number of channels of each way of dialling, Calls the number of calls.
	Channels int
	Calls    int
	// Announce is told, before it happens, what is placed in the cluster, and afterwards what stays behind. Nil is silent.
	Announce func(text string)
}

func (o Options) withDefaults() Options {
	o.DNSNamespace = cmp.Or(o.DNSNamespace, DefaultDNSNamespace)
	o.DNSSelector = cmp.Or(o.DNSSelector, DefaultDNSSelector)
	o.MaxPods = cmp.Or(o.MaxPods, DefaultMaxPods)
	o.Image = cmp.Or(o.Image, DefaultImage)
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Channels = cmp.Or(o.Channels, 1)
	o.Calls = cmp.Or(o.Calls, DefaultCalls)
	return o
}

func (o Options) announce(text string) {
	if o.Announce != nil {
		o.Announce(text)
	}
}

// Stages returns what a depth adds to reading the API: nothing for static, DNS and ports for observe, and the agent for sockets
// and probe. Ports are asked before sockets are read, so that the look itself is over when connections are counted.
func Stages(depth string, o Options) []collect.Stage {
	switch depth {
	case collect.DepthObserve:
		return []collect.Stage{collect.Together(DNS(o), Ports(o))}
	case collect.DepthSockets:
		return []collect.Stage{collect.Together(DNS(o), Ports(o)), Sockets(o)}
	case collect.DepthProbe:
		return []collect.Stage{collect.Together(DNS(o), Ports(o)), Probe(o)}
	}
	return nil
}
