package kubetest

import (
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// resourceType is one kind that the server serves.
type resourceType struct {
	gvr        schema.GroupVersionResource
	kind       string
	singular   string
	short      []string
	namespaced bool
	subs       []string
	object     func() runtime.Object
	list       func() runtime.Object
}

func core(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: name}
}

func grouped(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

// resources lists what the server serves, in the order of its discovery documents.
func resources() []resourceType {
	return []resourceType{
		{gvr: core("services"), kind: "Service", singular: "service", short: []string{"svc"}, namespaced: true,
			object: func() runtime.Object { return &corev1.Service{} }, list: func() runtime.Object { return &corev1.ServiceList{} }},
		{gvr: core("pods"), kind: "Pod", singular: "pod", short: []string{"po"}, namespaced: true,
			subs:   []string{"ephemeralcontainers", "exec", "log", "portforward", "status"},
			object: func() runtime.Object { return &corev1.Pod{} }, list: func() runtime.Object { return &corev1.PodList{} }},
		{gvr: core("nodes"), kind: "Node", singular: "node", short: []string{"no"},
			object: func() runtime.Object { return &corev1.Node{} }, list: func() runtime.Object { return &corev1.NodeList{} }},
		{gvr: core("namespaces"), kind: "Namespace", singular: "namespace", short: []string{"ns"},
			object: func() runtime.Object { return &corev1.Namespace{} }, list: func() runtime.Object { return &corev1.NamespaceList{} }},
		{gvr: core("configmaps"), kind: "ConfigMap", singular: "configmap", short: []string{"cm"}, namespaced: true,
			object: func() runtime.Object { return &corev1.ConfigMap{} }, list: func() runtime.Object { return &corev1.ConfigMapList{} }},
		{gvr: core("secrets"), kind: "Secret", singular: "secret", namespaced: true,
			object: func() runtime.Object { return &corev1.Secret{} }, list: func() runtime.Object { return &corev1.SecretList{} }},
		{gvr: grouped("apps", "v1", "deployments"), kind: "Deployment", singular: "deployment", short: []string{"deploy"}, namespaced: true,
			object: func() runtime.Object { return &appsv1.Deployment{} }, list: func() runtime.Object { return &appsv1.DeploymentList{} }},
		{gvr: grouped("apps", "v1", "statefulsets"), kind: "StatefulSet", singular: "statefulset", short: []string{"sts"}, namespaced: true,
			object: func() runtime.Object { return &appsv1.StatefulSet{} }, list: func() runtime.Object { return &appsv1.StatefulSetList{} }},
		{gvr: grouped("apps", "v1", "daemonsets"), kind: "DaemonSet", singular: "daemonset", short: []string{"ds"}, namespaced: true,
			object: func() runtime.Object { return &appsv1.DaemonSet{} }, list: func() runtime.Object { return &appsv1.DaemonSetList{} }},
		{gvr: grouped("apps", "v1", "replicasets"), kind: "ReplicaSet", singular: "replicaset", short: []string{"rs"}, namespaced: true,
			object: func() runtime.Object { return &appsv1.ReplicaSet{} }, list: func() runtime.Object { return &appsv1.ReplicaSetList{} }},
		{gvr: grouped("batch", "v1", "cronjobs"), kind: "CronJob", singular: "cronjob", short: []string{"cj"}, namespaced: true,
			object: func() runtime.Object { return &batchv1.CronJob{} }, list: func() runtime.Object { return &batchv1.CronJobList{} }},
		{gvr: grouped("batch", "v1", "jobs"), kind: "Job", singular: "job", namespaced: true,
			object: func() runtime.Object { return &batchv1.Job{} }, list: func() runtime.Object { return &batchv1.JobList{} }},
		{gvr: grouped("discovery.k8s.io", "v1", "endpointslices"), kind: "EndpointSlice", singular: "endpointslice", namespaced: true,
			object: func() runtime.Object { return &discoveryv1.EndpointSlice{} }, list: func() runtime.Object { return &discoveryv1.EndpointSliceList{} }},
		{gvr: grouped("metrics.k8s.io", "v1beta1", "pods"), kind: "PodMetrics", singular: "pod", namespaced: true,
			object: func() runtime.Object { return &metricsv1beta1.PodMetrics{} }, list: func() runtime.Object { return &metricsv1beta1.PodMetricsList{} }},
		{gvr: grouped("authorization.k8s.io", "v1", "selfsubjectaccessreviews"), kind: "SelfSubjectAccessReview", singular: "selfsubjectaccessreview",
			object: func() runtime.Object { return &authorizationv1.SelfSubjectAccessReview{} }},
	}
}

// library holds the codecs and the table, made anew for each server: no state is shared between tests.
type library struct {
	scheme    *runtime.Scheme
	codecs    serializer.CodecFactory
	resources []resourceType
}

func newLibrary() (*library, error) {
	l := &library{scheme: runtime.NewScheme(), resources: resources()}
	metav1.AddToGroupVersion(l.scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, discoveryv1.AddToScheme, metricsv1beta1.AddToScheme, authorizationv1.AddToScheme,
	} {
		if err := add(l.scheme); err != nil {
			return nil, err
		}
	}
	l.codecs = serializer.NewCodecFactory(l.scheme)
	return l, nil
}

// byObject finds the resource that stores objects of obj's type.
func (l *library) byObject(obj runtime.Object) (*resourceType, error) {
	for i := range l.resources {
		if reflect.TypeOf(l.resources[i].object()) == reflect.TypeOf(obj) {
			return &l.resources[i], nil
		}
	}
	return nil, fmt.Errorf("no resource holds objects of type %T", obj)
}

func (l *library) find(group, version, name string) *resourceType {
	want := schema.GroupVersionResource{Group: group, Version: version, Resource: name}
	i := slices.IndexFunc(l.resources, func(r resourceType) bool { return r.gvr == want })
	if i < 0 {
		return nil
	}
	return &l.resources[i]
}

// encode writes obj in the media type with its kind and version, as an API server does.
func (l *library) encode(obj runtime.Object, gv schema.GroupVersion, mediaType string) ([]byte, error) {
	info, ok := runtime.SerializerInfoForMediaType(l.codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		return nil, fmt.Errorf("no serializer for %s", mediaType)
	}
	return runtime.Encode(l.codecs.EncoderForVersion(info.Serializer, gv), obj)
}
