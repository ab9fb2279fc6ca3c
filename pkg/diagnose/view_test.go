package diagnose_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// TestEndpointsMergesSlices: one pod in slices of two families, one pod in two slices during an update (KEP-752), a
// hand-made address, and slices that are not this Service's.
func TestEndpointsMergesSlices(t *testing.T) {
	s := healthy(0)
	ready := func(pod, node string, ips ...string) diagnose.SliceEndpoint {
		return diagnose.SliceEndpoint{Addresses: ips, Ready: true, Serving: true, Node: node, Pod: key(pod)}
	}
	grpc := []diagnose.SlicePort{{Name: "grpc", Port: 6565}}
	stale := diagnose.SliceEndpoint{Addresses: []string{"10.0.0.2"}, Node: "n2", Pod: key("p2")}
	leaving := diagnose.SliceEndpoint{Addresses: []string{"10.0.0.3"}, Serving: true, Terminating: true, Node: "n1", Pod: key("p3")}
	gone := diagnose.SliceEndpoint{Addresses: []string{"10.0.0.4"}, Node: "n1", Pod: key("p4")}
	hand := diagnose.SliceEndpoint{Addresses: []string{"192.0.2.9"}, Ready: true, Serving: true, Zone: "c"}
	other := diagnose.Key{Namespace: "other", Name: "square-1"}
	s.Slices = diagnose.Know([]diagnose.Slice{
		{Key: key("b"), Service: "square", AddressType: "IPv6", Ports: grpc, Endpoints: []diagnose.SliceEndpoint{ready("p1", "n1", "fd00::1")}},
		{Key: key("a"), Service: "square", AddressType: "IPv4", Ports: grpc, Endpoints: []diagnose.SliceEndpoint{ready("p1", "n1", "10.0.0.1"), stale, hand, ready("p4", "n1", "10.0.0.4")}},
		{Key: key("c"), Service: "square", AddressType: "IPv4", Ports: []diagnose.SlicePort{{Name: "grpc", Port: 6565}, {Name: "metrics", Port: 9090}},
			Endpoints: []diagnose.SliceEndpoint{ready("p2", "n2", "10.0.0.2"), leaving, gone}},
		{Key: key("d"), Service: "elsewhere", AddressType: "IPv4", Endpoints: []diagnose.SliceEndpoint{ready("p8", "n1", "10.0.0.8")}},
		{Key: other, Service: "square", AddressType: "IPv4", Endpoints: []diagnose.SliceEndpoint{ready("p9", "n1", "10.0.0.9")}},
		{Key: key("e"), Service: "square", AddressType: "FQDN", Endpoints: []diagnose.SliceEndpoint{ready("p7", "n1", "example.com")}},
	})
	one, two := map[string]int32{"grpc": 6565}, map[string]int32{"grpc": 6565, "metrics": 9090}
	want := []diagnose.Endpoint{
		{IPs: []string{"192.0.2.9"}, Ports: one, Ready: true, Serving: true, Zone: "c"},
		{Pod: key("p1"), IPs: []string{"10.0.0.1", "fd00::1"}, Ports: one, Ready: true, Serving: true, Node: "n1", Zone: "a"},
		{Pod: key("p2"), IPs: []string{"10.0.0.2"}, Ports: two, Ready: true, Serving: true, Node: "n2", Zone: "b"},
		{Pod: key("p3"), IPs: []string{"10.0.0.3"}, Ports: two, Serving: true, Terminating: true, Node: "n1", Zone: "a"},
		{Pod: key("p4"), IPs: []string{"10.0.0.4"}, Ports: two, Ready: true, Serving: true, Node: "n1", Zone: "a"},
	}
	if diff := cmp.Diff(want, view(s).Endpoints()); diff != "" {
		t.Error(diff)
	}
	if got := len(view(s).Ready()); got != 4 {
		t.Errorf("%d ready endpoints", got)
	}
	if diff := cmp.Diff([]int32{6565}, view(s).TargetPorts()); diff != "" {
		t.Error(diff)
	}
}

