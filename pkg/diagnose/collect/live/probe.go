package live

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const (
	probeRate = 200 // calls a second on each channel: quick, and nothing that a server would notice
	// holdExtra is how long the probe's connections stay open beyond the interval: the time in which the server pods' agents start.
	holdExtra = 30 * time.Second
)

// Probe makes calls from inside the cluster and reads the server pods' sockets while its connections are open, so that the pod behind
// a cluster IP is known for each connection by its client end.
func Probe(o Options) collect.Stage {
	o = o.withDefaults()
	return func(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
		s.Emit(collect.Event{Fact: diagnose.FactProbes, Step: collect.StepStart})
		defer func() {
			s.Emit(collect.Event{Fact: diagnose.FactProbes, Step: collect.StepEnd, Status: snap.Probes.Status})
		}()
		targets := probeTargets(snap, o)
		if len(targets) == 0 {
			snap.Probes = diagnose.Unknown[[]diagnose.ProbeRun](diagnose.NotAsked, "nothing to dial: no gRPC port with a ready pod", "--assume-grpc probes all the same")
			return Sockets(o)(ctx, s, snap)
		}
		var socketErr error
		err := runProbe(ctx, s, snap, o, targets, func() { socketErr = Sockets(o)(ctx, s, snap) })
		if err != nil {
			snap.Probes.Status = agentStatus(err)
			if !snap.Sockets.Known() && ctx.Err() == nil { // users' traffic can be seen without the probe
				socketErr = Sockets(o)(ctx, s, snap)
			}
		}
		return cmp.Or(ctx.Err(), socketErr)
	}
}

// probeTarget is one way of dialling one Service.
type probeTarget struct {
	label  string // unique: VIA, or VIA:NAMESPACE/NAME when several Services are probed
	via    string
	target string
}

// probeTargets lists what to dial: by default the cluster IP and the headless name, where they exist.
func probeTargets(snap *diagnose.Snapshot, o Options) []probeTarget {
	var out []probeTarget
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok || len(v.Ready()) == 0 {
			continue
		}
		ports := v.GRPCPorts()
		if len(ports) == 0 {
			continue
		}
		for _, t := range waysOf(v, ports[0], o.Via) {
			t.label = t.via
			if len(snap.Targets) > 1 {
				t.label += ":" + k.String()
			}
			out = append(out, t)
		}
	}
	return out
}

func waysOf(v *diagnose.View, p diagnose.ServicePort, via []string) []probeTarget {
	asked := func(w string) bool { return len(via) == 0 && w != ViaPods || slices.Contains(via, w) }
	var out []probeTarget
	if asked(ViaClusterIP) && !v.Service.Headless() && len(v.Service.ClusterIPs) > 0 {
		out = append(out, probeTarget{via: ViaClusterIP, target: net.JoinHostPort(v.Service.ClusterIPs[0], strconv.Itoa(int(p.Port)))})
	}
	if asked(ViaHeadless) {
		svc, ok := v.Service, v.Service.Headless()
		if !ok {
			svc, ok = v.Twin()
		}
		if nums := v.PodPorts(p); ok && len(nums) > 0 {
			out = append(out, probeTarget{via: ViaHeadless, target: "dns:///" + fqdn(svc.Key, v.Cluster.Domain) + ":" + strconv.Itoa(int(nums[0]))})
		}
	}
	if asked(ViaPods) {
		for _, e := range v.Ready() {
			if n := e.Ports[p.Name]; n != 0 && len(e.IPs) > 0 {
				out = append(out, probeTarget{via: ViaPods, target: net.JoinHostPort(e.IPs[0], strconv.Itoa(int(n)))})
			}
		}
	}
	return out
}

// probeArgs is the agent's command line. Calls are those of each way of dialling: what goes over several channels is divided.
func probeArgs(snap *diagnose.Snapshot, o Options, targets []probeTarget) []string {
	hold := o.Interval + holdExtra
	args := []string{
		"probe", "--channels", strconv.Itoa(o.Channels), "--calls", strconv.Itoa(max(1, o.Calls/o.Channels)),
		"--rate", strconv.Itoa(probeRate), "--hold", hold.String(),
	}
	if slices.ContainsFunc(snap.Ports.Value, func(p diagnose.PortProbe) bool { return p.TLS != nil }) {
		args = append(args, "--insecure-skip-verify") // counts connections; carries nothing worth protecting
	}
	for _, t := range targets {
		args = append(args, "--target", t.label+"="+t.target)
	}
	return args
}

