package collect

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func keyOf(o *metav1.ObjectMeta) diagnose.Key {
	return diagnose.Key{Namespace: o.Namespace, Name: o.Name}
}

// Service projects a Service as a run does: for those that come from a file.
func Service(s *corev1.Service) diagnose.Service { return projectService(s) }

func projectService(s *corev1.Service) diagnose.Service {
	out := diagnose.Service{
		Key: keyOf(&s.ObjectMeta), UID: string(s.UID), Created: s.CreationTimestamp.UTC(),
		Type: string(s.Spec.Type), ClusterIPs: s.Spec.ClusterIPs, Selector: s.Spec.Selector,
		SessionAffinity: string(s.Spec.SessionAffinity), PublishNotReady: s.Spec.PublishNotReadyAddresses,
		Terminating: s.DeletionTimestamp != nil,
		Ours:        s.Labels[diagnose.ManagedByLabel] == diagnose.ManagedBy, Ignore: ignored(s.Annotations[diagnose.IgnoreAnnotation]),
	}
	if len(out.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		out.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		out.ExternalName, out.ClusterIPs = s.Spec.ExternalName, nil
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		out.AffinitySeconds = *c.ClientIP.TimeoutSeconds
	}
	for _, f := range s.Spec.IPFamilies {
		out.IPFamilies = append(out.IPFamilies, string(f))
	}
	for _, p := range s.Spec.Ports {
		sp := diagnose.ServicePort{Name: p.Name, Protocol: string(p.Protocol), Port: p.Port, TargetPort: p.TargetPort.String()}
		if p.AppProtocol != nil {
			sp.AppProtocol = *p.AppProtocol
		}
		out.Ports = append(out.Ports, sp)
	}
	return out
}

var checkID = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

const maxReason = 200

// ignored reads the annotation: "check-id: reason" entries, one a line or separated by commas or semicolons. A comma inside a reason
// stays there unless what follows it looks like the next entry.
func ignored(v string) map[string]string {
	if v == "" {
		return nil
	}
	out := map[string]string{}
	for line := range strings.SplitSeq(v, "\n") {
		last := ""
		for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' }) {
			id, reason, colon := strings.Cut(strings.TrimSpace(part), ":")
			id = strings.TrimSpace(id)
			switch {
			case checkID.MatchString(id) && (colon || last == "" || out[last] == ""):
				last = id
				out[id] = clip(strings.TrimSpace(reason))
			case last != "":
				out[last] = clip(out[last] + ", " + strings.TrimSpace(part))
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func clip(s string) string {
	r := []rune(s)
	return string(r[:min(len(r), maxReason)])
}

func projectSlice(s *discoveryv1.EndpointSlice) diagnose.Slice {
	out := diagnose.Slice{Key: keyOf(&s.ObjectMeta), Service: s.Labels[discoveryv1.LabelServiceName], AddressType: string(s.AddressType)}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, diagnose.SlicePort{Name: deref(p.Name), Port: deref(p.Port), Protocol: string(deref(p.Protocol))})
	}
	for _, e := range s.Endpoints {
		se := diagnose.SliceEndpoint{
			Addresses: e.Addresses, Ready: isTrue(e.Conditions.Ready, true), Serving: isTrue(e.Conditions.Serving, true),
			Terminating: isTrue(e.Conditions.Terminating, false), Hostname: deref(e.Hostname), Node: deref(e.NodeName), Zone: deref(e.Zone),
		}
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			se.Pod = diagnose.Key{Namespace: cmp.Or(e.TargetRef.Namespace, s.Namespace), Name: e.TargetRef.Name}
		}
		out.Endpoints = append(out.Endpoints, se)
	}
	return out
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func isTrue(p *bool, unset bool) bool {
	if p == nil {
		return unset
	}
	return *p
}

// kubeletVersion is the form of a kubelet's version; distributions put a suffix to it.
var kubeletVersion = regexp.MustCompile(`^v[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}([-+][A-Za-z0-9.+-]{1,40})?$`)

func projectNode(n *corev1.Node) diagnose.Node {
	out := diagnose.Node{
		Name: n.Name, Zone: cmp.Or(n.Labels[corev1.LabelTopologyZone], n.Labels[corev1.LabelFailureDomainBetaZone]), CIDRs: n.Spec.PodCIDRs,
		Unschedulable: n.Spec.Unschedulable,
	}
	if v := n.Status.NodeInfo.KubeletVersion; kubeletVersion.MatchString(v) {
		out.Kubelet = v
	}
	if len(out.CIDRs) == 0 && n.Spec.PodCIDR != "" {
		out.CIDRs = []string{n.Spec.PodCIDR}
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			out.IPs = append(out.IPs, a.Address)
		}
	}
	return out
}

// projectMetrics adds up a pod's containers without mesh proxies: the question is which pod does the work.
func projectMetrics(m *metricsv1beta1.PodMetrics) diagnose.PodMetrics {
	out := diagnose.PodMetrics{Key: keyOf(&m.ObjectMeta), At: m.Timestamp.UTC(), WindowSeconds: m.Window.Seconds()}
	var nano int64
	for _, c := range m.Containers {
		if !slices.Contains(meshProxies, c.Name) {
			nano += c.Usage.Cpu().ScaledValue(resource.Nano)
		}
	}
	const milli = 1_000_000
	out.CPUMilli = (nano + milli/2) / milli // Quantity.MilliValue rounds up: an idle pod would show 1
	return out
}

func projectProbe(p *corev1.Probe) *diagnose.Probe {
	switch {
	case p == nil:
		return nil
	case p.GRPC != nil:
		return &diagnose.Probe{Kind: "grpc", Port: strconv.Itoa(int(p.GRPC.Port))}
	case p.HTTPGet != nil:
		return &diagnose.Probe{Kind: "http", Port: p.HTTPGet.Port.String()}
	case p.TCPSocket != nil:
		return &diagnose.Probe{Kind: "tcp", Port: p.TCPSocket.Port.String()}
	case p.Exec != nil:
		return &diagnose.Probe{Kind: "exec"}
	}
	return nil
}
