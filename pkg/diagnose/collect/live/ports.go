package live

import (
	"cmp"
	"context"
	"net"
	"slices"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

// identifyStep bounds each step of a port's identification; TLS servers need about a second to hang up on plaintext.
const identifyStep = 3 * time.Second

// Ports asks the ports of server pods that are judged to speak gRPC what they really speak, through a port-forward. Other ports are
// never touched.
func Ports(o Options) collect.Stage {
	o = o.withDefaults()
	return func(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
		s.Emit(collect.Event{Fact: diagnose.FactPorts, Step: collect.StepStart})
		snap.Ports = askPorts(ctx, s, snap, o)
		s.Emit(collect.Event{Fact: diagnose.FactPorts, Step: collect.StepEnd, Status: snap.Ports.Status})
		return ctx.Err()
	}
}

func askPorts(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, o Options) diagnose.Fact[[]diagnose.PortProbe] {
	work := portsToAsk(snap, o.MaxPods)
	if len(work) == 0 {
		return diagnose.Unknown[[]diagnose.PortProbe](diagnose.NotAsked, "no port of a ready pod is judged to speak gRPC", "--assume-grpc asks all the same")
	}
	results := make([][]diagnose.PortProbe, len(work))
	fails := make([]diagnose.Status, len(work))
	group := newLimited(ctx, maxStreams)
	for i, w := range work {
		group.Go(func() { results[i], fails[i] = identify(ctx, s, w) })
	}
	group.Wait()
	var all []diagnose.PortProbe
	var worst diagnose.Status
	good := 0
	for i := range work {
		if fails[i].State != "" {
			s.Gap(diagnose.Gap{Fact: diagnose.FactPorts, Subject: "pod " + work[i].pod.String(), Status: fails[i]})
			worst = fails[i]
			continue
		}
		good++
		all = append(all, results[i]...)
	}
	if good == 0 {
		if worst.State == diagnose.Denied {
			worst.Reason = "may not port-forward in " + work[0].pod.Namespace
		}
		return diagnose.Fact[[]diagnose.PortProbe]{Status: worst}
	}
	return diagnose.Know(all)
}

// portWork is one pod and the ports to ask of it.
type portWork struct {
	pod   diagnose.Key
	ports []int32
}

// portsToAsk chooses the pods of every target, spread over nodes and ages, at most limit for each Service.
func portsToAsk(snap *diagnose.Snapshot, limit int) []portWork {
	byPod := map[diagnose.Key]*portWork{}
	var order []diagnose.Key
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok {
			continue
		}
		grpc := v.GRPCPorts()
		if len(grpc) == 0 {
			continue
		}
		for _, e := range sample(v, limit) {
			for _, p := range grpc {
				n := e.Ports[p.Name]
				if n == 0 {
					continue
				}
				w := byPod[e.Pod]
				if w == nil {
					w = &portWork{pod: e.Pod}
					byPod[e.Pod] = w
					order = append(order, e.Pod)
				}
				if !slices.Contains(w.ports, n) {
					w.ports = append(w.ports, n)
				}
			}
		}
	}
	out := make([]portWork, 0, len(order))
	for _, k := range order {
		out = append(out, *byPod[k])
	}
	return out
}

// sample takes at most limit ready pods so that every node is seen, and on each node the oldest and the youngest pod first:
// what differs by node or by age shows.
func sample(v *diagnose.View, limit int) []diagnose.Endpoint {
	byNode := map[string][]diagnose.Endpoint{}
	var nodes []string
	for _, e := range v.Ready() {
		if e.Pod == (diagnose.Key{}) || v.Pods.Known() && v.Pod(e.Pod) == nil {
			continue
		}
		if byNode[e.Node] == nil {
			nodes = append(nodes, e.Node)
		}
		byNode[e.Node] = append(byNode[e.Node], e)
	}
	for n, es := range byNode {
		slices.SortStableFunc(es, func(a, b diagnose.Endpoint) int { return age(v, a).Compare(age(v, b)) })
		byNode[n] = ends(es)
	}
	slices.Sort(nodes)
	var out []diagnose.Endpoint
	for i := 0; len(out) < limit; i++ {
		took := false
		for _, n := range nodes {
			if i < len(byNode[n]) && len(out) < limit {
				out = append(out, byNode[n][i])
				took = true
			}
		}
		if !took {
			break
		}
	}
	slices.SortFunc(out, func(a, b diagnose.Endpoint) int { return a.Pod.Compare(b.Pod) })
	return out
}

// ends reorders a list to first, last, second, last but one, ...
func ends(es []diagnose.Endpoint) []diagnose.Endpoint {
	out := make([]diagnose.Endpoint, 0, len(es))
	for i, j := 0, len(es)-1; i <= j; i, j = i+1, j-1 {
		out = append(out, es[i])
		if i != j {
			out = append(out, es[j])
		}
	}
	return out
}

func age(v *diagnose.View, e diagnose.Endpoint) time.Time {
	if p := v.Pod(e.Pod); p != nil {
		return p.Created
	}
	return time.Time{}
}

func identify(ctx context.Context, s *collect.Session, w portWork) ([]diagnose.PortProbe, diagnose.Status) {
	f, err := openForward(ctx, s, w.pod)
	if err != nil {
		return nil, statusOf(err)
	}
	defer f.Close()
	var out []diagnose.PortProbe
	for _, port := range w.ports {
		start := time.Now()
		id, err := h2probe.Identify(ctx, func(ctx context.Context) (net.Conn, error) { return f.dial(ctx, int(port)) },
			h2probe.IdentifyOptions{StepTimeout: identifyStep})
		p := portProbe(w.pod, port, id)
		p.RTTMicros = time.Since(start).Microseconds()
		if err != nil {
			p.Error = cmp.Or(p.Error, err.Error())
		}
		out = append(out, p)
	}
	return out, diagnose.Status{}
}

// protos maps what h2probe heard to the snapshot's words.
var protos = map[h2probe.Proto]string{
	h2probe.ProtoGRPC: "grpc", h2probe.ProtoHTTP2: "h2c", h2probe.ProtoHTTP1: "http1", h2probe.ProtoTLS: "tls",
	h2probe.ProtoClosed: "closed", h2probe.ProtoSilent: "silent", h2probe.ProtoUnknown: "other", h2probe.ProtoUnreachable: "other",
}

func portProbe(pod diagnose.Key, port int32, id h2probe.Identity) diagnose.PortProbe {
	p := diagnose.PortProbe{Pod: pod, Port: port, Proto: protos[id.Proto], Evidence: id.Evidence, Error: id.Error}
	if id.Settings != nil {
		p.MaxConcurrentStreams = id.Settings.MaxConcurrentStreams
	}
	if id.Health != nil {
		p.Health = cmp.Or(id.Health.Status, id.Health.Code.String())
	}
	if id.TLS != nil {
		p.TLS = &diagnose.TLSInfo{ALPN: id.TLS.ALPN, DNSNames: id.TLS.Names, ClientCert: id.TLS.ClientCert != ""}
	}
	if p.Proto == "closed" {
		p.Evidence = append(p.Evidence, "port-forward connects to the pod's loopback: a server that listens on the pod's address only looks closed from here")
	}
	return p
}
