package checks_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// takenAt is the moment of every scenario; "-5m" in a scenario is five minutes before it.
var takenAt = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// scenario is the short form of a Snapshot. Everything has a default that is in order: svc/square-service in default,
// a gRPC Service with a cluster IP and three ready pods on two nodes in two zones, no clients, nothing deeper than
// API reads. A case states only what differs; objects are merged over the defaults field by field.
type scenario struct {
	Service  map[string]any   `json:"service"`
	Services []map[string]any `json:"services"` // siblings and others
	Pods     any              `json:"pods"`     // a number, or a list of overrides
	Nodes    []map[string]any `json:"nodes"`
	Clients  []map[string]any `json:"clients"` // workloads; dial: shortens targets, pods: lists their pods
	Slices   []map[string]any `json:"slices"`  // instead of those that the controller would write
	DNS      []map[string]any `json:"dns"`
	Ports    []map[string]any `json:"ports"`
	Probes   []map[string]any `json:"probes"`
	Metrics  []map[string]any `json:"metrics"`
	// Sockets maps a server pod to its connections: "CLIENT-POD-OR-ADDRESS [xN] [@BYTES_PER_SECOND]".
	Sockets map[string][]string `json:"sockets"`
	// SocketSource is inet_diag unless proc is said, which knows no rates.
	SocketSource string `json:"socketSource"`
	// Unknown maps a group of facts to why it was denied; NotAsked lists those that nobody asked for.
	Unknown    map[string]string `json:"unknown"`
	NotAsked   []string          `json:"notAsked"`
	AssumeGRPC bool              `json:"assumeGRPC"`
	Gaps       []diagnose.Gap    `json:"gaps"`
}

func (sc scenario) snapshot(t testing.TB) *diagnose.Snapshot {
	t.Helper()
	s := &diagnose.Snapshot{
		APIVersion: diagnose.APIVersion, Kind: diagnose.SnapshotKind, TakenAt: takenAt, Depth: "static",
		Cluster: diagnose.Cluster{Domain: "cluster.local"}, AssumeGRPC: sc.AssumeGRPC,
	}
	svc := build[diagnose.Service](t, serviceDefaults("square-service"), sc.Service)
	s.Targets = []diagnose.Key{svc.Key}
	s.Services = diagnose.Know([]diagnose.Service{svc})
	for _, o := range sc.Services {
		s.Services.Value = append(s.Services.Value, build[diagnose.Service](t, serviceDefaults("other"), o))
	}
	s.Nodes = diagnose.Know(sc.nodes(t))
	s.Pods = diagnose.Know(sc.pods(t, svc))
	s.Slices = diagnose.Know(sc.slices(t, svc, s.Pods.Value))
	s.ConfigMaps = diagnose.Know([]diagnose.Key{})
	s.Gaps = sc.Gaps
	sc.clients(t, s)
	sc.deep(t, s)
	for name, why := range sc.Unknown {
		withdraw(t, s, diagnose.FactName(name), diagnose.Status{State: diagnose.Denied, Reason: why})
	}
	for _, name := range sc.NotAsked {
		withdraw(t, s, diagnose.FactName(name), diagnose.Status{})
	}
	return s
}

// withdraw takes one group of facts out of a snapshot.
func withdraw(t testing.TB, s *diagnose.Snapshot, n diagnose.FactName, st diagnose.Status) {
	t.Helper()
	switch n {
	case diagnose.FactServices:
		s.Services.Status = st // the values stay: the Service itself was named by the user
	case diagnose.FactSlices:
		s.Slices = diagnose.Fact[[]diagnose.Slice]{Status: st}
	case diagnose.FactPods:
		s.Pods = diagnose.Fact[[]diagnose.Pod]{Status: st}
	case diagnose.FactNodes:
		s.Nodes = diagnose.Fact[[]diagnose.Node]{Status: st}
	case diagnose.FactWorkloads:
		s.Workloads = diagnose.Fact[[]diagnose.Workload]{Status: st}
	case diagnose.FactConfigMaps:
		s.ConfigMaps = diagnose.Fact[[]diagnose.Key]{Status: st}
	case diagnose.FactMetrics:
		s.Metrics = diagnose.Fact[[]diagnose.PodMetrics]{Status: st}
	case diagnose.FactDNS:
		s.DNS = diagnose.Fact[[]diagnose.DNSAnswer]{Status: st}
	case diagnose.FactPorts:
		s.Ports = diagnose.Fact[[]diagnose.PortProbe]{Status: st}
	case diagnose.FactSockets:
		s.Sockets = diagnose.Fact[[]diagnose.SocketTable]{Status: st}
	case diagnose.FactProbes:
		s.Probes = diagnose.Fact[[]diagnose.ProbeRun]{Status: st}
	default:
		t.Fatalf("no such fact: %s", n)
	}
}

