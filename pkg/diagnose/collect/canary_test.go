package collect_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// shown are the fields of API objects that a snapshot holds on purpose, each with the reason. Everything else that is a string in any
// object of a kind that is read must not be found in one.
var shown = map[string]string{
	// Who is who: a report has to name things.
	"Service.metadata.name": "names the Service", "Service.metadata.uid": "tells a Service from another of the same name",
	"Pod.metadata.name": "names the pod", "Pod.metadata.uid": "tells pods apart",
	"Node.metadata.name": "names the node", "Deployment.metadata.name": "names the workload", "StatefulSet.metadata.name": "names the workload",
	"DaemonSet.metadata.name": "names the workload", "CronJob.metadata.name": "names the workload", "Job.metadata.name": "names the workload",
	"EndpointSlice.metadata.name": "names the slice", "PodMetrics.metadata.name": "names the pod",
	"Pod.metadata.ownerReferences.name": "names the pod's workload", "Pod.metadata.ownerReferences.kind": "names the pod's workload",

	// How traffic flows: what every check is about.
	"Service.spec.clusterIPs": "an address", "Service.spec.externalName": "what the Service stands for; only of type ExternalName",
	"Service.spec.selector.key": "which pods are meant", "Service.spec.selector": "which pods are meant",
	"Service.spec.ports.name": "matched with slices", "Service.spec.ports.targetPort": "matched with container ports",
	"Service.spec.ports.appProtocol":    "says whether it is gRPC",
	"EndpointSlice.endpoints.addresses": "addresses", "EndpointSlice.endpoints.hostname": "part of DNS names",
	"EndpointSlice.endpoints.nodeName": "names the node", "EndpointSlice.endpoints.zone": "names the zone",
	"EndpointSlice.endpoints.targetRef.name": "names the pod", "EndpointSlice.endpoints.targetRef.namespace": "names the pod",
	"EndpointSlice.ports.name": "matched with the Service",
	"Pod.spec.nodeName":        "names the node", "Pod.status.podIPs.ip": "an address",
	"Node.spec.podCIDRs": "tells a hidden source", "Node.status.addresses.address": "an address",
	"Pod.spec.containers.name": "names the container", "Pod.spec.initContainers.name": "names the container",
	"Pod.spec.containers.image": "says what runs", "Pod.spec.initContainers.image": "says what runs",
	"Pod.spec.containers.ports.name": "matched with target ports", "Pod.spec.initContainers.ports.name": "matched with target ports",

	// Words that the API server chooses from a list of its own, or refuses.
	"Service.spec.type": "enumeration", "Service.spec.sessionAffinity": "enumeration", "Service.spec.ipFamilies": "enumeration",
	"Service.spec.ports.protocol": "enumeration", "EndpointSlice.addressType": "enumeration", "EndpointSlice.ports.protocol": "enumeration",
	"Pod.spec.dnsPolicy": "enumeration", "Pod.status.phase": "enumeration",
	"Pod.spec.containers.ports.protocol": "enumeration", "Pod.spec.initContainers.ports.protocol": "enumeration",
}

// allowed returns shown with what stands at many places: names that tell where a kept target was written, and ports of probes.
func allowed() map[string]string {
	out := maps.Clone(shown)
	for _, list := range []string{"containers", "initContainers"} {
		for _, tmpl := range []string{
			"Deployment.spec.template", "StatefulSet.spec.template", "DaemonSet.spec.template", "Job.spec.template", "CronJob.spec.jobTemplate.spec.template", "Pod",
		} {
			out[tmpl+".spec."+list+".name"] = "names the container that holds a target"
			out[tmpl+".spec."+list+".envFrom.prefixapp.yaml"] = "names the variable that holds a target"
		}
		for _, probe := range []string{"readinessProbe", "livenessProbe", "startupProbe"} {
			for _, kind := range []string{"httpGet", "tcpSocket"} {
				out["Pod.spec."+list+"."+probe+"."+kind+".port"] = "names a container port"
			}
		}
	}
	return out
}

const mark = "zq7."

