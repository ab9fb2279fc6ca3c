package live

import (
	"cmp"
	"context"
	"errors"
	"net"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/h2probe"
)

const (
	// identifyStep bounds each step of a port's identification; TLS servers need about a second to hang up on plaintext.
	identifyStep = 3 * time.Second
	// portsBudget bounds the whole stage: silent ports take two steps each, and there may be many.
	portsBudget = 20 * time.Second
)

var errPortsBudget = errors.New("the time for asking ports was up")

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
	work, left := choosePods(snap, o.MaxPods, grpcPorts)
	if len(work) == 0 {
		return diagnose.Unknown[[]diagnose.PortProbe](diagnose.NotAsked, "no port of a ready pod is judged to speak gRPC", "--assume-grpc asks all the same")
	}
	noteLeft(s, diagnose.FactPorts, left, o.MaxPods)
	bctx, cancel := context.WithTimeoutCause(ctx, portsBudget, errPortsBudget)
	defer cancel()
	probes := make([][]diagnose.PortProbe, len(work))
	fails := make([]diagnose.Status, len(work))
	group := newLimited(bctx, maxStreams)
	for i, w := range work {
		fails[i] = diagnose.Status{State: diagnose.Failed, Reason: "not asked before the end"}
		group.Go(func() { probes[i], fails[i] = identify(bctx, s, w) })
	}
	group.Wait()
	var all []diagnose.PortProbe
	missing := misses{fact: diagnose.FactPorts}
	for i, f := range fails {
		all = append(all, probes[i]...)
		if f.State == diagnose.Failed && ctx.Err() == nil && bctx.Err() != nil {
			f.Reason, f.Hint = errPortsBudget.Error(), ""
		}
		missing.add(work[i].pod, f)
	}
	if len(all) == 0 {
		return diagnose.Fact[[]diagnose.PortProbe]{Status: missing.status("may not port-forward in " + work[0].pod.Namespace)}
	}
	missing.note(s)
	return diagnose.Know(all)
}

// grpcPorts are the ports of an endpoint that are judged to speak gRPC.
func grpcPorts(v *diagnose.View, e diagnose.Endpoint) []int32 {
	var out []int32
	for _, p := range v.GRPCPorts() {
		out = append(out, e.Ports[p.Name])
	}
	return out
}

// identify asks the ports of one pod. What kept a port from being asked is no answer of it: the ports asked before are returned beside
// the failure.
func identify(ctx context.Context, s *collect.Session, w podWork) ([]diagnose.PortProbe, diagnose.Status) {
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
		if err == nil && id.Proto != h2probe.ProtoGRPC { // an answer is an answer; without one the way there may be to blame
			err = f.broken()
			if err == nil && id.Proto == h2probe.ProtoUnreachable {
				err = errors.New(cmp.Or(id.Error, "no connection"))
			}
		}
		if err != nil {
			return out, diagnose.Status{State: diagnose.Failed, Reason: clip(err.Error())}
		}
		p := portProbe(w.pod, port, id)
		p.RTTMicros = time.Since(start).Microseconds()
		out = append(out, p)
	}
	return out, diagnose.Status{}
}

// protos maps what h2probe heard to the snapshot's words.
var protos = map[h2probe.Proto]string{
	h2probe.ProtoGRPC: "grpc", h2probe.ProtoHTTP2: "h2c", h2probe.ProtoHTTP1: "http1", h2probe.ProtoTLS: "tls",
	h2probe.ProtoClosed: "closed", h2probe.ProtoSilent: "silent", h2probe.ProtoUnknown: "other",
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
