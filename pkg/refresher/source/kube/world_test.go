package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

const ns, svcName = "default", "square"

// sliceBuilder makes an EndpointSlice of the Service; see es.
type sliceBuilder struct{ *discoveryv1.EndpointSlice }

// Unwrap returns the object itself.
func (b sliceBuilder) Unwrap() []runtime.Object { return []runtime.Object{b.EndpointSlice} }

// es makes an IPv4 slice with the port grpc 6565 and ready pods p1, p2 ... of
// those numbers, whose addresses end with the same number.
func es(name string, pods ...int) sliceBuilder {
	b := sliceBuilder{&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{discoveryv1.LabelServiceName: svcName},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}}
	b.port("grpc", 6565)
	for _, n := range pods {
		b.Endpoints = append(b.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.0.%d.%d", n/250, n%250)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: fmt.Sprintf("p%d", n), UID: types.UID(fmt.Sprintf("u%d", n))},
		})
	}
	return b
}

// port replaces the ports by one.
func (b sliceBuilder) port(name string, number int32) sliceBuilder {
	b.Ports = nil
	return b.andPort(name, number)
}

func (b sliceBuilder) andPort(name string, number int32) sliceBuilder {
	b.Ports = append(b.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: new(corev1.ProtocolTCP)})
	return b
}

// v6 makes it a slice of IPv6 addresses.
func (b sliceBuilder) v6() sliceBuilder {
	b.AddressType = discoveryv1.AddressTypeIPv6
	for i := range b.Endpoints {
		b.Endpoints[i].Addresses = []string{"fd00::" + strings.ReplaceAll(strings.TrimPrefix(b.Endpoints[i].Addresses[0], "10.0."), ".", ":")}
	}
	return b
}

// is sets the conditions of all endpoints.
func (b sliceBuilder) is(ready, serving, terminating bool) sliceBuilder {
	for i := range b.Endpoints {
		b.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
	return b
}

// nobody takes the references to pods away, as in hand-made slices.
func (b sliceBuilder) nobody() sliceBuilder {
	for i := range b.Endpoints {
		b.Endpoints[i].TargetRef = nil
	}
	return b
}

func (b sliceBuilder) trigger(at time.Time) sliceBuilder {
	b.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}
	return b
}

func svc() kubetest.ServiceBuilder {
	return kubetest.Service(ns, svcName).Port("grpc", 6565, intstr.FromInt32(6565))
}

// world is a source that runs on a server, in a bubble.
type world struct {
	*testing.T
	srv   *kubetest.Server
	src   endpoint.Source
	began time.Time

	mu    sync.Mutex
	sets  []endpoint.Set
	fails []error
	notes []endpoint.Event
	err   error
	ended bool
	stop  context.CancelFunc
}

// inWorld runs f beside a source for the target, against a server with objects.
func inWorld(t *testing.T, target string, before func(*kubetest.Server), f func(*world), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := kubetest.NewLocal(t)
		srv.BookmarkEvery(time.Minute)
		before(srv)
		w := start(t, srv, target, opts...)
		synctest.Wait()
		f(w)
		w.stop()
		synctest.Wait()
		if w.mu.Lock(); !w.ended || w.err != nil {
			t.Errorf("Run ended: %t, with %v", w.ended, w.err)
		}
		w.mu.Unlock()
		if n := srv.Watching(); n != 0 {
			t.Errorf("%d watches are left open", n)
		}
	})
}

func start(t *testing.T, srv *kubetest.Server, target string, opts ...Option) *world {
	t.Helper()
	parsed, err := endpoint.ParseTarget("", target, "")
	if err != nil {
		t.Fatal(err)
	}
	src, err := New(append([]Option{WithConfig(srv.Config()), WithNamespace(ns)}, opts...)...).Open(parsed)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{T: t, srv: srv, src: src, began: time.Now(), stop: cancel}
	go func() {
		err := src.Run(ctx, w)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended, w.err = true, err
	}()
	return w
}

func (w *world) Update(s endpoint.Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		w.Error("Update after Run")
	}
	w.sets = append(w.sets, s)
}

func (w *world) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fails = append(w.fails, err)
}

func (w *world) Note(e endpoint.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, e)
}

// take returns what was told since the last take.
func (w *world) take() (sets []endpoint.Set, fails []error) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	sets, fails = w.sets, w.fails
	w.sets, w.fails = nil, nil
	return sets, fails
}

// after lets the clock run.
func (w *world) after(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

// want checks that one Set was told since the last look, and no failure, and
// returns it.
func (w *world) want(addrs ...string) endpoint.Set {
	w.Helper()
	sets, fails := w.take()
	if len(sets) != 1 || len(fails) != 0 {
		w.Fatalf("told %d Sets and failures %v, want one Set %v: %v", len(sets), fails, addrs, sets)
	}
	if got := spell(sets[0].Endpoints); !slices.Equal(got, addrs) {
		w.Fatalf("endpoints %v, want %v", got, addrs)
	}
	return sets[0]
}

func (w *world) quiet() {
	w.Helper()
	if sets, fails := w.take(); len(sets)+len(fails) != 0 {
		w.Fatalf("told %v and failures %v, want nothing", sets, fails)
	}
}

// warnings are the texts of the warnings so far.
func (w *world) warnings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, n := range w.notes {
		if n, ok := n.(endpoint.Warning); ok {
			out = append(out, n.Text)
		}
	}
	return out
}

// spell writes endpoints as ADDR,ADDR with a mark for those that are not ready.
func spell(eps []endpoint.Endpoint) []string {
	var out []string
	for _, e := range eps {
		var parts []string
		for _, a := range e.Addrs {
			parts = append(parts, a.String())
		}
		s := strings.Join(parts, ",")
		if !e.Ready {
			s += " unready"
		}
		if e.Terminating {
			s += " terminating"
		}
		out = append(out, s)
	}
	return out
}
