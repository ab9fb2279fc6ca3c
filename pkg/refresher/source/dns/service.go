package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// kind is what a name turned out to be.
type kind int

const (
	kindUnknown   kind = iota // the server says nothing about it by SRV: not CoreDNS, or not a Service
	kindClusterIP             // a Service with a virtual IP
	kindHeadless              // SRV targets are below the name
)

// recheck is how often a Service with a ClusterIP is looked at for a twin, and a
// judgement that could not be made is tried again.
const recheck = 30 * time.Second

// nature is what is known about the Service of the pin.
type nature struct {
	kind  kind
	of    netip.Addr // the address that it was judged by; none when DNS did not say
	ports []uint16   // its SRV records' ports, sorted; nil when not all were seen
	at    time.Time
}

// judgeKind finds out what Service has the name. CoreDNS answers an SRV question
// for the bare name of a Service with a record for each port (and endpoint); the
// target is the name itself where there is a ClusterIP.
func (a *asker) judgeKind(ctx context.Context, name string) (nature, error) {
	r, err := a.peek(ctx, name, dnsprobe.TypeSRV)
	if err != nil {
		return nature{}, err
	}
	n := nature{kind: kindOf(r, name)}
	if !r.partial {
		n.ports = portsOf(r)
	}
	return n, nil
}

func kindOf(r reply, name string) kind {
	below := func(rec dnsprobe.Record) bool { return hasSuffixFold(rec.Target, "."+name) }
	switch {
	case r.outcome != OutcomeOK:
		return kindUnknown
	case leadsTo(r, name):
		return kindClusterIP
	case slices.ContainsFunc(r.records(), below):
		return kindHeadless
	}
	return kindUnknown
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) > len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

