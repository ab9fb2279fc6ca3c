//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// dnsWatch is the pod of TestDNSSource.
const dnsWatch = "dnswatch"

// TestDNSSource runs the refresher's DNS source in a pod, against the cluster's
// CoreDNS: what it finds is what the slices say.
func TestDNSSource(t *testing.T) {
	s := newSpace(t)
	dns, err := s.client.CoreV1().Services(metav1.NamespaceSystem).Get(s.ctx, "kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// plain: headless. single: headless with one endpoint. mapped: 80 on a
	// ClusterIP, with a headless twin whose pods listen on 6565. alone: without
	// one. several: two ports. unclear: two ports, of which nothing tells.
	// nameless: one port without a name.
	s.apply(
		service("plain", headless, noSelector), slice("plain", 0, endpoint("198.18.0.1"), endpoint("198.18.0.2"), endpoint("198.18.0.3")),
		service("single", headless, noSelector), slice("single", 0, endpoint("198.18.1.1")),
		service("mapped", noSelector, ports("grpc", 80)), service("mapped-headless", headless, noSelector),
		slice("mapped-headless", 0, endpoint("198.18.2.1"), endpoint("198.18.2.2")),
		service("alone", noSelector, ports("grpc", 80)),
		service("several", noSelector, ports("grpc", 80, "metrics", 90)), service("several-headless", headless, noSelector, ports("grpc", 80, "metrics", 90)),
		with(slice("several-headless", 0, endpoint("198.18.3.1")), alsoOn("metrics", 9090)),
		service("unclear", noSelector, ports("one", 80, "two", 90)), service("unclear-headless", headless, noSelector, ports("one", 80, "two", 90)),
		with(slice("unclear-headless", 0, endpoint("198.18.4.1")), alsoOn("two", 9090)),
		service("nameless", noSelector, ports("", 80)), service("nameless-headless", headless, noSelector, ports("", 80)),
		with(slice("nameless-headless", 0, endpoint("198.18.6.1")), func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = new(string) }),
	)
	s.apply(append(manyEndpoints("big", 300), service("big", headless, noSelector))...)
	vip := func(name string) string {
		svc, err := s.client.CoreV1().Services(s.ns).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return svc.Spec.ClusterIP
	}
	full := s.ns + ".svc.cluster.local"
	cases := []struct {
		target  string
		set     []string
		vip     string
		twin    string
		warning string
	}{
		{target: "plain:6565", set: []string{"198.18.0.1:6565", "198.18.0.2:6565", "198.18.0.3:6565"}},
		{target: "plain." + s.ns + ":grpc", set: []string{"198.18.0.1:6565", "198.18.0.2:6565", "198.18.0.3:6565"}},
		{target: dns.Spec.ClusterIP + "/plain." + full + ".:grpc", set: []string{"198.18.0.1:6565", "198.18.0.2:6565", "198.18.0.3:6565"}},
		{target: "plain:80", set: []string{"198.18.0.1:80", "198.18.0.2:80", "198.18.0.3:80"}, warning: "no endpoint of it has port 80: use 6565"},
		{target: "single:6565", set: []string{"198.18.1.1:6565"}},
		{target: "single:grpc", set: []string{"198.18.1.1:6565"}},
		{target: "mapped:80", set: []string{"198.18.2.1:6565", "198.18.2.2:6565"}, vip: vip("mapped"), twin: "mapped-headless." + full},
		{target: "mapped:grpc", set: []string{"198.18.2.1:6565", "198.18.2.2:6565"}, vip: vip("mapped"), twin: "mapped-headless." + full},
		{target: "alone:80", set: []string{vip("alone") + ":80"}, vip: vip("alone")},
		{target: "alone:grpc", set: []string{vip("alone") + ":80"}, vip: vip("alone")},
		{target: "several:80", set: []string{"198.18.3.1:6565"}, vip: vip("several"), twin: "several-headless." + full},
		{target: "unclear:80", set: []string{vip("unclear") + ":80"}, vip: vip("unclear"), warning: "name the port in the target"},
		{target: "nameless:80", set: []string{"198.18.6.1:6565"}, vip: vip("nameless"), twin: "nameless-headless." + full},
		{target: "nameless-headless:80", set: []string{"198.18.6.1:80"}, warning: "no endpoint of it has port 80: use 6565"},
		{target: "big:6565"},
		{target: "big:grpc"},
	}
	var targets []string
	for _, c := range cases {
		targets = append(targets, c.target)
	}
	s.loadProgram("endpointwatch")
	s.startEndpointWatch(dnsWatch, "", append([]string{"dns"}, targets...)...)

	// Every target has told a verified Set, and the one with the twin what it is.
	var lines []seen
	s.eventually("a verified Set of each target", time.Minute, func() (bool, string) {
		lines = s.seen(dnsWatch)
		missing := slices.DeleteFunc(slices.Clone(targets), func(target string) bool {
			return slices.ContainsFunc(lines, func(l seen) bool { return l.Target == target && l.Verified })
		})
		return len(missing) == 0, fmt.Sprintf("none of %v yet; %+v", missing, lines)
	})
	for _, c := range cases {
		t.Run(c.target, func(t *testing.T) {
			var sets, virtual, warnings, errs []seen
			for _, l := range lines {
				switch {
				case l.Target != c.target:
				case l.Error != "":
					errs = append(errs, l)
				case l.VIP != "":
					virtual = append(virtual, l)
				case l.Warning != "":
					warnings = append(warnings, l)
				default:
					sets = append(sets, l)
				}
			}
			for _, got := range sets {
				if strings.HasPrefix(c.target, "big:") {
					t.Logf("%d endpoints in %d bytes", len(got.Set), got.Bytes)
					if len(got.Set) != 300 || got.Bytes < 4000 {
						t.Errorf("%d endpoints in %d bytes, want 300", len(got.Set), got.Bytes)
					}
				} else if !slices.Equal(got.Set, c.set) {
					t.Errorf("set %v (%s), want %v", got.Set, got.Reason, c.set)
				}
			}
			switch {
			case c.vip == "" && virtual != nil, c.vip != "" && (len(virtual) != 1 || virtual[0].VIP != c.vip || virtual[0].Twin != c.twin):
				t.Errorf("ClusterIPTarget %+v, want once VIP %q and twin %q", virtual, c.vip, c.twin)
			case c.warning == "" && warnings != nil, c.warning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0].Warning, c.warning)):
				t.Errorf("warnings %+v, want %q", warnings, c.warning)
			case errs != nil:
				t.Errorf("errors %+v", errs)
			}
		})
	}

	// All endpoints gone is NXDOMAIN to CoreDNS, for a headless Service.
	s.apply(slice("plain", 0))
	s.awaitSet("plain:6565", "NXDOMAIN")
	s.apply(slice("plain", 0, endpoint("198.18.0.1"), endpoint("198.18.0.4")))
	s.awaitSet("plain:6565", "198.18.0.1:6565 198.18.0.4:6565")
	s.awaitSet("plain."+s.ns+":grpc", "198.18.0.1:6565 198.18.0.4:6565")

	// A twin that is made later is found.
	s.apply(service("alone-headless", headless, noSelector), slice("alone-headless", 0, endpoint("198.18.5.1")))
	s.awaitSet("alone:80", "198.18.5.1:6565")
	s.awaitSet("alone:grpc", "198.18.5.1:6565")
}

// awaitSet waits until the last Set of a target is the one given, or empty for
// the reason given.
func (s *space) awaitSet(target, want string) {
	s.Helper()
	s.eventually(target+" to be "+want, time.Minute, func() (bool, string) {
		l := s.lastSeen(dnsWatch, target)
		last := l.Reason + strings.Join(l.Set, " ")
		return last == want, last
	})
}

// ports gives a Service these ports: names and numbers in turn.
func ports(pairs ...any) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports = nil
		for i := 0; i < len(pairs); i += 2 {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: pairs[i].(string), Port: int32(pairs[i+1].(int)), TargetPort: intstr.FromInt(port)})
		}
	}
}

// alsoOn gives a slice one more port.
func alsoOn(name string, number int32) func(*discoveryv1.EndpointSlice) {
	return func(s *discoveryv1.EndpointSlice) {
		tcp := corev1.ProtocolTCP
		if name == "two" { // the pair of "one"
			one := "one"
			s.Ports[0].Name = &one
		}
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &tcp})
	}
}
