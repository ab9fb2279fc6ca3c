//go:build e2e

package e2e

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

// What the builders below make fits together: server("backend") listens on
// port, service("backend") leads to it, client("caller", target) calls it.
// A case changes only what it is about.
const port = 6565

// server is a Deployment of the square server: two pods that are ready when
// their gRPC health is.
func server(app string, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := deployment(app, "/square-server", 2)
	c := &d.Spec.Template.Spec.Containers[0]
	c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 10, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port}}}
	return with(d, change...)
}

// client is a Deployment of the square aggregator, which calls target 50 times a second.
func client(app, target string, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := deployment(app, "/square-aggregator", 1)
	d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "GRPC_CLIENT_SQUARE_ADDRESS", Value: target},
		{Name: "GRPC_CLIENT_SQUARE_LOAD", Value: "50"},
	}
	return with(d, change...)
}

// webServer is a Deployment of something that speaks HTTP/1 on a port.
func webServer(app string, on int, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := deployment(app, "/square-aggregator", 2)
	c := &d.Spec.Template.Spec.Containers[0]
	c.Env = []corev1.EnvVar{
		{Name: "GRPC_CLIENT_SQUARE_ADDRESS", Value: "static://127.0.0.1:1"}, // nobody asks it to call
		{Name: "SERVER_PORT", Value: strconv.Itoa(on)},
	}
	c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 10, ProbeHandler: corev1.ProbeHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt(on)},
	}}
	return with(d, change...)
}

func deployment(app, program string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": app}
	soon := int64(1)
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: &soon,
					// One pod on each node, so that checks about placement have nothing to say.
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					Containers: []corev1.Container{{
						Name: app, Image: testbed.Examples.Name, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{program},
					}},
				},
			},
		},
	}
}

func with[T any](o *T, change ...func(*T)) *T {
	for _, c := range change {
		c(o)
	}
	return o
}

func replicas(n int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Replicas = &n }
}

// sidecar adds a container by which a mesh is recognised. It is no proxy: only
// what detection reads is there.
func sidecar(name string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		spec := &d.Spec.Template.Spec
		spec.Containers = append(spec.Containers, corev1.Container{
			Name: name, Image: testbed.Examples.Name, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/square-server"},
			Env: []corev1.EnvVar{{Name: "GRPC_SERVER_PORT", Value: "7777"}},
		})
	}
}

// selectedAs gives the pods another app label beside a Deployment's own name,
// so that several Deployments stand behind one Service.
func selectedAs(app string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Template.Labels["behind"] = app
	}
}

// neverReady points the readiness probe at a port that nobody opens.
func neverReady(d *appsv1.Deployment) {
	d.Spec.Template.Spec.Containers[0].ReadinessProbe.GRPC.Port = 9
}

// service is a ClusterIP Service in front of server(app).
func service(app string, change ...func(*corev1.Service)) *corev1.Service {
	grpc := "grpc"
	return with(&corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app},
			Ports:    []corev1.ServicePort{{Name: "grpc", Port: port, TargetPort: intstr.FromInt(port), AppProtocol: &grpc}},
		},
	}, change...)
}

func headless(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }

func selecting(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Selector = map[string]string{key: value} }
}

func noSelector(s *corev1.Service) { s.Spec.Selector = nil }

// plainPort makes the port one about which nothing says gRPC.
func plainPort(name string, number int) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: name, Port: int32(number), TargetPort: intstr.FromInt(number)}}
	}
}

// slice is a hand-made EndpointSlice of a Service without selector.
func slice(service string, n int, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	name, number, tcp := "grpc", int32(port), corev1.ProtocolTCP
	return &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Name:   service + "-" + strconv.Itoa(n),
			Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: ownerValue},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &tcp}},
		Endpoints:   endpoints,
	}
}

func endpoint(ip string, change ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	ready := true
	return *with(&discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}, change...)
}