func portsOf(r reply) []uint16 {
	var out []uint16
	for _, rec := range services(r) {
		out = append(out, rec.Port)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// follow looks at what a name came to and, when it is a ClusterIP, for its
// headless twin. It returns what to use.
func (w *watcher) follow(ctx context.Context, a *asker, q question, f finding) finding {
	switch {
	case f.outcome != OutcomeOK:
		return f
	case w.pin.twin != "":
		return w.remap(ctx, a, q, f)
	}
	w.judge(ctx, a, f)
	if w.nature.kind != kindClusterIP {
		w.virtual = endpoint.ClusterIPTarget{}
		return f
	}
	event := endpoint.ClusterIPTarget{Name: plain(f.owner), VIP: f.endpoints[0].Addr().Addr()}
	if w.cfg.FollowHeadlessTwin && (q.asked || w.twinAt.IsZero() || time.Since(w.twinAt) >= recheck) {
		twin, found, err := w.findTwin(ctx, a, f.owner)
		if err == nil {
			w.twinAt = time.Now()
		}
		if found != nil {
			w.pin.twin, w.pin.want = twin.name, twin.want
			event.Twin = plain(twin.name)
			f = *found
		}
	}
	if event != w.virtual {
		w.virtual = event
		w.sink.Note(event)
	}
	return f
}

// judge brings the nature up to date: of a named port the answer says it, of a
// number it is asked when the name is new and when one address became another.
// Several addresses are never a ClusterIP's.
func (w *watcher) judge(ctx context.Context, a *asker, f finding) {
	if w.pin.want.portName != "" {
		w.nature = nature{kind: kindHeadless}
		if f.itself {
			w.nature.kind = kindClusterIP
		}
		return
	}
	addr := f.endpoints[0].Addr().Addr()
	n := w.nature
	switch {
	case n.at.IsZero():
	case len(f.endpoints) > 1:
		w.nature.kind, w.nature.of = kindHeadless, netip.Addr{}
		return
	case n.of == addr, n.kind == kindUnknown && !n.of.IsValid() && time.Since(n.at) < recheck:
		return
	}
	next, err := a.judgeKind(ctx, f.owner)
	switch {
	case err != nil && n.kind == kindClusterIP:
		return // what it was is the best guess; the next look asks again
	case err == nil:
		next.of = addr
	}
	next.at = time.Now()
	w.nature = next
	if next.kind == kindHeadless && next.ports != nil && !slices.Contains(next.ports, w.target.Port) {
		w.warn("%s is a headless Service, which maps no ports, and no endpoint of it has port %d: use %s, or the port's name",
			plain(f.owner), w.target.Port, list(next.ports))
	}
}

// twin is a headless Service to use in place of the one that was asked for.
type twin struct {
	name string
	want want
}

// findTwin looks for the headless twin of a Service; nil when there is none that
// can be used. The error says that DNS did not say.
func (w *watcher) findTwin(ctx context.Context, a *asker, owner string) (twin, *finding, error) {
	first, rest, _ := strings.Cut(owner, ".")
	t := twin{name: first + w.cfg.TwinSuffix + "." + rest, want: w.pin.want}
	t.want.settled = false
	if t.want.portName == "" {
		r, err := a.ask(ctx, t.name, dnsprobe.TypeSRV)
		if err != nil || kindOf(r, t.name) != kindHeadless {
			return twin{}, nil, err
		}
		if ok := w.mapPort(ctx, a, owner, &t, portsOf(r)); !ok {
			w.warn("%s has a ClusterIP and its twin %s is not used: nothing says which of the twin's ports (%s) stands for port %d; "+
				"name the port in the target, as in %s:grpc", plain(owner), plain(t.name), list(portsOf(r)), w.pin.want.port, plain(owner))
			return twin{}, nil, nil
		}
	}
	f, err := a.find(ctx, t.name, t.want)
	if err != nil || f.outcome != OutcomeOK || f.itself {
		return twin{}, nil, err
	}
	t.want.family, t.want.settled = f.family, true
	return t, &f, nil
}

// remap looks whether the twin's pods listen on another port now: a question from
// outside may come from connections that fail for that reason.
func (w *watcher) remap(ctx context.Context, a *asker, q question, f finding) finding {
	if w.pin.want.portName != "" || len(w.nature.ports) != 1 || !q.asked || time.Since(w.twinAt) < recheck {
		return f
	}
	r, err := a.ask(ctx, w.pin.twin, dnsprobe.TypeSRV)
	if err != nil || r.outcome != OutcomeOK {
		return f
	}
	w.twinAt = time.Now()
	ports := portsOf(r)
	if len(ports) != 1 || ports[0] == w.pin.want.port {
		return f
	}
	w.pin.want.port = ports[0]
	for i := range f.endpoints {
		f.endpoints[i] = endpoint.At(netip.AddrPortFrom(f.endpoints[i].Addr().Addr(), ports[0]))
	}
	return f
}

// gRPCPortNames are the port names that are tried for a port number when the
// Service has several ports: DNS gives the port for a name, never the name for a
// port.
var gRPCPortNames = []string{"grpc", "http2", "h2c", "https", "http"}

// mapPort finds out which port of the twin stands for the Service's port. The
// Service maps 80 to the pods' 8001, say; its twin's records say 8001.
func (w *watcher) mapPort(ctx context.Context, a *asker, owner string, t *twin, twins []uint16) bool {
	own := w.nature.ports
	switch {
	case len(twins) == 1 && len(own) == 1:
		t.want.port = twins[0]
		return true
	case own != nil && slices.Equal(own, twins) && slices.Contains(twins, t.want.port):
		return true // every port is its own target
	}
	for _, name := range gRPCPortNames {
		r, err := a.peek(ctx, srvName(name, owner), dnsprobe.TypeSRV)
		if err != nil || r.outcome != OutcomeOK || !slices.Equal(portsOf(r), []uint16{t.want.port}) {
			continue
		}
		if r, err = a.peek(ctx, srvName(name, t.name), dnsprobe.TypeSRV); err == nil && r.outcome == OutcomeOK {
			t.want.portName = name
			return true
		}
	}
	return false
}

// plain is a name for people.
func plain(name string) string { return strings.TrimSuffix(name, ".") }

func list(ports []uint16) string {
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprint(p))
	}
	return strings.Join(out, ", ")
}
