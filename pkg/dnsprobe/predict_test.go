package dnsprobe_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// TestPredictUDPAgainstAServer holds the prediction from the TCP answer against what the same server then sends over UDP.
func TestPredictUDPAgainstAServer(t *testing.T) {
	srv := dnsprobe.Question{Name: "_grpc._tcp." + service, Type: dnsprobe.TypeSRV}
	for _, n := range []int{1, 5, 28, 29, 30, 72, 73, 100, 251, 252, 300} {
		server := dnstest.Serve(t, cluster(t, n))
		for _, q := range []dnsprobe.Question{a(service), a("alias.default.svc.cluster.local."), a("nobody." + service), srv} {
			t.Run(fmt.Sprintf("%s %s %d", q.Name, q.Type, n), func(t *testing.T) {
				full, err := (&dnsprobe.Client{Transport: dnsprobe.TCP}).Ask(t.Context(), server.Addr(), q)
				if err != nil {
					t.Fatal(err)
				}
				predicted, err := dnsprobe.PredictUDP(full)
				if err != nil || len(predicted) != 3 {
					t.Fatalf("error %v, %d predictions", err, len(predicted))
				}
				for _, p := range predicted {
					compareWithUDP(t, server.Addr(), q, p, full)
				}
			})
		}
	}
}

func compareWithUDP(t *testing.T, server string, q dnsprobe.Question, p dnsprobe.PredictedUDP, full *dnsprobe.Answer) {
	t.Helper()
	client := dnsprobe.Client{KeepTruncated: true}
	if p.EDNS {
		client.EDNSSize = p.UDPSize
	}
	got, err := client.Ask(t.Context(), server, q)
	if err != nil {
		t.Fatal(err)
	}
	endpoints, _ := got.Endpoints()
	all, _ := full.Endpoints()
	if p.PredictedTruncated != got.Flags.Truncated || p.PredictedRecords != len(got.Final()) ||
		p.PredictedAddresses != len(endpoints) || p.Records != len(full.Final()) || p.Addresses != len(all) {
		t.Errorf("predicted %+v; got truncated %v, %d records, %d addresses", p, got.Flags.Truncated, len(got.Final()), len(endpoints))
	}
	// A server may compress what would fit without; it never sends more than predicted.
	if got.Size > p.PredictedSize || p.PredictedTruncated && got.Size != p.PredictedSize || p.PredictedSize > int(p.UDPSize) {
		t.Errorf("predicted %d octets for %d, got %d", p.PredictedSize, p.UDPSize, got.Size)
	}
}

// TestPredictUDPNumbers pins numbers that follow from the wire format, and that were seen of CoreDNS in a real cluster. An A record
// weighs 16 octets (RFC 1035 section 4.1.3, owner compressed); an SRV record 18 and its target, which is never compressed
// (RFC 2782), here 10 letters and digits below the Service's name.
func TestPredictUDPNumbers(t *testing.T) {
	const named = "square-service.default.svc.cluster.local."
	zone := cluster(t, 300).Headless(named, "grpc", 6565, pods(300)...)
	server := dnstest.Serve(t, zone)
	client := dnsprobe.Client{Transport: dnsprobe.TCP}
	for _, test := range []struct {
		question dnsprobe.Question
		want     [3]int // records for 512, 1232 and 4096
	}{
		{a(service), [3]int{28, 73, 252}},
		{a(named), [3]int{28, 72, 251}},
		{dnsprobe.Question{Name: "_grpc._tcp." + service, Type: dnsprobe.TypeSRV}, [3]int{7, 18, 63}},
	} {
		full, err := client.Ask(t.Context(), server.Addr(), test.question)
		if err != nil {
			t.Fatal(err)
		}
		predicted, err := dnsprobe.PredictUDP(full)
		if err != nil {
			t.Fatal(err)
		}
		var got [3]int
		for i, p := range predicted {
			got[i] = p.PredictedRecords
			if !p.PredictedTruncated {
				t.Errorf("%s: not truncated at %d", test.question.Type, p.UDPSize)
			}
		}
		if got != test.want {
			t.Errorf("%s %s: %v records, want %v", test.question.Name, test.question.Type, got, test.want)
		}
	}
}

func TestPredictUDPNeedsAWholeAnswer(t *testing.T) {
	server := dnstest.Serve(t, cluster(t, 100))
	cut, err := (&dnsprobe.Client{KeepTruncated: true}).Ask(t.Context(), server.Addr(), a(service))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dnsprobe.PredictUDP(cut); !errors.Is(err, dnsprobe.ErrNotWhole) {
		t.Errorf("truncated: error %v", err)
	}
	for _, r := range []dnsprobe.Record{
		{Name: "a.test.", Type: dnsprobe.TypeA},
		{Name: "a.test.", Type: dnsprobe.TypeTXT},
		{Name: "a.test.", Type: dnsprobe.TypeTXT, Data: "$INCLUDE /etc/passwd\""},
		{Name: "a.test.", Type: dnsprobe.TypeSOA},
	} {
		broken := &dnsprobe.Answer{Question: a("a.test."), Records: []dnsprobe.Record{r}}
		if _, err := dnsprobe.PredictUDP(broken); !errors.Is(err, dnsprobe.ErrNotWhole) {
			t.Errorf("record %+v: error %v", r, err)
		}
	}
}

// TestPredictUDPOtherTypes has records that are kept in their text form.
func TestPredictUDPOtherTypes(t *testing.T) {
	zone := dnstest.NewZone(t, "test.").Add(`t.test. 5 IN TXT "one" "two ; \"three\""`, `m.test. 5 IN MX 10 mail.test.`,
		`u.test. 5 IN TYPE65280 \# 3 abcdef`)
	server := dnstest.Serve(t, zone)
	for name, qtype := range map[string]uint16{"t.test.": dns.TypeTXT, "m.test.": dns.TypeMX, "u.test.": 65280} {
		q := dnsprobe.Question{Name: name, Type: dnsprobe.Type(qtype)}
		full, err := (&dnsprobe.Client{}).Ask(t.Context(), server.Addr(), q)
		if err != nil {
			t.Fatal(err)
		}
		predicted, err := dnsprobe.PredictUDP(full, 512)
		if err != nil {
			t.Fatal(err)
		}
		compareWithUDP(t, server.Addr(), q, predicted[0], full)
		if predicted[0].PredictedRecords != 1 {
			t.Errorf("%s: %+v", name, predicted[0])
		}
	}
}
