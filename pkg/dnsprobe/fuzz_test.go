package dnsprobe

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// fuzzAsked is what the seeds in testdata answer.
func fuzzAsked() asked {
	return asked{id: 0x1234, question: Question{Name: "s.test.", Type: TypeA}, edns: 1232}
}

// FuzzDecode feeds the whole path from octets to Answer, and then everything that is derived from an Answer.
func FuzzDecode(f *testing.F) {
	for _, wire := range seedMessages(f) {
		f.Add(wire, uint16(TypeA))
	}
	f.Fuzz(func(t *testing.T, wire []byte, qtype uint16) {
		s := fuzzAsked()
		s.question.Type = Type(qtype)
		v, err := verify(wire, s)
		if err != nil {
			if errors.Is(err, ErrSpoofed) == errors.Is(err, ErrMalformed) {
				t.Fatalf("verify: %v is not exactly one of spoofed and malformed", err)
			}
			return
		}
		a, err := decode(v, s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("decode: %v", err)
			}
			return
		}
		if len(a.Chain) > len(a.Records) || len(a.Final()) > len(a.Records) {
			t.Fatalf("more links or final records than records: %+v", a)
		}
		sameAfterJSON(t, a)
		Compare(a, []Endpoint{{Address: netip.MustParseAddr("10.0.0.1")}})
		a.TTL()
		checkPrediction(t, a)
	})
}

func sameAfterJSON(t *testing.T, a *Answer) {
	t.Helper()
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var back Answer
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*a, back) {
		t.Fatalf("saved %+v, read %+v", *a, back)
	}
}

// FuzzPredictUDP takes Answers as a saved snapshot might hold them, which nobody vouches for.
func FuzzPredictUDP(f *testing.F) {
	for _, wire := range seedMessages(f) {
		v, err := verify(wire, fuzzAsked())
		if err != nil {
			continue
		}
		if a, err := decode(v, fuzzAsked()); err == nil {
			text, err := json.Marshal(a)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var a Answer
		if json.Unmarshal(text, &a) == nil {
			checkPrediction(t, &a)
		}
	})
}

// checkPrediction demands what holds for every answer: nothing grows by cutting, and more room never loses anything.
func checkPrediction(t *testing.T, a *Answer) {
	t.Helper()
	before, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	predicted, err := PredictUDP(a, 100, 512, 1232, 4096, 65535)
	if err != nil {
		if !errors.Is(err, ErrNotWhole) {
			t.Fatalf("predict: %v", err)
		}
		return
	}
	for i, p := range predicted {
		if p.PredictedRecords > p.Records || p.PredictedAddresses > p.Addresses {
			t.Fatalf("gained by cutting: %+v", p)
		}
		if !p.PredictedTruncated && (p.PredictedRecords != p.Records || p.PredictedAddresses != p.Addresses) {
			t.Fatalf("lost without truncation: %+v", p)
		}
		// The OPT record takes 11 octets that a client without EDNS(0) has for records.
		if i > 0 && p.UDPSize > 600 && p.PredictedRecords < predicted[i-1].PredictedRecords {
			t.Fatalf("less in %d octets than in %d", p.UDPSize, predicted[i-1].UDPSize)
		}
	}
	if after, err := json.Marshal(a); err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the answer was changed by predicting, error %v", err)
	}
}

// FuzzParseResolvConf holds every file against the limits that the parser promises.
func FuzzParseResolvConf(f *testing.F) {
	f.Add("search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n", "square")
	f.Add("domain a.test.\nnameserver fe80::1%eth0\noptions timeout:0 attempts:9 rotate use-vc edns0\n", "a.b")
	f.Add("search . a..b\n nameserver 1\n;x\n#y\noptions ndots: no-tld-query\n", "a\\.b")
	f.Add("", "..")
	f.Fuzz(func(t *testing.T, text, name string) {
		conf, err := ParseResolvConf(strings.NewReader(text))
		if err != nil {
			return
		}
		if conf.Ndots < 0 || conf.Ndots > maxNdots || conf.Attempts < 1 || conf.Attempts > maxAttempts ||
			conf.Timeout <= 0 || conf.Timeout.Seconds() > maxTimeout || len(conf.Nameservers) > maxNameservers {
			t.Fatalf("beyond the limits: %+v", conf)
		}
		candidates := conf.Candidates(name)
		if len(candidates) > len(conf.Search)+1 {
			t.Fatalf("%d candidates for %d domains", len(candidates), len(conf.Search))
		}
		for _, candidate := range candidates {
			if _, err := canonicalQuestion(Question{Name: candidate, Type: TypeA}); err != nil {
				t.Fatalf("candidate %q cannot be asked: %v", candidate, err)
			}
			if !dns.IsFqdn(candidate) {
				t.Fatalf("candidate %q is not fully qualified", candidate)
			}
		}
	})
}

// seedMessages returns answers to fuzzAsked of every shape that the package tells apart.
func seedMessages(f *testing.F) [][]byte {
	f.Helper()
	records := [][]string{
		{"s.test. 30 IN A 10.0.0.1", "s.test. 30 IN A 10.0.0.2"},
		{"s.test. 30 IN CNAME b.test.", "b.test. 20 IN CNAME c.test.", "c.test. 10 IN A 10.0.0.1"},
		{"s.test. 30 IN CNAME b.test.", "b.test. 20 IN CNAME s.test."},
		{"s.test. 30 IN SRV 1 2 3 a.test.", "s.test. 30 IN AAAA ::ffff:1.2.3.4", `s.test. 30 CH TXT "a b" "\000"`},
		{`s.test. 30 IN MX 10 m.test.`, `s.test. 30 IN TYPE65280 \# 2 abcd`, `s.test. 30 IN HTTPS 1 . alpn=h2`},
		nil,
	}
	var out [][]byte
	for i, section := range records {
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: 0x1234, Response: true}, Compress: i%2 == 0}
		m.Question = []dns.Question{{Name: "S.test.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
		for _, text := range section {
			rr, err := dns.NewRR(text)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		soa, err := dns.NewRR("test. 60 IN SOA ns.test. h.test. 1 2 3 4 5")
		if err != nil {
			f.Fatal(err)
		}
		m.Ns = []dns.RR{soa}
		m.SetEdns0(1232, false)
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		cut := append([]byte(nil), wire[:len(wire)-3]...)
		cut[2] |= 2 // TC
		out = append(out, wire, wire[:len(wire)-3], cut)
	}
	return append(out, []byte{0x12, 0x34, 0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0x12, 0x34})
}