func serviceDefaults(name string) map[string]any {
	return map[string]any{
		"namespace": "default", "name": name, "type": "ClusterIP", "clusterIPs": []any{"10.96.120.7"},
		"selector": map[string]any{"app": "square-app"}, "sessionAffinity": "None", "ipFamilies": []any{"IPv4"},
		"ports": []any{map[string]any{"name": "grpc", "protocol": "TCP", "port": 6565, "targetPort": "6565"}},
	}
}

func (sc scenario) nodes(t testing.TB) []diagnose.Node {
	if sc.Nodes == nil {
		sc.Nodes = []map[string]any{
			{"name": "n1", "zone": "a", "ips": []any{"172.20.0.1"}, "podCIDRs": []any{"10.244.1.0/24"}},
			{"name": "n2", "zone": "b", "ips": []any{"172.20.0.2"}, "podCIDRs": []any{"10.244.2.0/24"}},
		}
	}
	return buildAll[diagnose.Node](t, func(int) map[string]any { return map[string]any{} }, sc.Nodes)
}

func (sc scenario) pods(t testing.TB, svc diagnose.Service) []diagnose.Pod {
	var overrides []map[string]any
	switch p := sc.Pods.(type) {
	case nil:
		overrides = make([]map[string]any, 3)
	case float64:
		overrides = make([]map[string]any, int(p))
	case []any:
		for _, o := range p {
			overrides = append(overrides, o.(map[string]any))
		}
	default:
		t.Fatalf("pods is a %T", sc.Pods)
	}
	return buildAll[diagnose.Pod](t, func(i int) map[string]any {
		node := "n" + strconv.Itoa(1+i%2)
		return map[string]any{
			"namespace": svc.Namespace, "name": fmt.Sprintf("square-app-%d", i+1), "uid": fmt.Sprintf("uid-%d", i+1),
			"labels": map[string]any{"app": "square-app"}, "owner": map[string]any{"kind": "Deployment", "name": "square-app"},
			"node": node, "ips": []any{fmt.Sprintf("10.244.%s.%d", node[1:], 11+i)}, "phase": "Running", "ready": true,
			"created": "-2h", "started": "-2h", "readySince": "-2h",
			"containers": []any{map[string]any{
				"name": "square", "ready": true, "ports": []any{map[string]any{"name": "grpc", "port": 6565, "protocol": "TCP"}},
				"readiness": map[string]any{"kind": "grpc", "port": "6565"},
			}},
		}
	}, overrides)
}

// slices does what the EndpointSlice controller does: an endpoint for each selected pod, in slices grouped by the
// numbers that the Service's ports have in the pod; a named port that a pod lacks is left out.
func (sc scenario) slices(t testing.TB, svc diagnose.Service, pods []diagnose.Pod) []diagnose.Slice {
	if sc.Slices != nil {
		return buildAll[diagnose.Slice](t, func(i int) map[string]any {
			return map[string]any{
				"namespace": svc.Namespace, "name": fmt.Sprintf("%s-%d", svc.Name, i), "service": svc.Name, "addressType": "IPv4",
				"ports": []any{map[string]any{"name": "grpc", "port": 6565, "protocol": "TCP"}},
			}
		}, sc.Slices)
	}
	var out []diagnose.Slice
	for _, p := range pods {
		if len(svc.Selector) == 0 || p.Phase != "Running" || p.Namespace != svc.Namespace {
			continue
		}
		match := true
		for k, want := range svc.Selector {
			match = match && p.Labels[k] == want
		}
		if !match {
			continue
		}
		ports := slicePorts(svc, p)
		i := slices.IndexFunc(out, func(s diagnose.Slice) bool { return slices.Equal(s.Ports, ports) })
		if i < 0 {
			i = len(out)
			out = append(out, diagnose.Slice{
				Key:     diagnose.Key{Namespace: svc.Namespace, Name: fmt.Sprintf("%s-%d", svc.Name, i)},
				Service: svc.Name, AddressType: "IPv4", Ports: ports,
			})
		}
		out[i].Endpoints = append(out[i].Endpoints, diagnose.SliceEndpoint{
			Addresses: p.IPs[:1], Ready: svc.PublishNotReady || p.Ready && !p.Terminating, Serving: p.Ready, Terminating: p.Terminating,
			Node: p.Node, Zone: map[string]string{"n1": "a", "n2": "b"}[p.Node], Pod: p.Key,
		})
	}
	return out
}

