//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// TestOtherDomain: a DNS that serves the cluster's names in another domain is understood, and so are targets below it.
func TestOtherDomain(t *testing.T) {
	s := newSpace(t)
	const domain = "k8s.acme.example"
	s.apply(server("backend"), service("backend"), client("caller", "dns:///backend."+s.ns+".svc."+domain+":6565"))
	s.rollout("backend", "caller")
	s.settled()
	svc, err := s.client.CoreV1().Services(s.ns).Get(s.ctx, "backend", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(svc.Spec.IPFamilies) != 1 || svc.Spec.IPFamilies[0] != corev1.IPv4Protocol {
		t.Skip("the records below are those of IPv4")
	}
	name := fmt.Sprintf("backend.%s.svc.%s.", s.ns, domain)
	s.runDNS("acme-dns", fmt.Sprintf(`.:53 {
    ready
    template IN A %[1]s {
        match "^%[2]s$"
        answer "{{ .Name }} 30 IN A %[3]s"
    }
    template IN SRV %[1]s {
        answer "{{ .Name }} 30 IN SRV 0 100 %[4]d %[1]s"
    }
    template IN PTR in-addr.arpa. {
        answer "{{ .Name }} 30 IN PTR %[1]s"
    }
    template ANY ANY . {
        rcode NXDOMAIN
    }
}
`, name, strings.ReplaceAll(name, ".", `\.`), svc.Spec.ClusterIP, port))
	asking := []string{"--dns-namespace", s.ns, "--dns-selector", "app=acme-dns"}
	var rep diagnose.Report
	s.eventually("the domain", time.Minute, func() (bool, string) {
		_, o := s.diagnose("backend", asking...)
		rep = s.report(o)
		return rep.Cluster.Domain == domain && rep.Cluster.DomainFrom == diagnose.DomainFromDNS, o.String()
	})
	r := rep.Services[0]
	if len(findings(r, "clusterip-pinned")) != 1 || len(findings(r, "dns-disagrees")) != 0 || len(rep.Gaps) != 0 {
		t.Errorf("findings %v, gaps %s", found(r), jsonText(rep.Gaps))
	}
	_, o := s.diagnose("backend", append(asking, "--cluster-domain", "cluster.local")...)
	if rep = s.report(o); rep.Cluster.Domain != "cluster.local" || rep.Cluster.DomainFrom != diagnose.DomainGiven {
		t.Errorf("a domain that is given is believed: %s", jsonText(rep.Cluster))
	}
	_, o = s.diagnose("backend")
	if rep = s.report(o); rep.Cluster.DomainFrom != diagnose.DomainFromDNS {
		t.Errorf("the cluster's own DNS answers for its domain: %s", jsonText(rep.Cluster))
	}
}
