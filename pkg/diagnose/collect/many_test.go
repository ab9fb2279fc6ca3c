package collect_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// TestTenThousandEndpoints: slices that nobody's selector made, as of a Service in front of machines outside the cluster. The number of
// requests is that for three pods.
func TestTenThousandEndpoints(t *testing.T) {
	const slices, each = 10, 1000 // of a slice at most
	svc := kubetest.Service(ns, "square-service").Port("grpc", 6565, intstr.FromInt32(50051))
	svc.Spec.Selector = nil
	objs := []runtime.Object{svc, kubetest.Node("n1"), kubetest.Node("n2")}
	for i := range slices {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("square-service-%d", i), Labels: map[string]string{discoveryv1.LabelServiceName: "square-service"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("grpc"), Port: new(int32(50051)), Protocol: new(corev1.ProtocolTCP)}},
		}
		for j := range each {
			n := i*each + j
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("198.18.%d.%d", n/250, 1+n%250)}})
		}
		objs = append(objs, s)
	}
	srv := kubetest.NewServer(t, objs...)
	snap, err := collect.Run(context.Background(), session(t, srv, collect.SessionOptions{}), options("square-service"))
	if err != nil {
		t.Fatal(err)
	}
	v, ok := snap.View(diagnose.Key{Namespace: ns, Name: "square-service"})
	if !ok || len(v.Ready()) != slices*each {
		t.Errorf("%d endpoints, want %d", len(v.Ready()), slices*each)
	}
	if want := (diagnose.Cost{Lists: 10, Gets: 1}); snap.Cost != want {
		t.Errorf("cost %+v, want %+v", snap.Cost, want)
	}
}