func slicePorts(svc diagnose.Service, p diagnose.Pod) []diagnose.SlicePort {
	var out []diagnose.SlicePort
	for _, sp := range svc.Ports {
		if n, err := strconv.Atoi(sp.TargetPort); err == nil {
			out = append(out, diagnose.SlicePort{Name: sp.Name, Port: int32(n), Protocol: sp.Protocol})
			continue
		}
		for _, c := range p.Containers {
			for _, cp := range c.Ports {
				if cp.Name == sp.TargetPort && (!c.Init || c.Sidecar) {
					out = append(out, diagnose.SlicePort{Name: sp.Name, Port: cp.Port, Protocol: sp.Protocol})
				}
			}
		}
	}
	return out
}

func (sc scenario) clients(t testing.TB, s *diagnose.Snapshot) {
	workloads := []diagnose.Workload{}
	for i, o := range sc.Clients {
		ns, _ := merged(map[string]any{"namespace": "default"}, o)["namespace"].(string)
		if dial, ok := o["dial"].(string); ok {
			o["targets"] = []any{map[string]any{"token": dial}}
		}
		if ts, ok := o["targets"].([]any); ok {
			for j := range ts {
				ts[j] = merged(targetDefaults(t, ns, ts[j].(map[string]any)["token"].(string)), ts[j].(map[string]any))
			}
		}
		w := build[diagnose.Workload](t, map[string]any{"kind": "Deployment", "namespace": "default", "replicas": 1}, o)
		workloads = append(workloads, w)
		pods, _ := o["pods"].([]any)
		for j, p := range pods {
			s.Pods.Value = append(s.Pods.Value, build[diagnose.Pod](t, map[string]any{
				"namespace": w.Namespace, "name": fmt.Sprintf("%s-%d", w.Name, j+1), "phase": "Running", "ready": true, "node": "n1",
				"owner": map[string]any{"kind": w.Kind, "name": w.Name}, "ips": []any{fmt.Sprintf("10.244.1.%d", 100+20*i+j)},
				"created": "-1h", "started": "-1h", "readySince": "-1h", "mesh": o["mesh"],
			}, p.(map[string]any)))
		}
	}
	s.Workloads = diagnose.Know(workloads)
}

// targetDefaults parses a target's token roughly as the collector does.
func targetDefaults(t testing.TB, ns, token string) map[string]any {
	t.Helper()
	scheme, rest, ok := strings.Cut(token, "://")
	if !ok {
		scheme, rest = "", token
	}
	rest = strings.TrimPrefix(rest, "/")
	host, port, _ := strings.Cut(rest, ":")
	n, _ := strconv.Atoi(port)
	out := map[string]any{
		"container": "app", "source": "env", "name": "GRPC_TARGET", "scheme": scheme, "host": host, "port": n, "grpc": true,
	}
	if _, err := netip.ParseAddr(host); err == nil {
		out["kind"] = diagnose.TargetIP
		return out
	}
	labels := strings.Split(host, ".")
	if len(labels) > 1 {
		ns = labels[1]
	}
	out["kind"], out["service"] = diagnose.TargetService, map[string]any{"namespace": ns, "name": labels[0]}
	return out
}

