package main

import (
	"fmt"
	"net/netip"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/bench/faults/internal/load"
)

const (
	image       = "grpclb.dev/faults:dev"
	controlPort = 9090

	backendName = "backend"
	manyName    = "many"
	clientName  = "client"

	// clientNode is where all clients run, so that a fault on the other node hits the way of all of them alike.
	clientNode, faultyNode = "n1", "n2"

	// preStop is how long a pod takes calls after it was told to end, more than the 5 s between two DNS questions.
	preStop = 8
)

func labels(app string) map[string]string { return map[string]string{"app": app} }

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Labels: labels(name)} }

// headless is a Service that the clients call.
func headless(name string, selector map[string]string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, Selector: selector,
		Ports: []corev1.ServicePort{{Name: load.PortName, Port: load.Port, TargetPort: intstr.FromInt32(load.Port)}},
	}}
}

// virtual is the Service with a ClusterIP in front of the same pods.
func virtual(name string) *corev1.Service {
	s := headless(name, labels(name))
	s.Name, s.Spec.ClusterIP = load.Through(name), ""
	return s
}

func deployment(name string, replicas int32, pod corev1.PodSpec) *appsv1.Deployment {
	if pod.TerminationGracePeriodSeconds == nil {
		pod.TerminationGracePeriodSeconds = new(int64(1))
	}
	pod.EnableServiceLinks = new(false)
	d := &appsv1.Deployment{ObjectMeta: meta(name)}
	d.Spec.Replicas = &replicas
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels(name)}
	d.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(name)}, Spec: pod}
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromInt32(0))}
	return d
}

// backends is the Deployment that faults happen to: a readiness probe each second, a preStop sleep, pods on both nodes.
func backends() *appsv1.Deployment {
	d := deployment(backendName, 0, corev1.PodSpec{
		AutomountServiceAccountToken:  new(false),
		TerminationGracePeriodSeconds: new(int64(preStop + 12)),
		// A rollout keeps them apart as well: all pods of a label would count, so the template's hash has to match.
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: labels(backendName)}, MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey},
		}},
		Containers: []corev1.Container{server()},
	})
	c := &d.Spec.Template.Spec.Containers[0]
	c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: preStop}}}
	return d
}

// share gives a container its part of a busy machine: without a request it gets what everybody else leaves, and calls are late for that
// reason alone.
func share(cpu string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
}

func server(args ...string) corev1.Container {
	return corev1.Container{
		Name: "server", Image: image, ImagePullPolicy: corev1.PullNever, Command: append([]string{"/faults", "backend"}, args...),
		Ports:     []corev1.ContainerPort{{Name: load.PortName, ContainerPort: load.Port}},
		Resources: share("100m"),
		ReadinessProbe: &corev1.Probe{
			PeriodSeconds: 1, FailureThreshold: 3, TimeoutSeconds: 1,
			ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: load.Port}},
		},
	}
}

// manyRange holds the addresses of one pod that stands for many: of RFC 2544, for benchmarks, routed by the lab's nodes for as long as the
// scenario lasts.
var manyRange = netip.MustParsePrefix("198.18.0.0/22")

// manyBackend is the pod at all those addresses.
func manyBackend() *appsv1.Deployment {
	c := server("-local", manyRange.String())
	c.SecurityContext = &corev1.SecurityContext{
		RunAsUser: new(int64(0)), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}},
	}
	return deployment(manyName, 1, corev1.PodSpec{
		AutomountServiceAccountToken: new(false), NodeSelector: map[string]string{corev1.LabelHostname: faultyNode}, Containers: []corev1.Container{c},
	})
}

// manySlice is the i-th EndpointSlice of 100 addresses, as the controller fills them.
func manySlice(i int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Name:   fmt.Sprintf("%s-%d", manyName, i),
		Labels: map[string]string{discoveryv1.LabelServiceName: manyName, discoveryv1.LabelManagedBy: "bench.grpclb.dev"},
	}}
	s.AddressType = discoveryv1.AddressTypeIPv4
	s.Ports = []discoveryv1.EndpointPort{{Name: new(load.PortName), Port: new(int32(load.Port)), Protocol: new(corev1.ProtocolTCP)}}
	for _, a := range manyAddresses(i) {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, NodeName: new(faultyNode),
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
		})
	}
	return s
}

func manyAddresses(slice int) []string {
	out := make([]string, 100)
	for i := range out {
		out[i] = fmt.Sprintf("198.18.%d.%d", slice, i+1)
	}
	return out
}

// slug is a variant's name as a label.
func slug(v load.Variant) string {
	out := []rune(clientName + "-")
	for _, r := range strings.ToLower(v.Name) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			r = '-'
		}
		out = append(out, r)
	}
	return string(out)
}

// client is the pod of one variant. It asks our own CoreDNS.
func client(v load.Variant, namespace, nameserver string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta(slug(v))}
	p.Labels = map[string]string{"app": clientName}
	p.Spec = corev1.PodSpec{
		ServiceAccountName: clientName, EnableServiceLinks: new(false), TerminationGracePeriodSeconds: new(int64(1)),
		NodeSelector: map[string]string{corev1.LabelHostname: clientNode},
		DNSPolicy:    corev1.DNSNone,
		DNSConfig: &corev1.PodDNSConfig{
			Nameservers: []string{nameserver},
			Searches:    []string{namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"},
			Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("5")}},
		},
		Containers: []corev1.Container{{
			Name: "client", Image: image, ImagePullPolicy: corev1.PullNever, Command: []string{"/faults", "client", "-variant", v.Name},
			Resources:      share("200m"),
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(controlPort)}}},
		}},
	}
	if v.Sidecar {
		throughSidecar(&p.Spec, namespace)
	}
	return p
}

// throughSidecar gives a pod the daemon, which stands in for both Services with a ClusterIP, each at a loopback address of its own.
func throughSidecar(pod *corev1.PodSpec, namespace string) {
	c := corev1.Container{
		Name: "grpclb-refresher", Image: "grpclb.dev/grpclb-refresher:dev", ImagePullPolicy: corev1.PullNever, RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
		Args: []string{"sidecar"}, Resources: share("200m"),
		// Not /readyz: there are no pods yet when the clients start.
		StartupProbe: &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 60, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(15650)},
		}},
	}
	for i, service := range []string{backendName, manyName} {
		ip := fmt.Sprintf("127.0.0.%d", 10+i)
		c.Args = append(c.Args, "--listen", fmt.Sprintf("%s:%d", ip, load.Port), "--target", fmt.Sprintf("%s.%s.svc.cluster.local:%d", service, namespace, load.Port))
		name := load.Through(service)
		full := name + "." + namespace
		pod.HostAliases = append(pod.HostAliases, corev1.HostAlias{IP: ip, Hostnames: []string{name, full, full + ".svc", full + ".svc.cluster.local"}})
	}
	pod.InitContainers = append(pod.InitContainers, c)
}

// clientRole is what a client that watches EndpointSlices needs.
func clientRole() *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: meta(clientName), Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"get"}},
	}}
}

func account(name, namespace string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: namespace}
}
