package live_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// acme is a server of the whole tree, with the Service in another domain; its reverse record says what is given, or nothing.
func (w *world) acme(t *testing.T, pod, says string) *dnstest.Server {
	t.Helper()
	zone := dnstest.NewZone(t, ".")
	for _, r := range w.rightRecords() {
		zone.Add(strings.ReplaceAll(r, "cluster.local.", "k8s.acme.example."))
	}
	if says != "" {
		back, err := dns.ReverseAddr(w.svc.Spec.ClusterIP)
		if err != nil {
			t.Fatal(err)
		}
		zone.Add(back + " 30 IN PTR " + says)
	}
	s := dnstest.Serve(t, zone)
	w.nodes.Listen(pod, 53, s.Addr())
	return s
}

func askedFor(s *dnstest.Server, kind uint16) bool {
	return slices.ContainsFunc(s.Queries(), func(q dnstest.Query) bool { return q.Type == kind })
}

// TestDomain: where no Service is known below cluster.local, the reverse record of one tells the domain, without a further request to
// the API server.
func TestDomain(t *testing.T) {
	t.Parallel()
	const right = "square.default.svc.k8s.acme.example."
	for name, c := range map[string]struct {
		given  string
		says   string
		domain string
		from   diagnose.DomainSource
		gap    bool
	}{
		"told":        {"", right, "k8s.acme.example", diagnose.DomainFromDNS, false},
		"not told":    {"", "", "cluster.local", diagnose.DomainAssumed, true},
		"of another":  {"", "else.default.svc.k8s.acme.example.", "cluster.local", diagnose.DomainAssumed, true},
		"not a name":  {"", `square.default.svc.\027\091evil.`, "cluster.local", diagnose.DomainAssumed, true},
		"no domain":   {"", "square.default.svc.", "cluster.local", diagnose.DomainAssumed, true},
		"given":       {"k8s.acme.example", right, "k8s.acme.example", diagnose.DomainGiven, false},
		"given wrong": {"other.example", right, "other.example", diagnose.DomainGiven, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first, second := w.acme(t, dnsA, c.says), w.acme(t, dnsB, c.says)
			snap := w.collect(t, context.Background(), collect.Options{Namespace: ns, Names: []string{"square"}, Domain: c.given}, live.DNS(w.options()))
			if snap.Cluster.Domain != c.domain || snap.Cluster.DomainFrom != c.from {
				t.Errorf("%+v, want %s by %s", snap.Cluster, c.domain, c.from)
			}
			if _, said := gaps(snap, diagnose.FactDNS)["the cluster's domain"]; said != c.gap {
				t.Errorf("gaps %+v", snap.Gaps)
			}
			if n := asked(w.srv, "list", ""); n != 2 || snap.Cost.Streams != 2 {
				t.Errorf("%d lists of pods, cost %+v: learning the domain costs none", n, snap.Cost)
			}
			if c.given != "" && (askedFor(first, dns.TypePTR) || askedFor(second, dns.TypePTR)) {
				t.Error("a domain that was given is not asked for")
			}
			for _, a := range snap.DNS.Value {
				if good := c.domain == "k8s.acme.example"; !strings.HasSuffix(a.Name, "."+c.domain+".") || (a.Rcode == "NOERROR") != good {
					t.Errorf("%+v", a)
				}
			}
		})
	}
}

// TestDomainThatWorks is not asked for: the answers below it are proof enough.
func TestDomainThatWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.dnsServes(t, dnsA, w.rightRecords()...)
	w.acme(t, dnsB, "square.default.svc.k8s.acme.example.")
	snap := w.run(t, context.Background(), live.DNS(w.options()))
	if snap.Cluster.Domain != "cluster.local" || snap.Cluster.DomainFrom != diagnose.DomainFromDNS || askedFor(good, dns.TypePTR) {
		t.Errorf("%+v", snap.Cluster)
	}
	if len(snap.DNS.Value) != 6 { // two of the good one; two, twice, of the one that disagrees with it
		t.Errorf("%+v", snap.DNS.Value)
	}
}

// TestDomainOfHeadless: without any cluster IP an endpoint's reverse record says the same.
func TestDomainOfHeadless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.svc.Spec.ClusterIP, w.svc.Spec.ClusterIPs = "None", []string{"None"}
	w.srv.Set(w.svc)
	zone := dnstest.NewZone(t, ".")
	for _, p := range w.pods {
		back, err := dns.ReverseAddr(p.Status.PodIP)
		if err != nil {
			t.Fatal(err)
		}
		zone.Add(back+" 30 IN PTR "+strings.ReplaceAll(p.Status.PodIP, ".", "-")+".square.default.svc.k8s.acme.example.",
			"square.default.svc.k8s.acme.example. 30 IN A "+p.Status.PodIP)
	}
	for _, pod := range []string{dnsA, dnsB} {
		w.nodes.Listen(pod, 53, dnstest.Serve(t, zone).Addr())
	}
	snap := w.run(t, context.Background(), live.DNS(w.options()))
	if snap.Cluster.Domain != "k8s.acme.example" || snap.Cluster.DomainFrom != diagnose.DomainFromDNS {
		t.Errorf("%+v, gaps %+v", snap.Cluster, snap.Gaps)
	}
}

// TestTargetsInTheLearntDomain: a name in the cluster's own domain that belongs to no Service is a mistake; in a foreign one it is
// somebody else's.
func TestTargetsInTheLearntDomain(t *testing.T) {
	t.Parallel()
	client := kubetest.Deployment(ns, "client").Env("A", "dns:///square.default.svc.k8s.acme.example:6565").
		Env("B", "dns:///gone.default.svc.k8s.acme.example:6565").Env("C", "dns:///gone.default.svc.cluster.local:6565")
	w := newWorld(t, client)
	w.acme(t, dnsA, "square.default.svc.k8s.acme.example.")
	w.acme(t, dnsB, "square.default.svc.k8s.acme.example.")
	read := func(stages ...collect.Stage) map[string]string {
		t.Helper()
		out := map[string]string{}
		for _, wl := range w.run(t, context.Background(), stages...).Workloads.Value {
			for _, tg := range wl.Targets {
				out[tg.Name] = tg.Kind
			}
		}
		return out
	}
	if got := read(); got["A"] != target.KindService || got["B"] == target.KindMissing || got["C"] != target.KindMissing {
		t.Errorf("while cluster.local is assumed: %v", got)
	}
	if got := read(live.DNS(w.options())); got["A"] != target.KindService || got["B"] != target.KindMissing || got["C"] == target.KindMissing {
		t.Errorf("when the domain is known: %v", got)
	}
}