var marked = regexp.MustCompile(`zq7\.[A-Za-z0-9.]*[A-Za-z0-9]`)

// fill puts a canary that tells its own path into every string of v.
func fill(v reflect.Value, path string) {
	switch v.Interface().(type) {
	case metav1.Time, metav1.MicroTime:
		return
	case resource.Quantity:
		v.Set(reflect.ValueOf(resource.MustParse("1")))
		return
	case metav1.FieldsV1:
		v.Set(reflect.ValueOf(*metav1.NewFieldsV1(`{"` + mark + path + `":{}}`)))
		return
	case intstr.IntOrString:
		v.Set(reflect.ValueOf(intstr.FromString(mark + path)))
		return
	case time.Duration:
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(mark + path)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(mark + path))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), path)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, path+".key")
		fill(value, path)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && v.Field(i).CanSet() {
				fill(v.Field(i), join(path, f))
			}
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(1)
	}
}

func join(path string, f reflect.StructField) string {
	name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" || strings.Contains(opts, "inline") {
		return path
	}
	return path + "." + name
}

func filled[T any](kind string, settle func(*T)) *T {
	o := new(T)
	fill(reflect.ValueOf(o).Elem(), kind)
	settle(o)
	return o
}

// placed makes an object findable: it must lie in the namespace that is looked at, and must not be on its way out.
func placed(m *metav1.ObjectMeta) {
	m.Namespace, m.DeletionTimestamp, m.DeletionGracePeriodSeconds = ns, nil, nil
}

// canaries is one object of each kind that is read, every string of it marked.
func canaries() []runtime.Object {
	template := func(t *corev1.PodTemplateSpec) { refer(&t.Spec) }
	return []runtime.Object{
		filled("Service", func(o *corev1.Service) { placed(&o.ObjectMeta) }),
		// Besides: one whose external name is kept, and one under a name that everything else refers to.
		filled("Service", func(o *corev1.Service) {
			placed(&o.ObjectMeta)
			o.Name, o.Spec.Type = "external", corev1.ServiceTypeExternalName
		}),
		kubetest.Service(ns, "square-service"),
		filled("EndpointSlice", func(o *discoveryv1.EndpointSlice) {
			placed(&o.ObjectMeta)
			o.Endpoints[0].TargetRef.Kind = "Pod"
			o.Labels[discoveryv1.LabelServiceName] = "square-service"
		}),
		filled("Pod", func(o *corev1.Pod) {
			placed(&o.ObjectMeta)
			refer(&o.Spec)
			o.Status.Conditions = append(o.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: mark + "Pod.reason"})
		}),
		probes("initContainers", "httpGet"), probes("containers", "httpGet"), probes("containers", "tcpSocket"), probes("initContainers", "tcpSocket"),
		filled("Node", func(o *corev1.Node) { o.Status.Addresses[0].Type = corev1.NodeInternalIP }),
		filled("Deployment", func(o *appsv1.Deployment) { placed(&o.ObjectMeta); template(&o.Spec.Template) }),
		filled("StatefulSet", func(o *appsv1.StatefulSet) { placed(&o.ObjectMeta); template(&o.Spec.Template) }),
		filled("DaemonSet", func(o *appsv1.DaemonSet) { placed(&o.ObjectMeta); template(&o.Spec.Template) }),
		filled("CronJob", func(o *batchv1.CronJob) { placed(&o.ObjectMeta); template(&o.Spec.JobTemplate.Spec.Template) }),
		filled("Job", func(o *batchv1.Job) { placed(&o.ObjectMeta); o.OwnerReferences = nil; template(&o.Spec.Template) }),
		filled("PodMetrics", func(o *metricsv1beta1.PodMetrics) { placed(&o.ObjectMeta) }),
		filled("ConfigMap", func(o *corev1.ConfigMap) {
			placed(&o.ObjectMeta)
			o.Name = "app"
			o.Data["app.yaml"] = "token: " + mark + "ConfigMap.line\nurl: http://" + mark + "user:" + mark + "pass@square-service:80/" + mark + "path?" + mark + "query\n"
		}),
		filled("Secret", func(o *corev1.Secret) { placed(&o.ObjectMeta); o.Name = "app" }),
	}
}