func (sc scenario) deep(t testing.TB, s *diagnose.Snapshot) {
	if sc.DNS != nil {
		s.DNS = diagnose.Know(buildAll[diagnose.DNSAnswer](t, func(int) map[string]any {
			return map[string]any{
				"server": map[string]any{"namespace": "kube-system", "name": "coredns-1"}, "type": "A", "rcode": "NOERROR",
				"name": s.Targets[0].Name + "." + s.Targets[0].Namespace + ".svc.cluster.local.", "ttl": 30, "transport": "tcp",
			}
		}, sc.DNS))
	}
	if sc.Ports != nil {
		s.Ports = diagnose.Know(buildAll[diagnose.PortProbe](t, func(int) map[string]any { return map[string]any{"port": 6565} }, sc.Ports))
	}
	if sc.Probes != nil {
		s.Probes = diagnose.Know(buildAll[diagnose.ProbeRun](t, func(int) map[string]any {
			return map[string]any{"from": map[string]any{"namespace": "default", "name": "grpclb-probe"}, "via": "clusterip", "target": "square-service:6565"}
		}, sc.Probes))
	}
	if sc.Metrics != nil {
		s.Metrics = diagnose.Know(buildAll[diagnose.PodMetrics](t, func(int) map[string]any { return map[string]any{"namespace": "default"} }, sc.Metrics))
	}
	if sc.Sockets != nil {
		s.Sockets = diagnose.Know(sc.tables(t, s))
	}
}

func (sc scenario) tables(t testing.TB, s *diagnose.Snapshot) []diagnose.SocketTable {
	byName := map[string]diagnose.Pod{}
	for _, p := range s.Pods.Value {
		byName[p.Name] = p
	}
	out := []diagnose.SocketTable{}
	port := uint16(40000)
	for _, name := range slices.Sorted(mapKeys(sc.Sockets)) {
		p := byName[name]
		tb := diagnose.SocketTable{Pod: p.Key, At: takenAt, Source: "inet_diag", IntervalSeconds: 2}
		if sc.SocketSource != "" {
			tb.Source, tb.IntervalSeconds = sc.SocketSource, 0
		}
		for _, line := range sc.Sockets[name] {
			from, n, rate := parseConns(t, line)
			if c, ok := byName[from]; ok {
				from = c.IPs[0]
			}
			for range n {
				port++
				so := diagnose.Socket{
					Local:  netip.AddrPortFrom(netip.MustParseAddr(p.IPs[0]), 6565),
					Remote: netip.AddrPortFrom(netip.MustParseAddr(from), port), State: "ESTABLISHED",
				}
				if tb.Source == "inet_diag" {
					each := rate / float64(n)
					so.RxRate, so.TxRate = &each, new(float64)
				}
				tb.Sockets = append(tb.Sockets, so)
			}
		}
		out = append(out, tb)
	}
	return out
}

func parseConns(t testing.TB, line string) (from string, n int, rate float64) {
	t.Helper()
	n = 1
	for _, word := range strings.Fields(line) {
		var err error
		switch {
		case strings.HasPrefix(word, "x"):
			n, err = strconv.Atoi(word[1:])
		case strings.HasPrefix(word, "@"):
			rate, err = strconv.ParseFloat(word[1:], 64)
		default:
			from = word
		}
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return from, n, rate
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func buildAll[T any](t testing.TB, defaults func(i int) map[string]any, overrides []map[string]any) []T {
	t.Helper()
	out := make([]T, len(overrides))
	for i, o := range overrides {
		out[i] = build[T](t, defaults(i), o)
	}
	return out
}

// build merges an override over defaults and decodes the result strictly: a misspelt field fails the test.
func build[T any](t testing.TB, defaults, override map[string]any) T {
	t.Helper()
	m := merged(defaults, override)
	for _, short := range []string{"dial", "pods"} {
		if _, ok := defaults["replicas"]; ok {
			delete(m, short)
		}
	}
	expand(m)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&out); err != nil {
		t.Fatalf("%T: %v\n%s", out, err, b)
	}
	return out
}

// merged is RFC 7386's merge of o over d: null deletes, lists replace.
func merged(d, o map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range d {
		out[k] = v
	}
	for k, v := range o {
		dm, dok := out[k].(map[string]any)
		om, ook := v.(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case dok && ook:
			out[k] = merged(dm, om)
		default:
			out[k] = v
		}
	}
	return out
}

// expand writes short forms out: a pod by its name in default, a moment as "-5m".
func expand(m map[string]any) {
	for k, v := range m {
		switch x := v.(type) {
		case string:
			if k == "pod" {
				m[k] = map[string]any{"namespace": "default", "name": x}
			}
			if d, err := time.ParseDuration(x); err == nil && slices.Contains([]string{"created", "started", "readySince"}, k) {
				m[k] = takenAt.Add(d).Format(time.RFC3339)
			}
		case map[string]any:
			expand(x)
		case []any:
			for _, e := range x {
				if em, ok := e.(map[string]any); ok {
					expand(em)
				}
			}
		}
	}
}
