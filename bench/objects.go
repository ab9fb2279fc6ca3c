package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const port = 6565

func typeMeta(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

func service(name string, selector map[string]string) *corev1.Service {
	return &corev1.Service{
		TypeMeta: typeMeta("v1", "Service"), ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Name: "grpc", Port: port, TargetPort: intstr.FromInt32(port)}}},
	}
}

func list(items ...any) any {
	return map[string]any{"apiVersion": "v1", "kind": "List", "items": items}
}

// wideService is a Service without a selector and slices with as many ready endpoints, addresses from 198.18.0.0/15 (RFC 2544: for
// benchmarks, never routed).
func wideService(name string, endpoints int) any {
	items := []any{service(name, nil)}
	for first := 0; first < endpoints; first += endpointsPerSlice {
		s := &discoveryv1.EndpointSlice{
			TypeMeta: typeMeta("discovery.k8s.io/v1", "EndpointSlice"),
			ObjectMeta: metav1.ObjectMeta{
				Name:   fmt.Sprintf("%s-%d", name, first/endpointsPerSlice),
				Labels: map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "bench.grpclb.dev"},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("grpc"), Port: new(int32(port)), Protocol: new(corev1.ProtocolTCP)}},
		}
		for i := first; i < min(first+endpointsPerSlice, endpoints); i++ {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses:  []string{fmt.Sprintf("198.18.%d.%d", i/250, i%250+1)},
				Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
				NodeName:   new(fmt.Sprintf("n%d", i%2+1)), Zone: new(string(rune('a' + i%2))),
			})
		}
		items = append(items, s)
	}
	return list(items...)
}

// manyService is a Deployment of square servers that are ready at once, and the Service in front.
func manyService(name, app, image string) any {
	labels := map[string]string{"app": app}
	d := &appsv1.Deployment{TypeMeta: typeMeta("apps/v1", "Deployment"), ObjectMeta: metav1.ObjectMeta{Name: app}}
	d.Spec.Replicas = new(int32(3))
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.ProgressDeadlineSeconds = new(int32(3600))
	d.Spec.Template.Labels = labels
	d.Spec.Template.Spec = corev1.PodSpec{
		AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false), TerminationGracePeriodSeconds: new(int64(1)),
		Containers: []corev1.Container{{
			Name: "server", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/square-server"},
			Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: port}},
		}},
	}
	return list(service(name, labels), d)
}
