package diagnose

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func compareStrings(a, b string) int { return cmp.Compare(a, b) }

// View is one Service inside a snapshot, with the look-ups that checks share. It is read-only and safe for
// concurrent use once made.
type View struct {
	*Snapshot
	Service Service

	endpoints []Endpoint
	pods      map[Key]*Pod
	podByIP   map[string]*Pod
	nodes     map[string]*Node
	siblings  []Service
}

// View returns the Service k with its look-ups prepared; false when the snapshot does not hold it.
func (s *Snapshot) View(k Key) (*View, bool) {
	i := slices.IndexFunc(s.Services.Value, func(x Service) bool { return x.Key == k })
	if i < 0 {
		return nil, false
	}
	v := &View{Snapshot: s, Service: s.Services.Value[i], pods: map[Key]*Pod{}, podByIP: map[string]*Pod{}, nodes: map[string]*Node{}}
	for i := range s.Pods.Value {
		p := &s.Pods.Value[i]
		v.pods[p.Key] = p
		if p.HostNetwork || p.Phase == "Succeeded" || p.Phase == "Failed" {
			continue // the address is the node's, or may already be another pod's
		}
		for _, ip := range p.IPs {
			v.podByIP[ip] = p
		}
	}
	for i := range s.Nodes.Value {
		v.nodes[s.Nodes.Value[i].Name] = &s.Nodes.Value[i]
	}
	for _, o := range s.Services.Value {
		if o.Key != k && o.Namespace == k.Namespace && len(o.Selector) > 0 && maps.Equal(o.Selector, v.Service.Selector) {
			v.siblings = append(v.siblings, o)
		}
	}
	v.endpoints = v.merge()
	return v, true
}

// Endpoint is one pod (or one hand-made address) behind the Service, merged over all its slices and families.
type Endpoint struct {
	Pod         Key              `json:"pod,omitzero"`
	IPs         []string         `json:"ips"`   // sorted, IPv4 and IPv6
	Ports       map[string]int32 `json:"ports"` // Service port name -> number in this pod
	Ready       bool             `json:"ready"`
	Serving     bool             `json:"serving"`
	Terminating bool             `json:"terminating,omitempty"`
	Node        string           `json:"node,omitempty"`
	Zone        string           `json:"zone,omitempty"`
}

// Endpoints returns every endpoint of the Service in a stable order. EndpointSlices are merged (a Service may have
// many, and an endpoint may stand in two of them during an update; KEP-752).
func (v *View) Endpoints() []Endpoint { return v.endpoints }

// Ready returns the endpoints that get traffic.
func (v *View) Ready() []Endpoint {
	var out []Endpoint
	for _, e := range v.endpoints {
		if e.Ready {
			out = append(out, e)
		}
	}
	return out
}

// NotReadyPublished returns the endpoints among Ready that only the Service's publishNotReadyAddresses puts there: it makes every endpoint's
// ready condition true, while serving, and the pod itself, tell the truth (KEP-1672).
func (v *View) NotReadyPublished() []Endpoint {
	var out []Endpoint
	for _, e := range v.endpoints {
		if e.Ready && !v.readyItself(e) {
			out = append(out, e)
		}
	}
	return out
}

// readyItself reports whether an endpoint is ready, and not only published as if it were.
func (v *View) readyItself(e Endpoint) bool {
	if !e.Ready || !v.Service.PublishNotReady {
		return e.Ready
	}
	p := v.Pod(e.Pod)
	return e.Serving && (p == nil || p.Ready)
}

