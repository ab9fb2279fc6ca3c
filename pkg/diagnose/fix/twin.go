package fix

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// LabelTwinOf names the original on its twin, beside diagnose.ManagedByLabel. The twin carries none of the original's own
// labels: a monitor or a policy that selects the original must not meet it twice.
const LabelTwinOf = "grpclb.dev/twin-of"

// TwinSuffix makes the name of a Service's headless twin.
const TwinSuffix = "-headless"

// podPort is one port of the Service with the number on which the pods serve it.
type podPort struct {
	diagnose.ServicePort
	number int32
}

// ports returns the ports that clients balance over: those judged gRPC, or all TCP ports when none is.
func (b *builder) ports() ([]podPort, error) {
	candidates := b.v.GRPCPorts()
	if len(candidates) == 0 {
		candidates = b.v.Service.Ports
	}
	return b.numbersOf(candidates)
}

// numbersOf gives TCP ports the number on which the pods serve them.
func (b *builder) numbersOf(candidates []diagnose.ServicePort) ([]podPort, error) {
	var out []podPort
	for _, p := range candidates {
		if !tcp(p) {
			continue
		}
		nums := b.numbers(p)
		switch len(nums) {
		case 1:
			out = append(out, podPort{p, nums[0]})
		case 0:
			return nil, b.refuse(CodePortUnknown, "wait until a pod is there, or make targetPort a number",
				"port %s leads to the container port %q, and no pod says which number that is", portName(p), p.TargetPort)
		default:
			return nil, b.refuse(CodePortsDiffer, "give all pods the same number: a client dials one port for all addresses",
				"port %s is %s, each on some of the pods", portName(p), numberList(nums))
		}
	}
	return out, nil
}

// numbers are a port's numbers in the pods: from the endpoints, else from the containers that declare the name.
func (b *builder) numbers(p diagnose.ServicePort) []int32 {
	nums := b.v.PodPorts(p)
	if len(nums) > 0 {
		return nums
	}
	for _, pod := range b.v.Selected() {
		for _, c := range pod.Containers {
			for _, cp := range c.Ports {
				if cp.Name == p.TargetPort {
					nums = append(nums, cp.Port)
				}
			}
		}
	}
	slices.Sort(nums)
	return slices.Compact(nums)
}

func portName(p diagnose.ServicePort) string {
	if p.Name != "" {
		return fmt.Sprintf("%s (%d)", p.Name, p.Port)
	}
	return fmt.Sprint(p.Port)
}

func numberList(nums []int32) string {
	out := make([]string, len(nums))
	for i, n := range nums {
		out[i] = fmt.Sprint(n)
	}
	return strings.Join(out, " and ")
}

// twin finds the headless Service that clients are to dial, and whether it has to be applied.
func (b *builder) twin() (name string, create bool, err error) {
	s := b.v.Service
	if s.Headless() {
		b.note("svc/%s is headless already: only its clients change.", s.Name)
		return s.Name, false, nil
	}
	name = b.o.Name
	if name == "" {
		name = s.Name + TwinSuffix
	}
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return "", false, b.refuse(CodeNameInvalid, "choose another with --name", "%q cannot be a Service's name: %s", name, problems[0])
	}
	if taken, ok := b.service(name); ok {
		return b.taken(taken)
	}
	if other, ok := b.v.Twin(); ok && b.o.Name == "" {
		b.note("svc/%s is headless and selects the same pods: the clients use it, no second one is made.", other.Name)
		return other.Name, false, nil
	}
	if len(s.Selector) == 0 {
		return "", false, b.refuse(CodeNoSelector, "make a headless Service and EndpointSlices for it in the way that these were made",
			"svc/%s has no selector: whoever makes its endpoints would have to make the twin's too", s.Name)
	}
	return name, true, nil
}

// taken decides about a Service that has the twin's name already.
func (b *builder) taken(t diagnose.Service) (string, bool, error) {
	s := b.v.Service
	same := t.Headless() && len(s.Selector) > 0 && maps.Equal(t.Selector, s.Selector)
	switch {
	case t.Headless() && t.Ours && len(s.Selector) > 0:
		return t.Name, true, nil
	case same:
		b.note("svc/%s is there already, headless, with the same selector; it is not this project's, so it is left as it is.", t.Name)
		return t.Name, false, nil
	}
	return "", false, b.refuse(CodeNameTaken, "choose another name with --name",
		"svc/%s exists and is not this project's own headless twin", t.Name)
}

func (b *builder) service(name string) (diagnose.Service, bool) {
	for _, s := range b.v.Services.Value {
		if s.Namespace == b.v.Service.Namespace && s.Name == name {
			return s, true
		}
	}
	return diagnose.Service{}, false
}

// addTwin adds the manifest. A headless Service translates no ports, so that port has to be the pods' number; SRV and
// mesh routing read it even though an A-record client does not.
func (b *builder) addTwin(name string, ports []podPort) error {
	s := b.v.Service
	twin := corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: s.Namespace, Labels: map[string]string{diagnose.ManagedByLabel: diagnose.ManagedBy},
		},
		Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: maps.Clone(s.Selector)},
	}
	if len(validation.IsValidLabelValue(s.Name)) == 0 {
		twin.Labels[LabelTwinOf] = s.Name
	}
	if families := s.IPFamilies; len(families) > 1 || len(families) == 1 && families[0] != string(corev1.IPv4Protocol) {
		policy := corev1.IPFamilyPolicySingleStack
		if len(families) > 1 {
			policy = corev1.IPFamilyPolicyPreferDualStack
		}
		twin.Spec.IPFamilyPolicy = &policy
		for _, f := range families {
			twin.Spec.IPFamilies = append(twin.Spec.IPFamilies, corev1.IPFamily(f))
		}
	}
	seen := map[int32]bool{}
	for _, p := range ports {
		if seen[p.number] {
			b.note("Port %s is left out of svc/%s: another one leads to %d already.", portName(p.ServicePort), name, p.number)
			continue
		}
		seen[p.number] = true
		twin.Spec.Ports = append(twin.Spec.Ports, twinPort(p))
	}
	content, err := object(twin)
	if err != nil {
		return err
	}
	b.plan.Objects = append(b.plan.Objects, Object{
		Ref: "svc/" + name, Namespace: s.Namespace, Content: content,
		Why: "create it: DNS answers its name with the address of every ready pod",
	})
	if s.PublishNotReady {
		b.note("svc/%s publishes addresses that are not ready; svc/%s does not, or clients would call such pods.", s.Name, name)
	}
	return nil
}

func twinPort(p podPort) corev1.ServicePort {
	out := corev1.ServicePort{Name: p.Name, Protocol: corev1.ProtocolTCP, Port: p.number, TargetPort: intstr.FromInt32(p.number)}
	if p.TargetPort != "" && p.TargetPort != "0" {
		out.TargetPort = intstr.Parse(p.TargetPort)
	}
	if p.AppProtocol != "" {
		out.AppProtocol = &p.AppProtocol
	}
	return out
}

// object returns the JSON form of an API object, without the fields that only a server writes.
func object(o any) (map[string]any, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	delete(out, "status")
	if m, ok := out["metadata"].(map[string]any); ok {
		delete(m, "creationTimestamp")
	}
	return out, nil
}
