package kubetest

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Epoch is when everything was created that a builder makes.
var Epoch = time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)

func objectMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(fmt.Sprintf("uid-%s-%s", namespace, name)), CreationTimestamp: metav1.NewTime(Epoch),
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubetest", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1"}},
	}
}

// address makes an address out of a name: the same for the same name, so that tests are repeatable.
func address(prefix byte, parts ...string) string {
	h := fnv.New32a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p + "/"))
	}
	n := h.Sum32()
	return netip.AddrFrom4([4]byte{prefix, byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

// ServiceBuilder makes a Service; see Service.
type ServiceBuilder struct{ *corev1.Service }

// Service makes a ClusterIP Service that selects app=NAME and has the port grpc 50051.
func Service(namespace, name string) ServiceBuilder {
	ip := address(172, namespace, name)
	s := &corev1.Service{ObjectMeta: objectMeta(namespace, name), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"app": name},
		SessionAffinity: corev1.ServiceAffinityNone, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
	}}
	return ServiceBuilder{s}.Port("grpc", 50051, intstr.FromInt32(50051))
}

// Unwrap returns the object itself.
func (b ServiceBuilder) Unwrap() []runtime.Object { return []runtime.Object{b.Service} }

// Port replaces the ports by one; target is a number or a container port's name.
func (b ServiceBuilder) Port(name string, port int32, target intstr.IntOrString) ServiceBuilder {
	b.Spec.Ports = nil
	return b.AndPort(name, port, target)
}

// AndPort adds a port.
func (b ServiceBuilder) AndPort(name string, port int32, target intstr.IntOrString) ServiceBuilder {
	b.Spec.Ports = append(b.Spec.Ports, corev1.ServicePort{Name: name, Protocol: corev1.ProtocolTCP, Port: port, TargetPort: target})
	return b
}

// AppProtocol sets it on all ports.
func (b ServiceBuilder) AppProtocol(p string) ServiceBuilder {
	for i := range b.Spec.Ports {
		b.Spec.Ports[i].AppProtocol = &p
	}
	return b
}

// Selects replaces the selector by one label.
func (b ServiceBuilder) Selects(key, value string) ServiceBuilder {
	b.Spec.Selector = map[string]string{key: value}
	return b
}

// Headless takes the cluster IP away.
func (b ServiceBuilder) Headless() ServiceBuilder {
	b.Spec.ClusterIP, b.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
	return b
}

// Label sets a label of the Service.
func (b ServiceBuilder) Label(key, value string) ServiceBuilder {
	b.Labels = with(b.Labels, key, value)
	return b
}

// Annotate sets an annotation.
func (b ServiceBuilder) Annotate(key, value string) ServiceBuilder {
	b.Annotations = with(b.Annotations, key, value)
	return b
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// Slice makes the Service's EndpointSlice of the pods: their addresses, readiness and nodes, and the ports as those pods serve them.
// It does not look at the selector.
func (b ServiceBuilder) Slice(pods ...PodBuilder) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: objectMeta(b.Namespace, b.Name+"-slice"), AddressType: discoveryv1.AddressTypeIPv4}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: b.Name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"}
	for _, p := range b.Spec.Ports {
		number := p.TargetPort.IntVal
		if p.TargetPort.Type == intstr.String {
			for _, pod := range pods {
				number = max(number, pod.namedPort(p.TargetPort.StrVal))
			}
		}
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Port: &number, Protocol: new(p.Protocol), AppProtocol: p.AppProtocol})
	}
	for _, p := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.Status.PodIP}, NodeName: new(p.Spec.NodeName),
			Conditions: discoveryv1.EndpointConditions{Ready: new(p.ready()), Serving: new(p.ready()), Terminating: new(p.DeletionTimestamp != nil)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		})
	}
	return s
}

// NodeBuilder makes a Node; see Node.
type NodeBuilder struct{ *corev1.Node }

// Node makes a node in zone a.
func Node(name string) NodeBuilder {
	n := &corev1.Node{ObjectMeta: objectMeta("", name)}
	n.Labels = map[string]string{corev1.LabelHostname: name}
	n.Spec.PodCIDR = "10.1.0.0/24"
	n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address(192, name)}, {Type: corev1.NodeHostName, Address: name}}
	return NodeBuilder{n}.Zone("a")
}

// Unwrap returns the object itself.
func (b NodeBuilder) Unwrap() []runtime.Object { return []runtime.Object{b.Node} }

// Zone sets the zone label.
func (b NodeBuilder) Zone(z string) NodeBuilder {
	b.Labels[corev1.LabelTopologyZone] = z
	return b
}

// ConfigMap makes a ConfigMap with one key.
func ConfigMap(namespace, name, key, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: objectMeta(namespace, name), Data: map[string]string{key: value}}
}

// PodMetrics makes a sample of one container, with the CPU as a quantity ("250m").
func PodMetrics(namespace, name, cpu string) *metricsv1beta1.PodMetrics {
	return &metricsv1beta1.PodMetrics{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Timestamp: metav1.NewTime(Epoch), Window: metav1.Duration{Duration: 10 * time.Second},
		Containers: []metricsv1beta1.ContainerMetrics{{Name: "app", Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}},
	}
}
