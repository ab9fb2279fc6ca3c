package diagnose_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

var moment = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func key(name string) diagnose.Key { return diagnose.Key{Namespace: "default", Name: name} }

// healthy returns a snapshot that is in order: svc/square, a gRPC Service with a cluster IP, and n ready pods p1..pn at
// 10.0.0.1..n on nodes n1 and n2, all of whose API objects are known. Tests change what they are about.
func healthy(n int) *diagnose.Snapshot {
	s := &diagnose.Snapshot{
		APIVersion: diagnose.APIVersion, Kind: diagnose.SnapshotKind, TakenAt: moment, Depth: "static", Targets: []diagnose.Key{key("square")},
		Services: diagnose.Know([]diagnose.Service{{
			Key: key("square"), Type: "ClusterIP", ClusterIPs: []string{"10.96.0.7"}, Selector: map[string]string{"app": "square"},
			Ports: []diagnose.ServicePort{{Name: "grpc", Protocol: "TCP", Port: 6565, TargetPort: "6565"}},
		}}),
		Nodes: diagnose.Know([]diagnose.Node{
			{Name: "n1", Zone: "a", IPs: []string{"172.20.0.1"}, CIDRs: []string{"10.0.0.0/24"}},
			{Name: "n2", Zone: "b", IPs: []string{"172.20.0.2"}, CIDRs: []string{"10.0.1.0/24"}},
		}),
		Workloads: diagnose.Know([]diagnose.Workload{}), ConfigMaps: diagnose.Know([]diagnose.Key{}),
	}
	slice := diagnose.Slice{
		Key: key("square-1"), Service: "square", AddressType: "IPv4", Ports: []diagnose.SlicePort{{Name: "grpc", Port: 6565, Protocol: "TCP"}},
	}
	pods := []diagnose.Pod{}
	for i := 1; i <= n; i++ {
		node := fmt.Sprintf("n%d", 2-i%2)
		p := diagnose.Pod{
			Key: key(fmt.Sprintf("p%d", i)), Labels: map[string]string{"app": "square"}, Owner: diagnose.Owner{Kind: "Deployment", Name: "square"},
			Node: node, IPs: []string{fmt.Sprintf("10.0.0.%d", i+10)}, Phase: "Running", Ready: true,
			Containers: []diagnose.Container{{Name: "app", Ports: []diagnose.ContainerPort{{Name: "api", Port: 6565, Protocol: "TCP"}}}},
		}
		pods = append(pods, p)
		slice.Endpoints = append(slice.Endpoints, diagnose.SliceEndpoint{Addresses: p.IPs, Ready: true, Serving: true, Node: node, Pod: p.Key})
	}
	s.Pods = diagnose.Know(pods)
	s.Slices = diagnose.Know([]diagnose.Slice{slice})
	return s
}

// port replaces the Service's only port.
func port(s *diagnose.Snapshot, p diagnose.ServicePort) *diagnose.Snapshot {
	s.Services.Value[0].Ports = []diagnose.ServicePort{p}
	return s
}

// conn is one established connection to the Service's port with a rate in each direction.
func conn(from string, bytesPerSecond float64) diagnose.Socket {
	half := bytesPerSecond / 2
	return diagnose.Socket{
		Local: netip.MustParseAddrPort("10.0.0.1:6565"), Remote: netip.MustParseAddrPort(from), State: "ESTABLISHED", RxRate: &half, TxRate: &half,
	}
}

func table(pod string, sockets ...diagnose.Socket) diagnose.SocketTable {
	return diagnose.SocketTable{Pod: key(pod), At: moment, Source: "inet_diag", IntervalSeconds: 2, Sockets: sockets}
}

func view(s *diagnose.Snapshot) *diagnose.View {
	v, ok := s.View(s.Targets[0])
	if !ok {
		panic("the builder's snapshot lacks its target")
	}
	return v
}
