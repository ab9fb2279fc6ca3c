package live_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// speaking gives the world's Service IP families. A pod has an address of each, and the Service a slice of each, whose endpoints are the
// same pods.
func (w *world) speaking(headless bool, families ...corev1.IPFamily) {
	w.svc.Spec.IPFamilies = families
	w.svc.Spec.ClusterIPs = nil
	four := w.svc.Slice(w.pods...)
	w.srv.Delete(four)
	for _, f := range families {
		sl := four.DeepCopy()
		sl.Name, sl.AddressType = fmt.Sprintf("square-%s", map[corev1.IPFamily]string{corev1.IPv4Protocol: "four", corev1.IPv6Protocol: "six"}[f]), discoveryv1.AddressType(f)
		ip := "10.96.0.7"
		if f == corev1.IPv6Protocol {
			ip = "fd00:10:96::7"
		}
		w.svc.Spec.ClusterIPs = append(w.svc.Spec.ClusterIPs, ip)
		for i := range sl.Endpoints {
			if f == corev1.IPv6Protocol {
				sl.Endpoints[i].Addresses = []string{sixth(i)}
			}
		}
		w.srv.Set(sl)
	}
	if headless {
		w.svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
	}
	w.svc.Spec.ClusterIP = w.svc.Spec.ClusterIPs[0]
	w.srv.Set(w.svc)
	for i, p := range w.pods {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: sixth(i)})
		w.srv.Set(p)
	}
}

// sixth is a pod's address of the sixth version. The last one is written long, as no server would send it.
func sixth(i int) string {
	return []string{"fd00:10:244::1", "fd00:10:244::2", "fd00:10:244:0:0:0:0:3"}[i]
}

// records are the zone's for the addresses of one family, less the first few.
func (w *world) records(headless bool, family corev1.IPFamily, less int) []string {
	kind, ips := "A", []string{"10.96.0.7"}
	if family == corev1.IPv6Protocol {
		kind, ips = "AAAA", []string{"fd00:10:96::7"}
	}
	if headless {
		ips = nil
		for i, p := range w.pods {
			ip := p.Status.PodIP
			if kind == "AAAA" {
				ip = sixth(i)
			}
			ips = append(ips, ip)
		}
	}
	var out []string
	for _, ip := range ips[less:] {
		out = append(out, name+" 30 IN "+kind+" "+netip.MustParseAddr(ip).String())
	}
	return out
}

// TestFamilies: each family that the Service has is asked for, compared with the slices of that family, and no other.
func TestFamilies(t *testing.T) {
	t.Parallel()
	const four, six = corev1.IPv4Protocol, corev1.IPv6Protocol
	for title, c := range map[string]struct {
		headless bool
		families []corev1.IPFamily
		less     map[corev1.IPFamily]int // records that DNS lacks
		rounds   int
	}{
		"IPv6":                          {false, []corev1.IPFamily{six}, nil, 1},
		"IPv6 headless":                 {true, []corev1.IPFamily{six}, nil, 1},
		"both":                          {false, []corev1.IPFamily{four, six}, nil, 1},
		"both, IPv6 first":              {false, []corev1.IPFamily{six, four}, nil, 1},
		"both headless":                 {true, []corev1.IPFamily{four, six}, nil, 1},
		"both headless, one AAAA lacks": {true, []corev1.IPFamily{four, six}, map[corev1.IPFamily]int{six: 1}, 2},
		"both headless, one A lacks":    {true, []corev1.IPFamily{four, six}, map[corev1.IPFamily]int{four: 1}, 2},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.speaking(c.headless, c.families...)
			var records []string
			for _, f := range c.families {
				records = append(records, w.records(c.headless, f, c.less[f])...)
			}
			w.dnsServes(t, dnsA, records...)
			w.dnsServes(t, dnsB, records...)
			server := grpcServer(t)
			for i := range w.pods {
				w.nodes.Listen(w.podName(i), 50051, server)
			}
			snap := w.run(t, context.Background(), live.DNS(w.options()), live.Ports(w.options()))

			asked := map[string]bool{}
			rounds := 0
			for _, a := range snap.DNS.Value {
				rounds = max(rounds, a.Round)
				if a.Type != "SRV" {
					asked[a.Type] = true
				}
				if a.Error != "" {
					t.Errorf("%+v", a)
				}
			}
			var want []string
			for _, f := range c.families {
				want = append(want, map[corev1.IPFamily]string{four: "A", six: "AAAA"}[f])
			}
			slices.Sort(want)
			if got := sortedKeys(asked); !slices.Equal(got, want) || rounds != c.rounds {
				t.Errorf("asked for %v in %d rounds, want %v in %d", got, rounds, want, c.rounds)
			}

			v, ok := snap.View(diagnose.Key{Namespace: ns, Name: "square"})
			if !ok || len(v.Ready()) != 3 {
				t.Fatalf("%d endpoints, want one for each pod", len(v.Ready()))
			}
			for _, e := range v.Ready() {
				if len(e.IPs) != len(c.families) {
					t.Errorf("%+v, want an address of each family", e)
				}
			}
			if !snap.Ports.Known() || len(snap.Ports.Value) != 3 || snap.Ports.Value[0].Proto != "grpc" {
				t.Errorf("a port-forward goes to the pod, whatever its addresses: %+v", snap.Ports)
			}
			if len(snap.Gaps) > 0 {
				t.Errorf("gaps %+v", snap.Gaps)
			}
		})
	}
}

// TestProbeTargetsOfFamilies: addresses of the sixth version stand in brackets.
func TestProbeTargetsOfFamilies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.speaking(false, corev1.IPv6Protocol)
	w.working(t, nil)
	o := w.options()
	o.Via = []string{"clusterip", "pods"}
	snap := w.run(t, context.Background(), live.Probe(o))
	if !snap.Probes.Known() {
		t.Fatalf("%+v", snap.Probes.Status)
	}
	got := targetsOf(probeAgent(t, w))
	if want := []string{"[fd00:10:96::7]:6565"}; !slices.Equal(got["clusterip"], want) {
		t.Errorf("%v, want %v", got["clusterip"], want)
	}
	if len(got["pods"]) != 3 || !slices.Contains(got["pods"], "[fd00:10:244::1]:50051") {
		t.Errorf("%v", got["pods"])
	}
}
