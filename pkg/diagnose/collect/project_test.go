package collect

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func TestIgnored(t *testing.T) {
	for in, want := range map[string]map[string]string{
		"":                               nil,
		"no-such shape!":                 nil,
		"clusterip-pinned":               {"clusterip-pinned": ""},
		"clusterip-pinned: one batch":    {"clusterip-pinned": "one batch"},
		"a: x\nb-c: y z\n":               {"a": "x", "b-c": "y z"},
		"a: x, b: y":                     {"a": "x", "b": "y"},
		"a, b":                           {"a": "", "b": ""},
		"a: few, long calls; b":          {"a": "few, long calls, b"},
		"a: see http://x:1":              {"a": "see http://x:1"},
		"Not A Slug: x":                  nil,
		"a: " + strings.Repeat("ö", 500): {"a": strings.Repeat("ö", maxReason)},
	} {
		if diff := cmp.Diff(want, ignored(in)); diff != "" {
			t.Errorf("ignored(%q) (-want +got):\n%s", in, diff)
		}
	}
}

func TestProjectService(t *testing.T) {
	in := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b", UID: "u", Labels: map[string]string{diagnose.ManagedByLabel: diagnose.ManagedBy}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "None", Selector: map[string]string{"k": "v"}, PublishNotReadyAddresses: true,
			SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(99))}},
			IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol},
			Ports:      []corev1.ServicePort{{Name: "grpc", Protocol: corev1.ProtocolTCP, Port: 1, TargetPort: intstr.FromString("x"), AppProtocol: new("kubernetes.io/h2c")}},
		},
	}
	want := diagnose.Service{
		Key: diagnose.Key{Namespace: "a", Name: "b"}, UID: "u", Type: "ClusterIP", ClusterIPs: []string{"None"}, Selector: map[string]string{"k": "v"},
		Ports:           []diagnose.ServicePort{{Name: "grpc", Protocol: "TCP", Port: 1, TargetPort: "x", AppProtocol: "kubernetes.io/h2c"}},
		SessionAffinity: "ClientIP", AffinitySeconds: 99, PublishNotReady: true, IPFamilies: []string{"IPv6"}, Ours: true,
	}
	if diff := cmp.Diff(want, projectService(in)); diff != "" {
		t.Error(diff)
	}
	in.DeletionTimestamp = &metav1.Time{}
	if !projectService(in).Terminating {
		t.Error("a Service that is being deleted is not told from others")
	}
}