// runProbe starts the probe, calls whileOpen when its report is there and its connections are still open, and cleans up.
func runProbe(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, o Options, targets []probeTarget, whileOpen func()) error {
	args := probeArgs(snap, o, targets)
	measure := time.Duration(o.Calls)*time.Second/probeRate*time.Duration(len(targets)) + 10*time.Second
	pod, container, clean, err := place(ctx, s, snap, o, args, measure+o.Interval+holdExtra+startWait)
	if err != nil {
		return err
	}
	defer clean()
	var r agentapi.ProbeReport
	err = readReport(ctx, s, pod, container, measure, func(log io.Reader) (err error) {
		r, err = agentapi.ReadProbe(log)
		return err
	})
	if err != nil {
		return err
	}
	snap.Probes = diagnose.Know(projectProbe(r, pod, targets))
	whileOpen()
	return nil
}

// place puts the agent where the calls shall come from and returns how to take it away again.
func place(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, o Options, args []string, life time.Duration) (diagnose.Key, string, func(), error) {
	if o.From != nil {
		pod, err := podOf(ctx, s, snap, *o.From)
		if err != nil {
			return pod, "", nil, err
		}
		o.announce(fmt.Sprintf("adding an ephemeral container (%s) to pod %s to send %d calls; it ends by itself, its entry stays in the pod's spec",
			o.Image, pod, o.Calls))
		name, err := attach(ctx, s, pod, o.Image, args)
		return pod, name, func() {}, err
	}
	ns := snap.Targets[0].Namespace
	o.announce(fmt.Sprintf("creating a short-lived pod (%s) in namespace %s to send %d calls of each kind; it is deleted afterwards", o.Image, ns, o.Calls))
	pod, err := createPod(ctx, s, probePod(ns, o.Image, args, life))
	if err != nil {
		return pod, "", nil, err
	}
	clean := func() {
		if err := deletePod(ctx, s, pod); err != nil {
			o.announce(fmt.Sprintf("could not delete pod %s (%v): kubectl delete pod -n %s %s", pod, err, pod.Namespace, pod.Name))
		}
	}
	return pod, "probe", clean, nil
}

// podOf finds a running pod of a workload in the snapshot, or by name when the workload is a pod.
func podOf(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, ref collect.ClientRef) (diagnose.Key, error) {
	if ref.Kind == "Pod" {
		_, err := getPod(ctx, s, ref.Key)
		return ref.Key, err
	}
	var found []diagnose.Pod
	for _, p := range snap.Pods.Value {
		if p.Namespace == ref.Namespace && p.Owner.Kind == ref.Kind && p.Owner.Name == ref.Name && p.Phase == "Running" && !p.Terminating {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		what := diagnose.ShortKind(ref.Kind) + "/" + ref.Name
		return diagnose.Key{}, agentFailed(fmt.Sprintf("%s in %s has no running pod to send calls from", what, ref.Namespace),
			"--client "+ref.Namespace+"/"+what+" makes workloads of other namespaces visible")
	}
	slices.SortFunc(found, func(a, b diagnose.Pod) int { return cmp.Or(-boolCompare(a.Ready, b.Ready), a.Key.Compare(b.Key)) })
	return found[0].Key, nil
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// projectProbe groups the report's channels by way of dialling. The way "pods" has one target for each pod: they are one run.
func projectProbe(r agentapi.ProbeReport, pod diagnose.Key, targets []probeTarget) []diagnose.ProbeRun {
	var out []diagnose.ProbeRun
	index := map[string]int{}
	for _, t := range targets {
		if _, ok := index[t.label]; !ok {
			index[t.label] = len(out)
			out = append(out, diagnose.ProbeRun{From: pod, Via: t.via, Target: t.target})
			continue
		}
		out[index[t.label]].Target = "each pod's own address"
	}
	for _, c := range r.Channels {
		i, ok := index[c.Name]
		if !ok {
			continue
		}
		pc := diagnose.ProbeChannel{Local: c.Local, Remote: c.Remote, Calls: c.Calls, Failed: c.Failed, Codes: c.Codes, Error: cmp.Or(c.StartError, c.EndError)}
		if c.Latency != nil {
			pc.P50Micros = int64(c.Latency.P50)
		}
		out[i].Channels = append(out[i].Channels, pc)
		if c.Local.IsValid() {
			out[i].FromIP = c.Local.Addr().Unmap().String()
		}
	}
	for _, t := range r.Targets {
		if i, ok := index[t.Name]; ok && t.Error != "" {
			out[i].Error = t.Error
		}
	}
	if len(r.Errors) > 0 && len(r.Channels) == 0 {
		for i := range out {
			out[i].Error = cmp.Or(out[i].Error, strings.Join(r.Errors, "; "))
		}
	}
	return out
}

func probeResources() corev1.ResourceRequirements {
	q := resource.MustParse
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: q("10m"), corev1.ResourceMemory: q("16Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: q("64Mi")},
	}
}