func (v *View) merge() []Endpoint {
	byID := map[string]*Endpoint{}
	for _, sl := range v.Slices.Value {
		if sl.Namespace != v.Service.Namespace || sl.Service != v.Service.Name || sl.AddressType == "FQDN" {
			continue
		}
		for _, se := range sl.Endpoints {
			id := se.Pod.String()
			if se.Pod == (Key{}) {
				id = strings.Join(se.Addresses, ",")
			}
			e := byID[id]
			if e == nil {
				e = &Endpoint{Pod: se.Pod, Node: se.Node, Zone: se.Zone, Ports: map[string]int32{}}
				byID[id] = e
			}
			e.Ready = e.Ready || se.Ready
			e.Serving = e.Serving || se.Serving
			e.Terminating = e.Terminating || se.Terminating
			e.IPs = append(e.IPs, se.Addresses...)
			for _, p := range sl.Ports {
				e.Ports[p.Name] = p.Port
			}
		}
	}
	out := make([]Endpoint, 0, len(byID))
	for _, e := range byID {
		slices.Sort(e.IPs)
		e.IPs = slices.Compact(e.IPs)
		if n := v.nodes[e.Node]; n != nil && e.Zone == "" {
			e.Zone = n.Zone
		}
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		return cmp.Or(a.Pod.Compare(b.Pod), slices.Compare(a.IPs, b.IPs))
	})
	return out
}

// Pod returns the pod of that name, or nil.
func (v *View) Pod(k Key) *Pod { return v.pods[k] }

// PodByIP returns the pod that has the address, or nil; pods on the host's network have none of their own.
func (v *View) PodByIP(ip string) *Pod { return v.podByIP[ip] }

// Node returns the node of that name, or nil.
func (v *View) Node(name string) *Node { return v.nodes[name] }

// Zone returns the zone of a node, empty when unknown.
func (v *View) Zone(node string) string {
	if n := v.nodes[node]; n != nil {
		return n.Zone
	}
	return ""
}

// Selected returns the pods that the Service's selector matches, by name, finished pods left out. A Service without a
// selector selects nothing.
func (v *View) Selected() []*Pod {
	if len(v.Service.Selector) == 0 {
		return nil
	}
	var out []*Pod
	for i := range v.Pods.Value {
		p := &v.Pods.Value[i]
		if p.Namespace == v.Service.Namespace && p.Phase != "Succeeded" && p.Phase != "Failed" && matches(v.Service.Selector, p.Labels) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *Pod) int { return a.Key.Compare(b.Key) }) // an API server promises no order
	return out
}

func matches(selector, labels map[string]string) bool {
	for k, want := range selector {
		if got, ok := labels[k]; !ok || got != want {
			return false
		}
	}
	return true
}

// Siblings returns the other Services of the namespace with the same selector: the headless twin, or the ClusterIP
// one that a headless Service stands beside.
func (v *View) Siblings() []Service { return v.siblings }

// Twin returns a headless sibling that clients may dial instead: it leads to a gRPC port of this Service and gives only ready pods (the
// governing Service of a StatefulSet often does neither). The one named NAME-headless comes first.
func (v *View) Twin() (Service, bool) {
	var found *Service
	for i := range v.siblings {
		s := &v.siblings[i]
		if !s.Headless() || s.PublishNotReady || !v.samePort(*s) {
			continue
		}
		if found == nil || s.Name == v.Service.Name+"-headless" {
			found = s
		}
	}
	if found == nil {
		return Service{}, false
	}
	return *found, true
}

// samePort reports whether a sibling leads to a pods' port that this Service leads to.
func (v *View) samePort(o Service) bool {
	for _, mine := range v.Service.Ports {
		if v.judge(mine, false).Level == GRPCNo {
			continue
		}
		for _, its := range o.Ports {
			if its.Protocol != "" && its.Protocol != "TCP" {
				continue
			}
			n, err := strconv.ParseInt(its.TargetPort, 10, 32)
			if its.TargetPort == mine.TargetPort && its.TargetPort != "" || err == nil && slices.Contains(v.PodPorts(mine), int32(n)) ||
				slices.Contains(v.PodPorts(mine), its.Port) {
				return true
			}
		}
	}
	return false
}

// Client is a workload with those of its targets that name the Service.
type Client struct {
	Workload Workload
	Targets  []Target
}

// Clients returns the workloads in reach that name this Service.
func (v *View) Clients() []Client {
	return v.clientsOf(func(t Target) bool { return t.Service == v.Service.Key })
}

// SiblingClients returns the workloads that reach the same pods through a sibling.
func (v *View) SiblingClients() []Client {
	return v.clientsOf(func(t Target) bool {
		return slices.ContainsFunc(v.siblings, func(s Service) bool { return s.Key == t.Service })
	})
}

