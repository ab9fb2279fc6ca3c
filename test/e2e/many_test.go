//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// TestTenThousandEndpoints: ten full slices, made by hand. The text stays a page, the other forms have all of it, and DNS, which cannot say
// so much even over TCP, is said to be cut.
func TestTenThousandEndpoints(t *testing.T) {
	const slices, each = 10, 1000
	s := newSpace(t)
	s.apply(service("backend", headless, noSelector))
	for i := range slices {
		var es []discoveryv1.Endpoint
		for n := i * each; n < (i+1)*each; n++ {
			es = append(es, endpoint(fmt.Sprintf("198.18.%d.%d", n/250, 1+n%250)))
		}
		sl := slice("backend", i, es...)
		if _, err := s.client.DiscoveryV1().EndpointSlices(s.ns).Create(s.ctx, sl, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.endpoints("backend", slices*each)
	s.eventually("DNS to have more than it can say", startTime, func() (bool, string) {
		r, o := s.diagnose("backend")
		f := findings(r, "dns-truncated")
		return o.code == 1 && len(f) == 1 && strings.Contains(f[0].Summary, "does not even fit into TCP"), o.String()
	})

	began := time.Now()
	text := s.grpclb("diagnose", "svc/backend")
	took := time.Since(began)
	if lines := strings.Count(text.stdout, "\n"); lines > 60 || !strings.Contains(text.stdout, "9989 more") {
		t.Errorf("%d lines: %s", lines, text)
	}
	wide := s.grpclb("diagnose", "svc/backend", "-o", "wide", "--depth", "static")
	if n := strings.Count(wide.stdout, "198.18."); n != slices*each {
		t.Errorf("-o wide names %d endpoints", n)
	}
	r, o := s.diagnose("backend", "--depth", "static")
	if len(r.Spread.Rows) != slices*each {
		t.Errorf("-o json has %d rows", len(r.Spread.Rows))
	}
	if c := s.report(o).Cost; c != (diagnose.Cost{Lists: c.Lists, Gets: c.Gets}) || c.Lists > 15 {
		t.Errorf("it cost %+v", c)
	}
	t.Logf("the text took %s and is %d bytes, -o json is %d", took.Round(time.Millisecond), len(text.stdout), len(o.stdout))
	if took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}
