//go:build e2e

package e2e

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func endpointFaults() []fault {
	const backend = "svc/backend"
	return []fault{
		{
			check: "clusterip-pinned", args: static,
			objects: []any{server("backend"), service("backend"), client("caller", "static://backend:6565")},
			want: finding{diagnose.Critical, diagnose.Configured, backend,
				[]string{"each connection of deploy/caller stays on 1 of 2 ready pods", "dials static://backend:6565"}, "headless"},
		},
		{
			check: "clusterip-pinned", name: "clusterip-pinned observed", args: []string{"--sockets", "--interval", "2s"},
			objects: []any{server("backend"), service("backend"), client("caller", "static://backend:6565")},
			want: finding{diagnose.Critical, diagnose.Observed, backend,
				[]string{"its 1 connection ends on backend-", "the busiest of 2 ready pods got 100 %"}, "headless"},
			within: time.Minute, // the aggregator connects with its first calls
		},
		{
			check: "headless-port-mismatch", args: static,
			objects: []any{
				server("backend"), client("caller", "dns:///backend:80"),
				service("backend", headless, func(s *corev1.Service) { s.Spec.Ports[0].Port = 80 }),
			},
			want: finding{diagnose.Critical, diagnose.Configured, backend,
				[]string{"port 80 of this headless Service leads nowhere", "deploy/caller dials dns:///backend:80"}, "dial the pods' port, 6565"},
		},
		{
			check: "selector-matches-nothing", args: static,
			objects: []any{server("backend"), service("backend", selecting("app", "backnd"))},
			want:    finding{diagnose.Critical, diagnose.Configured, backend, []string{"app=backnd", "deploy/backend"}, "selector"},
		},
		{
			check: "named-port-missing", args: static,
			objects: []any{
				server("backend", selectedAs("backend"), func(d *appsv1.Deployment) {
					d.Spec.Template.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "rpc", ContainerPort: port}}
				}),
				server("nameless", selectedAs("backend")),
				service("backend", selecting("behind", "backend"), func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("rpc") }),
			},
			want: finding{diagnose.High, diagnose.Configured, backend,
				[]string{"2 of 4 selected pods declare no port named rpc", "2 pods of deploy/nameless"}, "port"},
		},
		{
			check: "no-ready-endpoints", args: static,
			objects: []any{server("backend", neverReady), service("backend")}, broken: []string{"backend"},
			want: finding{diagnose.Critical, diagnose.Configured, backend,
				[]string{"none of the 2 pods behind the Service is ready", "has a readiness probe of kind grpc"}, "see why"},
			within: 3 * time.Minute, // in their first minute pods may just be starting
		},
		{
			check: "not-ready-published", args: observe,
			objects: []any{
				server("backend", selectedAs("backend")), server("unwell", selectedAs("backend"), neverReady, replicas(1)),
				service("backend", headless, selecting("behind", "backend"), func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }),
			},
			broken: []string{"unwell"}, then: func(s *space, _ *fault) { s.endpoints("backend", 3) },
			want: finding{diagnose.High, diagnose.Observed, backend,
				[]string{"1 of 3 pods is not ready and gets calls all the same", "unwell-", "DNS hands out"}, "publish only ready pods"},
			within: time.Minute, // until the slice says that the pod is not serving, and DNS has it
		},
		{
			check: "session-affinity", args: static,
			objects: []any{server("backend"), service("backend", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })},
			want:    finding{diagnose.High, diagnose.Configured, backend, []string{"sessionAffinity is ClientIP for 3 h", "10800 s"}, "turn the affinity off"},
		},
		{
			check: "single-endpoint", args: static,
			objects: []any{server("backend", replicas(1)), service("backend")},
			want:    finding{diagnose.Info, diagnose.Configured, "deploy/backend", []string{"one pod is ready", "only ready endpoint of 1"}, "run more than one pod"},
		},
		{
			check: "pods-on-one-node", args: static,
			objects: []any{service("backend")}, then: onOneNode,
			want: finding{diagnose.Info, diagnose.Configured, "deploy/backend", []string{"all 2 ready pods run on node "}, "spread the pods"},
		},
		{
			check: "pods-on-one-zone", args: static,
			objects: []any{service("backend", noSelector)}, then: inOneZone,
			want: finding{diagnose.Info, diagnose.Configured, backend, []string{"all 2 ready pods run in zone "}, ""},
		},
	}
}

// nodes lists the nodes that pods can run on; a test that needs two is skipped without.
func (s *space) nodes() []corev1.Node {
	s.Helper()
	list, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	if len(list.Items) < 2 {
		s.Skip("the cluster has one node")
	}
	return list.Items
}

func onOneNode(s *space, _ *fault) {
	node := s.nodes()[0].Labels[corev1.LabelHostname]
	s.apply(server("backend", func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	}))
	s.rollout("backend")
}

// inOneZone writes the slice by hand: a cluster with two nodes in one zone and
// a third in another would be needed otherwise.
func inOneZone(s *space, _ *fault) {
	nodes := s.nodes()
	zones := map[string]bool{}
	for _, n := range nodes {
		zones[n.Labels[corev1.LabelTopologyZone]] = true
	}
	if len(zones) < 2 {
		s.Skip("the cluster has one zone")
	}
	zone := nodes[0].Labels[corev1.LabelTopologyZone]
	place := func(n corev1.Node) func(*discoveryv1.Endpoint) {
		return func(e *discoveryv1.Endpoint) { e.NodeName, e.Zone = &n.Name, &zone }
	}
	s.apply(slice("backend", 0, endpoint("192.0.2.1", place(nodes[0])), endpoint("192.0.2.2", place(nodes[1]))))
	s.endpoints("backend", 2)
}

// manyEndpoints makes slices of a hundred addresses each, as the controller would.
func manyEndpoints(service string, n int) []any {
	const perSlice = 100
	var out []any
	for i := 0; i < n; i += perSlice {
		var es []discoveryv1.Endpoint
		for j := i; j < min(i+perSlice, n); j++ {
			es = append(es, endpoint(fmt.Sprintf("198.18.%d.%d", j/250, 1+j%250)))
		}
		out = append(out, slice(service, i/perSlice, es...))
	}
	return out
}