func TestPodPorts(t *testing.T) {
	tests := map[string]struct {
		port diagnose.ServicePort
		drop bool // without endpoints
		want []int32
	}{
		"from the slices":                   {diagnose.ServicePort{Name: "grpc", Port: 80, TargetPort: "api"}, false, []int32{6565}},
		"number, no endpoints":              {diagnose.ServicePort{Name: "grpc", Port: 80, TargetPort: "8001"}, true, []int32{8001}},
		"name, no endpoints":                {diagnose.ServicePort{Name: "grpc", Port: 80, TargetPort: "api"}, true, nil},
		"no target port is the port itself": {diagnose.ServicePort{Name: "grpc", Port: 80}, true, []int32{80}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := port(healthy(2), tc.port)
			if tc.drop {
				s.Slices.Value = nil
			}
			if diff := cmp.Diff(tc.want, view(s).PodPorts(tc.port)); diff != "" {
				t.Error(diff)
			}
		})
	}
	s := healthy(1)
	s.Services.Value[0].Ports = []diagnose.ServicePort{{Port: 53, Protocol: "UDP"}, {Name: "b", Port: 2}, {Name: "a", Port: 1}, {Name: "c", Port: 1}}
	s.Slices.Value = nil
	if diff := cmp.Diff([]int32{1, 2}, view(s).TargetPorts()); diff != "" {
		t.Error(diff)
	}
}

func TestSelected(t *testing.T) {
	s := healthy(4)
	s.Pods.Value[0].Phase = "Succeeded"
	s.Pods.Value[1].Labels = map[string]string{"app": "square", "extra": "is fine"}
	s.Pods.Value[2].Namespace = "other"
	s.Pods.Value[3].Labels = map[string]string{"app": "squares"}
	s.Pods.Value = append(s.Pods.Value, diagnose.Pod{Key: key("a-late-one"), Labels: map[string]string{"app": "square"}, Phase: "Pending"})
	var got []string
	for _, p := range view(s).Selected() {
		got = append(got, p.Name)
	}
	if diff := cmp.Diff([]string{"a-late-one", "p2"}, got); diff != "" {
		t.Error(diff)
	}
	s.Services.Value[0].Selector = nil
	if got := view(s).Selected(); got != nil {
		t.Errorf("a Service without a selector selects %d pods", len(got))
	}
}

func TestTwinAndClients(t *testing.T) {
	s := healthy(2)
	sel := map[string]string{"app": "square"}
	headless := func(name string) diagnose.Service {
		return diagnose.Service{
			Key: key(name), ClusterIPs: []string{"None"}, Selector: sel, Ports: []diagnose.ServicePort{{Name: "grpc", Port: 6565, TargetPort: "6565"}},
		}
	}
	peers, raft := headless("a-peers"), headless("a-raft")
	peers.PublishNotReady = true
	raft.Ports = []diagnose.ServicePort{{Name: "raft", Port: 7000, TargetPort: "7000"}}
	if _, ok := view(s).Twin(); ok {
		t.Error("a twin out of nothing")
	}
	s.Services.Value = append(s.Services.Value, peers, raft)
	if twin, ok := view(s).Twin(); ok {
		t.Errorf("%s is no twin: it gives pods that are not ready, or another port", twin.Name)
	}
	s.Services.Value = s.Services.Value[:len(s.Services.Value)-2]
	s.Services.Value = append(s.Services.Value, headless("aaa"), headless("square-headless"), headless("zzz"),
		diagnose.Service{Key: key("plain"), ClusterIPs: []string{"10.96.0.8"}, Selector: sel},
		diagnose.Service{Key: key("wider"), ClusterIPs: []string{"None"}, Selector: map[string]string{}},
		diagnose.Service{Key: diagnose.Key{Namespace: "other", Name: "square-headless"}, ClusterIPs: []string{"None"}, Selector: sel})
	v := view(s)
	if twin, ok := v.Twin(); !ok || twin.Name != "square-headless" {
		t.Errorf("twin %v, %v", twin.Name, ok)
	}
	if n := len(v.Siblings()); n != 4 {
		t.Errorf("%d siblings", n)
	}
	s.Services.Value[0].Ports = append(s.Services.Value[0].Ports, diagnose.ServicePort{Name: "metrics", Port: 9090, TargetPort: "9090"})
	tgt := func(svc string, port int32) diagnose.Target {
		return diagnose.Target{Kind: diagnose.TargetService, Service: key(svc), Port: port, Token: svc}
	}
	s.Workloads = diagnose.Know([]diagnose.Workload{
		{Kind: "Deployment", Key: key("both"), Targets: []diagnose.Target{tgt("square", 6565), tgt("square", 9090), tgt("zzz", 6565)}},
		{Kind: "Deployment", Key: key("scraper"), Targets: []diagnose.Target{tgt("square", 9090)}},
		{Kind: "Deployment", Key: key("no-port"), Targets: []diagnose.Target{tgt("square", 0)}},
		{Kind: "Deployment", Key: key("odd-port"), Targets: []diagnose.Target{tgt("square", 1234)}},
	})
	count := func(cs []diagnose.Client) map[string]int {
		out := map[string]int{}
		for _, c := range cs {
			out[c.Workload.Name] = len(c.Targets)
		}
		return out
	}
	if diff := cmp.Diff(map[string]int{"both": 1, "no-port": 1, "odd-port": 1}, count(view(s).Clients())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"both": 1}, count(view(s).SiblingClients())); diff != "" {
		t.Error(diff)
	}
}

