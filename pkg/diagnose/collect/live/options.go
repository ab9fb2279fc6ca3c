package live

import (
	"cmp"
	"context"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/calls"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// Defaults of Options.
const (
	DefaultDNSNamespace = "kube-system"
	DefaultDNSSelector  = "k8s-app=kube-dns" // kubeadm, and every large provider, labels CoreDNS like this
	DefaultMaxPods      = 20
	DefaultImage        = "grpclb.dev/grpclb-refresher:dev"
	DefaultStartWait    = 45 * time.Second
	DefaultInterval     = 4 * time.Second
	DefaultCalls        = 300
)

const (
	maxInterval = 10 * time.Minute // the agent's own limit
	maxCalls    = 100_000          // more than eight minutes of calls on one channel prove no more
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
	// MaxPods bounds the pods that are talked to, over all targets: the DNS pods and server pods of port-forwards together (see Stages),
	// and the server pods that get an ephemeral container. What is below 1 counts as the default, here and in the other numbers.
	MaxPods int
	// Image is the agent's image, for depths sockets and probe.
	Image string
	// StartWait is how long the agent's container may take to start; pulling its image is in it.
	StartWait time.Duration
	// Interval is the time over which bytes per second are measured.
	Interval time.Duration
	// From sends the probe's calls from a pod of this workload, by an ephemeral container; nil uses a short-lived pod.
	From *collect.ClientRef
	// Via lists the ways of dialling; empty means the cluster IP and a headless Service, where they exist.
	Via []string
	// Channels is the number of channels of each way of dialling, Calls the number of calls.
	Channels int
	Calls    int
	// Announce is told, before it happens, what is placed in the cluster, and afterwards what stays behind. It is called by one goroutine
	// at a time. Nil is silent.
	Announce func(text string)
}

func (o Options) withDefaults() Options {
	o.DNSNamespace = cmp.Or(o.DNSNamespace, DefaultDNSNamespace)
	o.DNSSelector = cmp.Or(o.DNSSelector, DefaultDNSSelector)
	o.MaxPods = cmp.Or(max(o.MaxPods, 0), DefaultMaxPods)
	o.Image = cmp.Or(o.Image, DefaultImage)
	o.StartWait = cmp.Or(max(o.StartWait, 0), DefaultStartWait)
	o.Interval = min(cmp.Or(max(o.Interval, 0), DefaultInterval), maxInterval)
	o.Channels = min(cmp.Or(max(o.Channels, 0), 1), calls.MaxChannels)
	o.Calls = min(cmp.Or(max(o.Calls, 0), DefaultCalls), maxCalls)
	return o
}

func (o Options) announce(text string) {
	if o.Announce != nil {
		o.Announce(text)
	}
}

// Stages returns what a depth adds to reading the API: nothing for static, DNS and ports for observe, and the agent for sockets
// and probe. Ports are asked before sockets are read, so that the look itself is over when connections are counted.
//
// MaxPods bounds the streams of the first two together: a quarter of it is for DNS pods.
func Stages(depth string, o Options) []collect.Stage {
	if depth == collect.DepthStatic || depth == "" {
		return nil
	}
	o = o.withDefaults()
	dns, ports := o, o
	dns.MaxPods = o.MaxPods / 4
	ports.MaxPods = o.MaxPods - dns.MaxPods
	observe := collect.Together(DNS(dns), Ports(ports))
	if dns.MaxPods == 0 {
		observe = collect.Together(noDNS, Ports(ports))
	}
	switch depth {
	case collect.DepthObserve:
		return []collect.Stage{observe}
	case collect.DepthSockets:
		return []collect.Stage{observe, Sockets(o)}
	case collect.DepthProbe:
		return []collect.Stage{observe, Probe(o)}
	}
	return nil
}

// noDNS says why DNS is not asked.
func noDNS(_ context.Context, _ *collect.Session, snap *diagnose.Snapshot) error {
	snap.DNS = diagnose.Unknown[[]diagnose.DNSAnswer](diagnose.NotAsked, "a quarter of --max-pods is for DNS pods, and that is none", "--max-pods 4 or more")
	return nil
}
