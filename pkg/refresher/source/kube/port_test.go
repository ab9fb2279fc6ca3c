package kube

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// TestPorts: what a port of a target means, with the number of questions about
// the Service that it takes.
func TestPorts(t *testing.T) {
	mapped := svc().Port("grpc", 80, intstr.FromInt32(6565))
	crossed := func() kubetest.ServiceBuilder { // 8080 is a port of both worlds
		return svc().Port("a", 80, intstr.FromInt32(8080)).AndPort("b", 8080, intstr.FromInt32(9090))
	}
	crossedSlice := func() sliceBuilder { return es("a", 1).port("a", 8080).andPort("b", 9090) }
	for _, c := range []struct {
		name, target string
		svc          kubetest.ServiceBuilder
		slices       []sliceBuilder
		denied       bool
		want         string // the address, or what the error says
		asks         int
		warns        int
	}{
		{name: "by name", target: "grpc", svc: mapped, slices: []sliceBuilder{es("a", 1)}, want: "10.0.0.1:6565"},
		{name: "by a name that is not there", target: "grcp", svc: mapped, slices: []sliceBuilder{es("a", 1)}, want: "no TCP port grcp; there is grpc (6565)"},
		{name: "the one number", target: "6565", svc: svc(), slices: []sliceBuilder{es("a", 1)}, want: "10.0.0.1:6565"},
		{name: "the Service's number", target: "80", svc: mapped, slices: []sliceBuilder{es("a", 1)}, want: "10.0.0.1:6565", asks: 1},
		{name: "the Service's number of a headless one", target: "80", svc: mapped.Headless(), slices: []sliceBuilder{es("a", 1)}, want: "10.0.0.1:6565", asks: 1},
		{name: "nobody's number", target: "81", svc: mapped, slices: []sliceBuilder{es("a", 1)}, want: "no TCP port 81; there is grpc (6565)", asks: 1},
		{name: "crossed, ClusterIP", target: "8080", svc: crossed(), slices: []sliceBuilder{crossedSlice()}, want: "10.0.0.1:9090", asks: 1},
		{name: "crossed, headless", target: "8080", svc: crossed().Headless(), slices: []sliceBuilder{crossedSlice()}, want: "10.0.0.1:8080", asks: 1},
		{name: "crossed, pods' number alone", target: "9090", svc: crossed(), slices: []sliceBuilder{crossedSlice()}, want: "10.0.0.1:9090", asks: 1},
		{name: "crossed, denied", target: "8080", svc: crossed(), denied: true, slices: []sliceBuilder{crossedSlice()}, want: "10.0.0.1:8080", asks: 1},
		{name: "one port, denied", target: "80", svc: mapped, denied: true, slices: []sliceBuilder{es("a", 1)}, want: "10.0.0.1:6565", asks: 1, warns: 1},
		{name: "several ports, denied", target: "80", svc: crossed(), denied: true, slices: []sliceBuilder{crossedSlice()},
			want: `no TCP port 80; there is a (8080), b (9090): the Service could not be read: name the port in the target, or allow "get services"`, asks: 1},
		{name: "without a port's name", target: "6565", svc: svc(), slices: []sliceBuilder{es("a", 1).port("", 6565)}, want: "10.0.0.1:6565"},
		{name: "pods of two numbers", target: "80", svc: mapped, slices: []sliceBuilder{es("a", 1), es("b", 1).port("grpc", 7000)}, want: "10.0.0.1:7000", asks: 1},
		{name: "every port", target: "7777", svc: svc(), slices: []sliceBuilder{func() sliceBuilder { b := es("a", 1); b.Ports = nil; return b }()}, want: "10.0.0.1:7777"},
		{name: "every port, by name", target: "grpc", svc: svc(), slices: []sliceBuilder{func() sliceBuilder { b := es("a", 1); b.Ports = nil; return b }()},
			want: "no TCP port grpc; there is any"},
		{name: "UDP alone", target: "grpc", svc: svc(), slices: []sliceBuilder{func() sliceBuilder {
			b := es("a", 1)
			b.Ports = []discoveryv1.EndpointPort{{Name: new("grpc"), Port: new(int32(6565)), Protocol: new(corev1.ProtocolUDP)}}
			return b
		}()}, want: "no TCP port grpc, nor any other"},
		{name: "the Service has a port that no pod has", target: "80", svc: mapped, slices: []sliceBuilder{es("a", 1).port("http", 8080)},
			want: "no TCP port 80; there is http (8080)", asks: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, "square:"+c.target, func(s *kubetest.Server) {
				s.Set(c.svc)
				for _, b := range c.slices {
					s.Set(b)
				}
				if c.denied {
					s.Fail(kubetest.Fault{Resource: "services", Status: 403})
				}
			}, func(w *world) {
				sets, fails := w.take()
				switch {
				case len(sets) == 1 && len(fails) == 0:
					if got := spell(sets[0].Endpoints); !slices.Equal(got, []string{c.want}) {
						t.Errorf("endpoints %v, want %s", got, c.want)
					}
				case len(sets) == 0 && len(fails) == 1:
					var e *PortError
					if !errors.As(fails[0], &e) || !strings.Contains(fails[0].Error(), c.want) {
						t.Errorf("failure %v, want %s", fails[0], c.want)
					}
				default:
					t.Fatalf("told %v and %v", sets, fails)
				}
				if n := w.srv.Count("get", "services"); n != c.asks {
					t.Errorf("the Service was read %d times, want %d", n, c.asks)
				}
				if got := w.warnings(); len(got) != c.warns {
					t.Errorf("warnings %q", got)
				}
			})
		})
	}
}