// probes is a Pod with probes of one more kind in one list of containers: a probe has only one handler at a time.
func probes(list, kind string) runtime.Object {
	return filled("Pod", func(o *corev1.Pod) {
		placed(&o.ObjectMeta)
		o.Name = "probes-" + strings.ToLower(list+kind)
		refer(&o.Spec)
		cs := o.Spec.Containers
		if list == "initContainers" {
			cs = o.Spec.InitContainers
		}
		for _, p := range []*corev1.Probe{cs[0].ReadinessProbe, cs[0].LivenessProbe, cs[0].StartupProbe} {
			p.GRPC = nil
			if kind == "tcpSocket" {
				p.HTTPGet = nil
			}
		}
	})
}

// refer makes a pod spec refer to the one ConfigMap in every way there is, and puts secrets around targets that are kept.
func refer(spec *corev1.PodSpec) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		c := &list[0]
		for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
			p.GRPC = nil
		}
		c.EnvFrom[0].ConfigMapRef.Name = "app"
		c.Env = append(c.Env,
			corev1.EnvVar{Name: "GRPC_TARGET", Value: "dns:///" + mark + "user:" + mark + "pass@square-service:80?" + mark + "query"},
			corev1.EnvVar{Name: "JSON", Value: `{"key":"` + mark + `json","target":"dns:///square-service:80"}`},
			corev1.EnvVar{Name: "K", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{Key: "app.yaml", LocalObjectReference: corev1.LocalObjectReference{Name: "app"}}}},
		)
		c.Args = append(c.Args, "--token="+mark+"token", "--password", mark+"password", "--addr=https://"+mark+"u@square-service:80/"+mark+"p",
			"export X="+mark+"x; app --target dns:///square-service:80 --key "+mark+"key")
		c.VolumeMounts[0].Name, c.VolumeMounts[0].SubPath = "app", ""
	}
	spec.Volumes[0].Name = "app"
	spec.Volumes[0].ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}}
}

// TestNoSecretReachesTheSnapshot fills every string of every object with a canary and looks for the survivors.
func TestNoSecretReachesTheSnapshot(t *testing.T) {
	srv := kubetest.NewServer(t, canaries()...)
	opt := options()
	opt.AssumeGRPC = true // every Service is a target
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), opt)
	if err != nil {
		t.Fatal(err)
	}
	text := string(marshal(t, snap))
	shown, seen := allowed(), map[string]bool{}
	for _, c := range marked.FindAllString(text, -1) {
		path := strings.TrimPrefix(c, mark)
		seen[path] = true
		if shown[path] == "" {
			t.Errorf("%s is in the snapshot: %s", path, around(text, c))
		}
	}
	for path := range shown {
		if !seen[path] {
			t.Errorf("%s is listed as shown on purpose and is not in the snapshot: take it off the list", path)
		}
	}
	// The test is only worth something if the objects were really looked at.
	if len(snap.Services.Value) != 3 || len(snap.ConfigMaps.Value) != 1 || len(snap.Metrics.Value) != 1 {
		t.Fatalf("%d services, %d configmaps, %d metrics", len(snap.Services.Value), len(snap.ConfigMaps.Value), len(snap.Metrics.Value))
	}
	for _, w := range snap.Workloads.Value {
		var sources []string
		for _, tg := range w.Targets {
			sources = append(sources, tg.Source)
		}
		for _, want := range []string{"env", "arg", "configmap"} {
			if !slices.Contains(sources, want) {
				t.Errorf("%s: no target from %s was found between the canaries, only %v", w.Ref(), want, sources)
			}
		}
	}
	if n := srv.Count("", "secrets"); n != 0 {
		t.Errorf("%d requests for Secrets", n)
	}
}

func around(text, s string) string {
	i := strings.Index(text, s)
	return fmt.Sprintf("%q", text[max(0, i-60):min(len(text), i+len(s)+10)])
}
