package live

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/agent/calls"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const (
	probeRate = 200 // calls a second on each channel: quick, and nothing that a server would notice
	// callsGrace is what the calls may take beyond that rate before they are ended: a server that does not answer costs 2 s a call.
	callsGrace = 10 * time.Second
	// holdExtra is how long the probe's connections stay open beyond the reading of sockets: time for the server pods' agents to start.
	holdExtra = 30 * time.Second
	// readExtra is what reading the sockets of a batch of pods takes beyond the interval, as measured, with room.
	readExtra = 3 * time.Second
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
		p := &probing{s: s, snap: snap, o: o}
		p.sockets = func() { p.socketErr = Sockets(o)(ctx, s, snap) }
		snap.Sockets.Status = diagnose.Status{State: diagnose.Failed, Reason: "interrupted before the sockets were read"}
		if err := p.resolve(ctx); err != nil { // a name mistyped is no reason to place anything
			st := statusOf(err)
			snap.Probes = diagnose.Fact[[]diagnose.ProbeRun]{Status: st}
			snap.Sockets.Status = diagnose.Status{State: diagnose.Failed, Reason: "not read, since no probe can be sent: " + st.Reason, Hint: st.Hint}
			return ctx.Err()
		}
		groups, nothing := probeGroups(s, snap, o)
		p.run(ctx, groups)
		switch {
		case len(groups) == 0:
			snap.Probes = diagnose.Fact[[]diagnose.ProbeRun]{Status: nothing}
		case p.good > 0:
			snap.Probes = diagnose.Know(p.runs)
		default:
			snap.Probes = diagnose.Fact[[]diagnose.ProbeRun]{Status: worst(p.failed)}
		}
		return cmp.Or(ctx.Err(), p.socketErr)
	}
}

// probeTarget is one way of dialling one Service.
type probeTarget struct {
	label  string // unique but for the way "pods": VIA, or VIA:NAMESPACE/NAME when several Services are probed
	via    string
	target string
	tls    bool
}

// probeGroups lists what to dial, in a group for plaintext and one for TLS because an agent speaks one of them: by default the cluster
// IP and the headless name, where they exist. nothing says why the list is empty.
func probeGroups(s *collect.Session, snap *diagnose.Snapshot, o Options) (groups [][]probeTarget, nothing diagnose.Status) {
	var plain, tls []probeTarget
	nothing = diagnose.Status{Reason: "nothing to dial: no port is judged to speak gRPC", Hint: "--assume-grpc probes all the same"}
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok {
			continue
		}
		ports := v.GRPCPorts()
		if len(ports) == 0 {
			continue
		}
		if len(v.Ready()) == 0 {
			nothing = diagnose.Status{Reason: "nothing to dial: no pod is ready"}
			continue
		}
		ways := waysOf(v, ports[0], o)
		if len(ways) == 0 {
			nothing = diagnose.Status{Reason: "nothing to dial: the Service has none of the ways asked for (" + strings.Join(o.Via, ", ") + ")"}
		}
		for _, t := range ways {
			t.label = t.via
			if len(snap.Targets) > 1 {
				t.label += ":" + k.String()
			}
			if t.tls = speaksTLS(v, ports[0]); t.tls {
				tls = append(tls, t)
			} else {
				plain = append(plain, t)
			}
		}
	}
	for _, g := range [][]probeTarget{plain, tls} {
		if n := len(g) - calls.MaxTargets; n > 0 {
			s.Gap(diagnose.Gap{Fact: diagnose.FactProbes, Subject: fmt.Sprintf("%d more targets", n),
				Status: diagnose.Status{Reason: fmt.Sprintf("a probe dials at most %d", calls.MaxTargets)}})
			g = g[:calls.MaxTargets]
		}
		if len(g) > 0 {
			groups = append(groups, g)
		}
	}
	return groups, nothing
}

// speaksTLS says whether a pod of the Service answered on that port in TLS. Nothing heard counts as plaintext.
func speaksTLS(v *diagnose.View, p diagnose.ServicePort) bool {
	nums := v.PodPorts(p)
	return slices.ContainsFunc(v.Ports.Value, func(h diagnose.PortProbe) bool {
		return h.TLS != nil && slices.Contains(nums, h.Port) &&
			slices.ContainsFunc(v.Endpoints(), func(e diagnose.Endpoint) bool { return e.Pod == h.Pod })
	})
}

