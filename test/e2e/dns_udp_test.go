//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// TestPredictedTruncation holds what pkg/dnsprobe predicts for UDP against
// what the cluster's DNS really answers over UDP inside of the cluster. How
// many addresses fit depends on the length of the name.
func TestPredictedTruncation(t *testing.T) {
	s := newSpace(t)
	const addresses = 300
	names := []string{"b", "a-service-with-a-name-that-is-long-enough-to-cost-some-addresses"[:63]}
	for _, name := range names {
		s.apply(append(manyEndpoints(name, addresses), service(name, headless, noSelector))...)
		s.endpoints(name, addresses)
	}
	s.loadProgram("dnsask")
	dns, err := s.client.CoreV1().Services(metav1.NamespaceSystem).Get(s.ctx, "kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"A", "SRV"} {
		args := []string{dns.Spec.ClusterIP + ":53", typ}
		for _, name := range names {
			args = append(args, s.recordName(typ, name))
		}
		fits := map[string][]int{}
		for _, l := range s.witness(args, addresses) {
			for _, size := range l.Sizes {
				p := size.Predicted
				// A records all have one size. SRV records come in another order each time, and their targets differ in length.
				slack := map[string]int{"A": 0, "SRV": 2}[typ]
				if p.PredictedTruncated != size.Truncated || abs(p.PredictedRecords-size.Records) > slack || p.Records != addresses {
					t.Errorf("%s %s over UDP with %d bytes: %d records (truncated: %t) in %d bytes; predicted %s",
						typ, l.Name, p.UDPSize, size.Records, size.Truncated, size.Bytes, jsonText(p))
				}
				if size.Bytes > int(p.UDPSize) || !size.Truncated || size.Records == 0 {
					t.Errorf("%s %s: an answer of %d bytes for a buffer of %d, %d records, truncated: %t", typ, l.Name, size.Bytes, p.UDPSize, size.Records, size.Truncated)
				}
				fits[l.Name] = append(fits[l.Name], size.Records)
			}
		}
		t.Logf("%s records that fit into 512, 1232 and 4096 bytes: %v", typ, fits)
		short, long := fits[s.recordName(typ, names[0])], fits[s.recordName(typ, names[1])]
		if len(short) != 3 || len(long) != 3 || short[0] < long[0] || typ == "A" && short[0] == long[0] {
			t.Errorf("%s records that fit: %v for the short name, %v for the long one", typ, short, long)
		}
	}
}

func (s *space) recordName(typ, service string) string {
	name := fmt.Sprintf("%s.%s.svc.cluster.local.", service, s.ns)
	if typ == "SRV" {
		return "_grpc._tcp." + name
	}
	return name
}

func abs(n int) int { return max(n, -n) }

// sized is what dnsask prints of one name.
type sized struct {
	Name    string
	Records int
	Sizes   []struct {
		Predicted      dnsprobe.PredictedUDP
		Truncated      bool
		Records, Bytes int
	}
}

// witness runs dnsask in a pod until DNS knows all records.
func (s *space) witness(args []string, records int) []sized {
	s.Helper()
	var out []sized
	tries := 0
	s.eventually("DNS to know all records", 2*time.Minute, func() (bool, string) {
		tries++
		name := fmt.Sprintf("dnsask-%s-%d", strings.ToLower(args[1]), tries)
		s.until(programPod(name, "dnsask", args), corev1.PodSucceeded, corev1.PodFailed)
		text := s.kubectl("logs", name)
		var err error
		out, err = printed[sized](text)
		incomplete := slices.ContainsFunc(out, func(l sized) bool { return l.Records != records })
		return err == nil && !incomplete && len(out) == len(args)-2, text
	})
	return out
}
