package dnsprobe_test

import (
	"fmt"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// BenchmarkAsk is a whole exchange with a server in the same process, whose work is in the numbers.
func BenchmarkAsk(b *testing.B) {
	for _, n := range []int{3, 300} {
		server := dnstest.Serve(b, cluster(b, n))
		for _, transport := range []dnsprobe.Transport{dnsprobe.UDP, dnsprobe.TCP} {
			b.Run(fmt.Sprintf("%s/%d", transport, n), func(b *testing.B) {
				client := dnsprobe.Client{Transport: transport, KeepTruncated: true}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := client.Ask(b.Context(), server.Addr(), a(service)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPredictUDP(b *testing.B) {
	server := dnstest.Serve(b, cluster(b, 300))
	full, err := (&dnsprobe.Client{}).Ask(b.Context(), server.Addr(), a(service))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dnsprobe.PredictUDP(full); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	server := dnstest.Serve(b, cluster(b, 300))
	full, err := (&dnsprobe.Client{}).Ask(b.Context(), server.Addr(), a(service))
	if err != nil {
		b.Fatal(err)
	}
	var want []dnsprobe.Endpoint
	for _, addr := range pods(300) {
		want = append(want, dnsprobe.Endpoint{Address: addr, Port: 6565})
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := dnsprobe.Compare(full, want); !got.Equal() {
			b.Fatal(got)
		}
	}
}