func waysOf(v *diagnose.View, p diagnose.ServicePort, o Options) []probeTarget {
	asked := func(w string) bool { return len(o.Via) == 0 && w != ViaPods || slices.Contains(o.Via, w) }
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
		for _, e := range inTurn(v) {
			if n := e.Ports[p.Name]; n != 0 && len(e.IPs) > 0 && len(out) < o.MaxPods+2 {
				out = append(out, probeTarget{via: ViaPods, target: net.JoinHostPort(e.IPs[0], strconv.Itoa(int(n)))})
			}
		}
	}
	return out
}

// probing is one run of the stage.
type probing struct {
	s         *collect.Session
	snap      *diagnose.Snapshot
	o         Options
	from      diagnose.Key // the pod to send from; zero for a short-lived one
	swept     bool         // of pods that earlier runs left behind
	sockets   func()
	socketErr error

	runs   []diagnose.ProbeRun
	good   int
	failed []diagnose.Status
}

// resolve finds the pod that Options.From means.
func (p *probing) resolve(ctx context.Context) (err error) {
	if p.o.From != nil {
		p.from, err = podOf(ctx, p.s, p.snap, *p.o.From)
	}
	return err
}

// run probes one group after the other and reads the sockets in the innermost place, where the connections of all groups are open.
// Sockets are also read when probes fail: users' own traffic can be seen without them.
func (p *probing) run(ctx context.Context, groups [][]probeTarget) {
	if ctx.Err() != nil {
		return
	}
	if len(groups) == 0 {
		p.sockets()
		return
	}
	inner := false
	err := p.group(ctx, groups, func() {
		inner = true
		p.run(ctx, groups[1:])
	})
	if err == nil {
		return
	}
	st := statusOf(err)
	p.failed = append(p.failed, st)
	for _, t := range groups[0] {
		p.runs = append(p.runs, diagnose.ProbeRun{Via: t.via, Target: t.target, Error: st.Reason})
	}
	if !inner {
		p.run(ctx, groups[1:])
	}
}

// group runs the probe of the first group, calls whileOpen when its report is there and its connections are still open, and cleans up.
func (p *probing) group(ctx context.Context, groups [][]probeTarget, whileOpen func()) error {
	targets := groups[0]
	measure := time.Duration(p.o.Calls)*time.Second/probeRate + callsGrace
	hold := p.holdTime() + time.Duration(len(groups)-1)*(measure+holdExtra)
	args := p.args(targets, measure, hold)
	run, clean, err := p.place(ctx, args, measure+hold+p.o.StartWait)
	defer clean()
	if err != nil {
		return err
	}
	run.start, run.measure = p.o.StartWait, measure
	var r agentapi.ProbeReport
	err = readReport(ctx, p.s, run, func(log io.Reader) (err error) {
		r, err = agentapi.ReadProbe(log)
		return err
	})
	if err != nil {
		return err
	}
	p.good++
	p.runs = append(p.runs, projectProbe(r, run.pod, targets)...)
	p.snap.Probes = diagnose.Know(p.runs)
	whileOpen()
	return nil
}

// holdTime is how long connections must stay open for the sockets of all pods to be read.
func (p *probing) holdTime() time.Duration {
	work, _ := choosePods(p.snap, p.o.MaxPods, socketPorts)
	batches := (len(work) + maxStreams - 1) / maxStreams
	return time.Duration(max(1, batches))*(p.o.Interval+readExtra) + holdExtra
}

// callsEach is the share of each channel, at least one call, and sends what that comes to: the calls of each way of dialling.
func (p *probing) callsEach() int { return max(1, p.o.Calls/p.o.Channels) }
func (p *probing) sends() int     { return p.callsEach() * p.o.Channels }

// args is the agent's command line. Calls are those of each way of dialling: what goes over several channels is divided. The calls end
// after a time, so that a report comes also of servers that never answer.
func (p *probing) args(targets []probeTarget, measure, hold time.Duration) []string {
	args := []string{
		"probe", "--channels", strconv.Itoa(p.o.Channels), "--calls", strconv.Itoa(p.callsEach()),
		"--rate", strconv.Itoa(probeRate), "--duration", measure.String(), "--hold", hold.String(),
	}
	if targets[0].tls {
		args = append(args, "--insecure-skip-verify") // counts connections; carries nothing worth protecting
	}
	for _, t := range targets {
		args = append(args, "--target", t.label+"="+t.target)
	}
	return args
}