// TestProjectSliceDefaults: nil conditions mean what the API says they mean.
func TestProjectSliceDefaults(t *testing.T) {
	got := projectSlice(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "a", Name: "b", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}},
			{Addresses: []string{"10.0.0.2"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(true)}},
			{Addresses: []string{"10.0.0.3"}, TargetRef: &corev1.ObjectReference{Kind: "Node", Name: "n"}},
		},
	})
	want := diagnose.Slice{
		Key: diagnose.Key{Namespace: "a", Name: "b"}, Service: "svc", AddressType: "IPv4", Ports: []diagnose.SlicePort{{}},
		Endpoints: []diagnose.SliceEndpoint{
			{Addresses: []string{"10.0.0.1"}, Ready: true, Serving: true},
			{Addresses: []string{"10.0.0.2"}, Terminating: true, Pod: diagnose.Key{Namespace: "a", Name: "p"}},
			{Addresses: []string{"10.0.0.3"}, Ready: true, Serving: true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestProjectMetrics(t *testing.T) {
	use := func(name, cpu string) metricsv1beta1.ContainerMetrics {
		return metricsv1beta1.ContainerMetrics{Name: name, Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
	}
	for want, cs := range map[int64][]metricsv1beta1.ContainerMetrics{
		0:    {use("app", "0")},
		1:    {use("app", "600000n")}, // not two thirds of a milli-core rounded up for each container
		2:    {use("a", "900u"), use("b", "900u")},
		1250: {use("app", "1250m"), use("istio-proxy", "3")},
	} {
		if got := projectMetrics(&metricsv1beta1.PodMetrics{Containers: cs}).CPUMilli; got != want {
			t.Errorf("%v: %d, want %d", cs, got, want)
		}
	}
}

func TestTrouble(t *testing.T) {
	waiting := func(r string) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: r}}}
	}
	ended := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}}}
	completed := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}}
	condition := func(t corev1.PodConditionType, reason string) corev1.PodCondition {
		return corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason}
	}
	for want, st := range map[string]corev1.PodStatus{
		"CrashLoopBackOff":   {ContainerStatuses: []corev1.ContainerStatus{waiting("CrashLoopBackOff")}, Conditions: []corev1.PodCondition{condition(corev1.PodReady, "ContainersNotReady")}},
		"OOMKilled":          {ContainerStatuses: []corev1.ContainerStatus{completed, ended}},
		"Evicted":            {Reason: "Evicted"},
		"Unschedulable":      {Conditions: []corev1.PodCondition{condition(corev1.PodReady, "ContainersNotReady"), condition(corev1.PodScheduled, "Unschedulable")}},
		"ContainersNotReady": {ContainerStatuses: []corev1.ContainerStatus{waiting("ContainerCreating")}, Conditions: []corev1.PodCondition{condition(corev1.PodReady, "ContainersNotReady")}},
		"ImagePullBackOff":   {InitContainerStatuses: []corev1.ContainerStatus{waiting("ImagePullBackOff")}, ContainerStatuses: []corev1.ContainerStatus{waiting("PodInitializing")}},
		"":                   {Reason: "a text, not a reason: token=123"},
	} {
		if got := trouble(&corev1.Pod{Status: st}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestHints(t *testing.T) {
	c := func(env []string, args ...string) *corev1.Container {
		out := &corev1.Container{Args: args}
		for _, e := range env {
			k, v, _ := strings.Cut(e, "=")
			out.Env = append(out.Env, corev1.EnvVar{Name: k, Value: v})
		}
		return out
	}
	probe := &corev1.Container{LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/grpc_health_probe", "-addr=:50051"}}}}}
	shell := &corev1.Container{ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "grpc-health-probe -addr=:1"}}}}}
	for name, tc := range map[string]struct {
		in   *corev1.Container
		want []string
	}{
		"a port":                  {c([]string{"GRPC_PORT=50051"}), []string{"env GRPC_PORT"}},
		"a name of one's own":     {c([]string{"ACME_SECRET_GRPC_PORT=50051"}), []string{"env *_GRPC_PORT"}},
		"where it listens":        {c([]string{"GRPC_ADDR=0.0.0.0:50051", "GRPC_LISTEN_ADDRESS=[::]:1"}), []string{"env GRPC_ADDR", "env GRPC_LISTEN_ADDRESS"}},
		"a client's target":       {c([]string{"GRPC_ADDR=square:50051", "GRPC_CLIENT_SQUARE_ADDRESS=static://square:1", "MY_CLIENT_GRPC_PORT=1"}), nil},
		"a flag":                  {c(nil, "--grpc-port=50051"), []string{"arg --grpc-port"}},
		"a flag in other writing": {c(nil, "-grpc.port", "50051", "--grpc_addr", ":1"), []string{"arg --grpc-port", "arg --grpc-addr"}},
		"a client's flag":         {c(nil, "--grpc-addr=square:1", "--grpc-address", "square:1"), nil},
		"a switch":                {c(nil, "--grpc"), []string{"arg --grpc"}},
		"an exec probe":           {probe, []string{"exec probe grpc_health_probe"}},
		"a shell's exec probe":    {shell, []string{"exec probe grpc_health_probe"}},
		"nothing":                 {c([]string{"PORT=50051", "X=grpc"}, "--port=50051"), nil},
	} {
		if diff := cmp.Diff(tc.want, hints(tc.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestClassify(t *testing.T) {
	for in, want := range map[string]countClass{
		"GET /api/v1/pods":                                                  countList,
		"GET /api/v1/namespaces/a/pods":                                     countList,
		"GET /apis/apps/v1/deployments":                                     countList,
		"GET /apis/apps/v1/namespaces/a/deployments":                        countList,
		"GET /api/v1/namespaces":                                            countList,
		"GET /api/v1/namespaces/a":                                          countGet,
		"GET /api/v1/namespaces/a/pods/b":                                   countGet,
		"GET /api/v1/nodes/n":                                               countGet,
		"GET /api/v1/namespaces/a/pods/b/log":                               countGet,
		"GET /version":                                                      countGet,
		"GET /apis":                                                         countGet,
		"GET /apis/apps/v1":                                                 countGet,
		"GET /k8s/clusters/c-1/api/v1/pods":                                 countList,
		"POST /api/v1/namespaces/a/pods/b/portforward":                      countStream,
		"GET /api/v1/namespaces/a/pods/b/exec":                              countStream,
		"PATCH /api/v1/namespaces/a/pods/b/ephemeralcontainers":             countWrite,
		"POST /api/v1/namespaces/a/pods":                                    countWrite,
		"DELETE /api/v1/namespaces/a/pods/b":                                countWrite,
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews":       countGet,
		"GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods?limit=50": countList,
	} {
		method, path, _ := strings.Cut(in, " ")
		path, _, _ = strings.Cut(path, "?")
		if got := classify(method, path); got != want {
			t.Errorf("%s: %d, want %d", in, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-1": 0, "soon": 0, now.Add(7 * time.Second).Format(http.TimeFormat): 7 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestOpWords(t *testing.T) {
	for want, op := range map[string]Op{
		"list pods in default":                   {Verb: "list", Resource: Pods, Namespace: "default"},
		"list pods in all namespaces":            {Verb: "list", Resource: Pods},
		"list nodes":                             {Verb: "list", Resource: Nodes},
		"get configmap app in default":           {Verb: "get", Resource: ConfigMaps, Namespace: "default", Object: "app"},
		"create pods/portforward in kube-system": {Verb: "create", Resource: Pods, Namespace: "kube-system", Object: "coredns-1", Sub: "portforward"},
		"list pods.metrics.k8s.io in default":    {Verb: "list", Resource: PodMetrics, Namespace: "default"},
	} {
		if got := op.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