func TestPeer(t *testing.T) {
	s := healthy(2)
	s.Pods.Value = append(s.Pods.Value,
		diagnose.Pod{Key: key("agent"), IPs: []string{"172.20.0.2"}, HostNetwork: true, Phase: "Running"},
		diagnose.Pod{Key: key("done"), IPs: []string{"10.0.0.77"}, Phase: "Succeeded"})
	tests := map[string]struct {
		client string
		pod    string
		hidden bool
	}{
		"10.0.0.11":        {"default/p1", "p1", false},
		"::ffff:10.0.0.12": {"default/p2", "p2", false},
		"172.20.0.1":       {"node n1", "", true}, // NodePort or host network
		"172.20.0.2":       {"node n2", "", true}, // never the host-network pod that shares the address
		"10.0.0.1":         {"node n1", "", true}, // the bridge: a hairpin
		"10.0.1.1":         {"node n2", "", true},
		"10.0.0.77":        {"10.0.0.77", "", false}, // a finished pod's address may be somebody else's by now
		"203.0.113.5":      {"203.0.113.5", "", false},
	}
	v := view(s)
	for addr, want := range tests {
		client, pod, hidden := v.Peer(netip.MustParseAddr(addr))
		name := ""
		if pod != nil {
			name = pod.Name
		}
		if client != want.client || name != want.pod || hidden != want.hidden {
			t.Errorf("%s is %q, pod %q, hidden %v", addr, client, name, hidden)
		}
	}
}

func TestSmallLookUps(t *testing.T) {
	s := healthy(3)
	s.Pods.Value[1].Mesh = diagnose.Mesh{Kind: "istio", Mode: "ambient"}
	v := view(s)
	if n, kind := v.ServerMeshed(); n != 1 || kind != "istio" {
		t.Errorf("ServerMeshed() = %d, %q", n, kind)
	}
	if p := v.Pod(key("p3")); p == nil || p.Name != "p3" || v.Pod(key("p9")) != nil {
		t.Error("Pod")
	}
	if v.Zone("n2") != "b" || v.Zone("n9") != "" || v.Node("n9") != nil || v.Node("n1").Zone != "a" {
		t.Error("Zone, Node")
	}
	if _, ok := s.View(key("gone")); ok {
		t.Error("a view of a Service that is not there")
	}
	for kind, want := range map[string]string{
		"Deployment": "deploy", "StatefulSet": "sts", "DaemonSet": "ds", "ReplicaSet": "rs", "CronJob": "cj", "Job": "job", "Pod": "pod",
	} {
		if got := diagnose.ShortKind(kind); got != want {
			t.Errorf("ShortKind(%s) = %s", kind, got)
		}
	}
}
