package dnsprobe_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// TestJSONIsStable holds the saved form of results against a golden file: snapshots of older builds must stay readable.
func TestJSONIsStable(t *testing.T) {
	zone := cluster(t, 40).Add(`note.default.svc.cluster.local. 5 IN TXT "a \"quoted\" word"`)
	server := dnstest.Serve(t, zone)
	forging := dnstest.Attack(t, dnstest.Forge(1, dnstest.RefuseEDNS(1)))
	client := dnsprobe.Client{EDNSSize: 512}
	var results []dnsprobe.Result
	for _, ask := range []struct {
		server string
		q      dnsprobe.Question
	}{
		{server.Addr(), a("alias.default.svc.cluster.local")},
		{server.Addr(), dnsprobe.Question{Name: "_grpc._tcp." + service, Type: dnsprobe.TypeSRV}},
		{server.Addr(), dnsprobe.Question{Name: "v6.default.svc.cluster.local", Type: dnsprobe.TypeAAAA}},
		{server.Addr(), dnsprobe.Question{Name: "note.default.svc.cluster.local", Type: dnsprobe.TypeTXT}},
		{server.Addr(), a("unknown." + service)},
		{forging.Addr(), a("name.test")},
	} {
		got, err := client.Ask(t.Context(), ask.server, ask.q)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, dnsprobe.Result{Server: ask.server, Question: got.Question, Answer: got})
	}
	results = append(results, dnsprobe.Result{Server: "kube-dns", Question: a("x."), Failure: dnsprobe.NewFailure(dnsprobe.ErrTimeout)})
	for i := range results {
		settle(&results[i])
	}
	got, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	kept := golden.Text(t, "testdata/results.json", string(got)+"\n")
	var back []dnsprobe.Result
	if err := json.Unmarshal([]byte(kept), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(results, back, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
		t.Errorf("what was read is not what was written (-want +got):\n%s", diff)
	}
}

// settle makes what differs from run to run the same.
func settle(r *dnsprobe.Result) {
	r.Server = "server"
	answers := []*dnsprobe.Answer{r.Answer}
	if r.Answer != nil {
		for i := range r.Answer.Earlier {
			answers = append(answers, &r.Answer.Earlier[i])
		}
	}
	for _, answer := range answers {
		if answer != nil {
			answer.Server, answer.RTT = "server", 1500*time.Microsecond
			if answer.IgnoredWhy != nil {
				answer.IgnoredWhy = []string{"because"}
			}
		}
	}
}

func TestOutcome(t *testing.T) {
	soa := dnsprobe.Record{Name: "test.", Type: dnsprobe.TypeSOA, TTL: 60, SOA: &dnsprobe.SOA{Minimum: 7}}
	ns := dnsprobe.Record{Name: "test.", Type: dnsprobe.TypeNS, Data: "ns.test."}
	found := answerOf(dnsprobe.TypeA, "10.0.0.1").Records
	chaos := found[0]
	chaos.Class = 3
	tests := map[string]struct {
		answer dnsprobe.Answer
		want   dnsprobe.Outcome
	}{
		"found":             {dnsprobe.Answer{Records: found}, dnsprobe.OutcomeFound},
		"other class":       {dnsprobe.Answer{Records: []dnsprobe.Record{chaos}}, dnsprobe.OutcomeNoData},
		"empty":             {dnsprobe.Answer{}, dnsprobe.OutcomeNoData},
		"SOA":               {dnsprobe.Answer{Authority: []dnsprobe.Record{soa}}, dnsprobe.OutcomeNoData},
		"SOA and NS":        {dnsprobe.Answer{Authority: []dnsprobe.Record{ns, soa}}, dnsprobe.OutcomeNoData},
		"NS alone":          {dnsprobe.Answer{Authority: []dnsprobe.Record{ns}}, dnsprobe.OutcomeReferral},
		"NS, authoritative": {dnsprobe.Answer{Authority: []dnsprobe.Record{ns}, Flags: dnsprobe.Flags{Authoritative: true}}, dnsprobe.OutcomeNoData},
		"NXDOMAIN wins":     {dnsprobe.Answer{Rcode: dnsprobe.RcodeNameError, Records: found}, dnsprobe.OutcomeNXDomain},
		"unknown code":      {dnsprobe.Answer{Rcode: 99}, dnsprobe.OutcomeRejected},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.answer.Question = a("s.test.")
			if got := test.answer.Outcome(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	any := dnsprobe.Answer{Question: dnsprobe.Question{Name: "s.test.", Type: 255}, Records: found}
	if len(any.Final()) != 1 {
		t.Error("ANY does not take an A record")
	}
}

// TestTTLOfAChain has a CNAME that leads elsewhere beside the one that counts.
func TestTTLOfAChain(t *testing.T) {
	server := dnstest.Attack(t, dnstest.Change(func(m *dns.Msg) {
		m.Answer = nil
		for _, text := range []string{"s.test. 40 IN CNAME c.test.", "other.test. 1 IN CNAME c.test.", "c.test. 60 IN A 10.0.0.1"} {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
	}))
	got, err := new(dnsprobe.Client).Ask(t.Context(), server.Addr(), a("s.test"))
	if err != nil {
		t.Fatal(err)
	}
	if ttl, ok := got.TTL(); !ok || ttl != 40*time.Second {
		t.Errorf("TTL %v, %v", ttl, ok)
	}
}

func TestNames(t *testing.T) {
	for _, text := range []string{"A", "AAAA", "SRV", "CNAME", "HTTPS", "TYPE0", "TYPE65280", "TYPE65535"} {
		var got dnsprobe.Type
		if err := got.UnmarshalText([]byte(text)); err != nil || got.String() != text {
			t.Errorf("type %s became %s, error %v", text, got, err)
		}
	}
	for _, text := range []string{"NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "NOTIMP", "BADVERS", "RCODE99"} {
		var got dnsprobe.Rcode
		if err := got.UnmarshalText([]byte(text)); err != nil || got.String() != text {
			t.Errorf("response code %s became %s, error %v", text, got, err)
		}
	}
	for _, text := range []string{"", "TYPE", "TYPE65536", "TYPE-1", "BOGUS", "RCODE4096"} {
		var gotType dnsprobe.Type
		var gotRcode dnsprobe.Rcode
		if gotType.UnmarshalText([]byte(text)) == nil || gotRcode.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is read as type %s or response code %s", text, gotType, gotRcode)
		}
	}
}
