package dnstest_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
)

func zone(t testing.TB) *dnstest.Zone {
	addrs := make([]netip.Addr, 60)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
	}
	return dnstest.NewZone(t, "test.").Headless("s.ns.test.", "grpc", 6565, addrs...).
		Headless("six.ns.test.", "grpc", 6565, netip.MustParseAddr("fd00::1")).
		Add("alias.test. 5 IN CNAME s.ns.test.", "away.test. 5 IN CNAME example.com.", "ring.test. 5 IN CNAME ring.test.")
}

// TestServe asks with a client that shares nothing with the code that the server serves to test.
func TestServe(t *testing.T) {
	z := zone(t).Fail("fails.test.", dns.RcodeServerFailure)
	server := dnstest.Serve(t, z)
	tests := map[string]struct {
		name                      string
		qtype                     uint16
		network                   string
		edns                      uint16
		rcode, answers, ns, extra int
		truncated, authoritative  bool
	}{
		"all over TCP":          {name: "s.ns.test.", qtype: dns.TypeA, network: "tcp", answers: 60, authoritative: true},
		"cut over UDP":          {name: "s.ns.test.", qtype: dns.TypeA, network: "udp", answers: 30, truncated: true, authoritative: true},
		"all with EDNS":         {name: "s.ns.test.", qtype: dns.TypeA, network: "udp", edns: 1232, answers: 60, extra: 1, authoritative: true},
		"case does not matter":  {name: "S.nS.tEsT.", qtype: dns.TypeA, network: "tcp", answers: 60, authoritative: true},
		"CNAME":                 {name: "alias.test.", qtype: dns.TypeA, network: "tcp", answers: 61, authoritative: true},
		"CNAME out of the zone": {name: "away.test.", qtype: dns.TypeA, network: "tcp", answers: 1, authoritative: true},
		"CNAME to itself":       {name: "ring.test.", qtype: dns.TypeA, network: "tcp", answers: 8, authoritative: true},
		"SRV with addresses":    {name: "_grpc._tcp.s.ns.test.", qtype: dns.TypeSRV, network: "tcp", answers: 60, extra: 60, authoritative: true},
		"AAAA":                  {name: "six.ns.test.", qtype: dns.TypeAAAA, network: "udp", answers: 1, authoritative: true},
		"NODATA":                {name: "s.ns.test.", qtype: dns.TypeAAAA, network: "udp", ns: 1, authoritative: true},
		"names below":           {name: "ns.test.", qtype: dns.TypeA, network: "udp", ns: 1, authoritative: true},
		"NXDOMAIN":              {name: "no.test.", qtype: dns.TypeA, network: "udp", rcode: dns.RcodeNameError, ns: 1, authoritative: true},
		"told to fail":          {name: "fails.test.", qtype: dns.TypeA, network: "udp", rcode: dns.RcodeServerFailure},
		"not our zone":          {name: "example.com.", qtype: dns.TypeA, network: "udp", rcode: dns.RcodeRefused},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion(test.name, test.qtype)
			client := dns.Client{Net: test.network}
			if test.edns > 0 {
				m.SetEdns0(test.edns, false)
			}
			got, _, err := client.Exchange(m, server.Addr())
			if err != nil {
				t.Fatal(err)
			}
			if got.Rcode != test.rcode || len(got.Answer) != test.answers || len(got.Ns) != test.ns || len(got.Extra) != test.extra ||
				got.Truncated != test.truncated || got.Authoritative != test.authoritative {
				t.Errorf("got %v", got)
			}
			queries := server.Queries()
			want := dnstest.Query{Network: test.network, ID: m.Id, Name: test.name, Type: test.qtype, EDNSSize: test.edns}
			if last := queries[len(queries)-1]; last != want {
				t.Errorf("remembered %+v, want %+v", last, want)
			}
		})
	}
}

func TestZoneChangesWhileServed(t *testing.T) {
	z := zone(t)
	server := dnstest.Serve(t, z)
	ask := func() *dns.Msg {
		t.Helper()
		got, err := dns.Exchange(new(dns.Msg).SetQuestion("six.ns.test.", dns.TypeAAAA), server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := ask(); len(got.Answer) != 1 {
		t.Errorf("at first: %v", got)
	}
	z.Fail("six.ns.test.", dns.RcodeServerFailure)
	if got := ask(); got.Rcode != dns.RcodeServerFailure {
		t.Errorf("told to fail: %v", got)
	}
	z.Fail("six.ns.test.", dns.RcodeSuccess).Remove("six.ns.test.").Add("six.ns.test. 1 IN AAAA fd00::2", "six.ns.test. 1 IN AAAA fd00::3")
	if got := ask(); len(got.Answer) != 2 {
		t.Errorf("replaced: %v", got)
	}
}

// leakCheck stands in for a test that forgets to close a connection.
type leakCheck struct {
	testing.TB
	cleanup  func()
	complain int
}

func (l *leakCheck) Cleanup(f func())      { l.cleanup = f }
func (l *leakCheck) Errorf(string, ...any) { l.complain++ }

func TestDialerSeesLeaks(t *testing.T) {
	server := dnstest.Attack(t, dnstest.Honest())
	inner := &leakCheck{TB: t}
	dialer := dnstest.NewDialer(inner)
	var conns []net.Conn
	for _, network := range []string{"udp", "tcp"} {
		conn, err := dialer.DialContext(t.Context(), network, server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	conns[0].Close()
	inner.cleanup()
	if inner.complain != 1 {
		t.Errorf("%d complaints about one connection left open", inner.complain)
	}
	conns[1].Close()
	inner.cleanup()
	if inner.complain != 1 {
		t.Error("a complaint about none")
	}
}