// TestPortsChange: a Service whose ports change is read again, and a trouble that
// ends is over.
func TestPortsChange(t *testing.T) {
	inWorld(t, "square:80", func(s *kubetest.Server) {
		s.Set(svc().Port("grpc", 80, intstr.FromInt32(6565)), es("a", 1))
	}, func(w *world) {
		w.want("10.0.0.1:6565")
		w.srv.Set(svc().Port("grpc", 81, intstr.FromInt32(7000)), es("a", 1).port("grpc", 7000))
		w.after(settle)
		var e *PortError
		if sets, fails := w.take(); len(sets) != 0 || len(fails) != 1 || !errors.As(fails[0], &e) {
			t.Fatalf("told %v %v", sets, fails)
		}
		w.srv.Set(svc().Port("grpc", 80, intstr.FromInt32(6565)), es("a", 1))
		w.after(settle)
		w.want("10.0.0.1:6565")
	})
}

// TestServiceComesLate: a question about the Service that fails is asked again.
func TestServiceComesLate(t *testing.T) {
	inWorld(t, "square:80", func(s *kubetest.Server) {
		s.Set(svc().Port("a", 80, intstr.FromInt32(6565)), es("a", 1).port("a", 6565).andPort("b", 6566))
		s.Fail(kubetest.Fault{Resource: "services", Status: 500, Times: 2})
	}, func(w *world) {
		if sets, fails := w.take(); len(sets) != 0 || len(fails) != 1 {
			t.Fatalf("told %v %v", sets, fails)
		}
		w.after(3 * serviceRetry * 2)
		w.want("10.0.0.1:6565")
		if n := w.srv.Count("get", "services"); n != 3 {
			t.Errorf("the Service was read %d times", n)
		}
	})
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		server, target, name, namespace, err string
	}{
		{"", "square:1", "square", "mine", ""},
		{"", "Square:1", "square", "mine", ""},
		{"", "square.other:1", "square", "other", ""},
		{"", "square.other.svc:1", "square", "other", ""},
		{"", "square.other.svc.cluster.local:1", "square", "other", ""},
		{"", "square.other.svc.cluster.local.:1", "square", "other", ""},
		{"", "square.other.svc.any.domain.example:1", "square", "other", ""},
		{"", "7up.other:1", "7up", "other", ""},
		{"", "api.example.com:1", "", "", "a Service is NAME"},
		{"", "web-0.web.default.svc.cluster.local:1", "", "", "a Service is NAME"},
		{"", "square.:1", "", "", "dot at its end"},
		{"", "example.com.:1", "", "", "dot at its end"},
		{"", "10.0.0.1:1", "", "", "an address"},
		{"", "[fd00::1]:1", "", "", "an address"},
		{"", "_square.other:1", "", "", "lower-case letters"},
		{"10.96.0.10", "square:1", "", "", "asks the DNS server 10.96.0.10:53"},
	} {
		target, err := endpoint.ParseTarget(c.server, c.target, "")
		if err != nil {
			t.Fatal(err)
		}
		src, err := New(WithNamespace("mine")).Open(target)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, ErrTarget) {
				t.Errorf("%s: error %v, want %q", c.target, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.target, err)
			continue
		}
		if s := src.(*source); s.name != c.name || s.namespace != c.namespace {
			t.Errorf("%s: %s in %s, want %s in %s", c.target, s.name, s.namespace, c.name, c.namespace)
		}
	}
}