func (v *View) clientsOf(want func(Target) bool) []Client {
	var out []Client
	for _, w := range v.Workloads.Value {
		var ts []Target
		for _, t := range w.Targets {
			if want(t) && v.relevantPort(t) {
				ts = append(ts, t)
			}
		}
		if len(ts) > 0 {
			out = append(out, Client{Workload: w, Targets: ts})
		}
	}
	return out
}

// relevantPort leaves out targets that are no gRPC client's: URLs and schemes of other protocols, and those that name a port of the
// Service which is judged not to speak gRPC (its metrics port, say).
func (v *View) relevantPort(t Target) bool {
	if !t.MayBeGRPC() {
		return false
	}
	port := t.EffectivePort()
	if port == 0 {
		return true
	}
	for _, p := range v.Service.Ports {
		if p.Port != port {
			continue
		}
		j := v.judge(p, false)
		return j.Level != GRPCNo || t.GRPC && declaredNothing(p)
	}
	return true
}

// declaredNothing reports whether a port's own words leave gRPC possible.
func declaredNothing(p ServicePort) bool {
	lvl, _ := declared(p)
	return lvl != GRPCNo
}

// TargetPorts returns the numbers on which the pods serve the Service's TCP ports, sorted, without repeats: from the
// slices, or from numeric target ports when there are none.
func (v *View) TargetPorts() []int32 {
	var out []int32
	for _, p := range v.Service.Ports {
		if p.Protocol != "" && p.Protocol != "TCP" {
			continue
		}
		out = append(out, v.PodPorts(p)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// PodPorts returns the numbers on which the pods serve one port of the Service.
func (v *View) PodPorts(p ServicePort) []int32 {
	var out []int32
	for _, e := range v.endpoints {
		if n := e.Ports[p.Name]; n != 0 {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		if n, err := strconv.ParseInt(p.TargetPort, 10, 32); err == nil && n > 0 {
			out = append(out, int32(n))
		} else if p.TargetPort == "" || p.TargetPort == "0" {
			out = append(out, p.Port)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Peer classifies the remote side of a server's socket.
func (v *View) Peer(a netip.Addr) (client string, pod *Pod, hidden bool) {
	a = a.Unmap()
	if p := v.podByIP[a.String()]; p != nil {
		return p.Key.String(), p, false
	}
	for _, n := range v.Nodes.Value {
		if slices.Contains(n.IPs, a.String()) {
			return "node " + n.Name, nil, true
		}
		for _, c := range n.CIDRs {
			if pre, err := netip.ParsePrefix(c); err == nil && pre.Masked().Addr().Next() == a {
				return "node " + n.Name, nil, true
			}
		}
	}
	return a.String(), nil, false
}

// ServerMeshed says how many of the Service's ready pods have a mesh in their path, and which one.
func (v *View) ServerMeshed() (n int, kind string) {
	for _, e := range v.Ready() {
		if p := v.pods[e.Pod]; p != nil && p.Mesh.In() {
			n++
			kind = p.Mesh.Kind
		}
	}
	return n, kind
}

// ShortKind returns kubectl's short name of a kind: Deployment is deploy.
func ShortKind(kind string) string {
	switch kind {
	case "Deployment":
		return "deploy"
	case "StatefulSet":
		return "sts"
	case "DaemonSet":
		return "ds"
	case "ReplicaSet":
		return "rs"
	case "CronJob":
		return "cj"
	}
	return strings.ToLower(kind)
}

// ClientsUnseen says why clients may have been missed: workloads that could not be listed, or a ConfigMap of theirs that could not be
// read; empty when all in reach were seen.
func (v *View) ClientsUnseen() string {
	if !v.Workloads.Known() {
		return cmp.Or(v.Workloads.Reason, "nobody looked")
	}
	for _, g := range v.Gaps {
		if g.State != NotAsked && (g.Fact == FactWorkloads || g.Fact == FactConfigMaps) {
			return g.Reason
		}
	}
	return ""
}