// place puts the agent where the calls shall come from and returns how to take it away again, which is never nil and must be called.
func (p *probing) place(ctx context.Context, args []string, life time.Duration) (run agentRun, clean func(), err error) {
	none := func() {}
	if p.o.From != nil {
		run.pod = p.from
		p.o.announce(fmt.Sprintf("adding an ephemeral container (%s) to pod %s to send %d calls of each kind; it ends by itself, its entry stays in the pod's spec",
			p.o.Image, run.pod, p.sends()))
		run.container, err = attach(ctx, p.s, run.pod, p.o.Image, args)
		return run, none, err
	}
	if !p.swept {
		p.swept = true
		sweepProbes(ctx, p.s, p.snap.Targets[0].Namespace, p.o.announce)
	}
	pod := probePod(p.snap.Targets[0].Namespace, p.o.Image, args, life)
	run = agentRun{pod: diagnose.Key{Namespace: pod.Namespace, Name: pod.Name}, container: pod.Spec.Containers[0].Name}
	p.o.announce(fmt.Sprintf("creating the short-lived pod %s (%s) to send %d calls of each kind; it is deleted afterwards", run.pod, p.o.Image, p.sends()))
	made, err := createPod(ctx, p.s, pod)
	if !made {
		return run, none, err
	}
	lost := err != nil
	return run, func() {
		if err := deletePod(ctx, p.s, run.pod, lost); err != nil {
			p.o.announce(fmt.Sprintf("could not delete pod %s (%s): it ends by itself within %s; kubectl delete pod -n %s %s",
				run.pod, statusOf(err).Reason, life.Round(time.Second), run.pod.Namespace, run.pod.Name))
		}
	}, err
}

// podOf finds a running pod of a workload in the snapshot, or by name when the workload is a pod.
func podOf(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, ref collect.ClientRef) (diagnose.Key, error) {
	found := diagnose.Pod{Key: ref.Key}
	if ref.Kind != "Pod" {
		var all []diagnose.Pod
		for _, p := range snap.Pods.Value {
			if p.Namespace == ref.Namespace && p.Owner.Kind == ref.Kind && p.Owner.Name == ref.Name && p.Phase == "Running" && !p.Terminating {
				all = append(all, p)
			}
		}
		if len(all) == 0 {
			what := diagnose.ShortKind(ref.Kind) + "/" + ref.Name
			return diagnose.Key{}, agentFailed("--client "+ref.Namespace+"/"+what+" makes workloads of other namespaces visible",
				"%s in %s has no running pod to send calls from", what, ref.Namespace)
		}
		slices.SortFunc(all, func(a, b diagnose.Pod) int { return a.Key.Compare(b.Key) })
		found = all[max(0, slices.IndexFunc(all, func(p diagnose.Pod) bool { return p.Ready }))]
	}
	p, err := getPod(ctx, s, found.Key)
	if err != nil {
		return found.Key, err
	}
	return found.Key, cmp.Or(hostable(p), roomFor(p))
}

// Bounds of what is taken of a report: the agent's image may be anybody's.
const (
	maxChannels = 4096 // of one way of dialling
	maxCodes    = 32
)

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
		if !ok || len(out[i].Channels) == maxChannels {
			continue
		}
		out[i].Channels = append(out[i].Channels, projectChannel(c))
		if c.Local.IsValid() {
			out[i].FromIP = c.Local.Addr().Unmap().String()
		}
	}
	for _, t := range r.Targets {
		if i, ok := index[t.Name]; ok && t.Error != "" {
			out[i].Error = clip(t.Error)
		}
	}
	if len(r.Errors) > 0 && len(r.Channels) == 0 {
		for i := range out {
			out[i].Error = cmp.Or(out[i].Error, clip(strings.Join(r.Errors, "; ")))
		}
	}
	return out
}

func projectChannel(c agentapi.Channel) diagnose.ProbeChannel {
	out := diagnose.ProbeChannel{
		Channel: c.Index, Local: c.Local, Remote: c.Remote, Calls: max(0, c.Calls), Failed: max(0, c.Failed), Error: clip(cmp.Or(c.StartError, c.EndError)),
	}
	if c.Latency != nil {
		out.P50Micros = int64(c.Latency.P50)
	}
	for _, code := range slices.Sorted(maps.Keys(c.Codes)) {
		if stateWord(code) && len(out.Codes) < maxCodes {
			if out.Codes == nil {
				out.Codes = map[string]int{}
			}
			out.Codes[code] = c.Codes[code]
		}
	}
	return out
}
