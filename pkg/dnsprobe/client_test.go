package dnsprobe_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

const service = "square.default.svc.cluster.local."

// short is the time-out where it is meant to run out; elsewhere the default leaves room for a slow machine.
const short = 300 * time.Millisecond

// pods returns n distinct IPv4 addresses.
func pods(n int) []netip.Addr {
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)})
	}
	return out
}

// cluster returns a zone like the one that CoreDNS serves, with n pods behind a headless Service.
func cluster(t testing.TB, n int) *dnstest.Zone {
	zone := dnstest.NewZone(t, "cluster.local.").Headless(service, "grpc", 6565, pods(n)...)
	return zone.Add("alias.default.svc.cluster.local. 20 IN CNAME middle.default.svc.cluster.local.",
		"middle.default.svc.cluster.local. 10 IN CNAME "+service,
		"dangling.default.svc.cluster.local. 10 IN CNAME nothing.default.svc.cluster.local.",
		"v6.default.svc.cluster.local. 30 IN AAAA fd00::1")
}

func a(name string) dnsprobe.Question {
	return dnsprobe.Question{Name: name, Type: dnsprobe.TypeA}
}

func TestAskHonestServer(t *testing.T) {
	server := dnstest.Serve(t, cluster(t, 3))
	tests := map[string]struct {
		question  dnsprobe.Question
		client    dnsprobe.Client
		outcome   dnsprobe.Outcome
		rcode     dnsprobe.Rcode
		addresses int
		chain     []string
		ttl       time.Duration // -1: none
	}{
		"headless A":        {question: a(service), outcome: dnsprobe.OutcomeFound, addresses: 3, ttl: 30 * time.Second},
		"no final dot":      {question: a(strings.TrimSuffix(service, ".")), outcome: dnsprobe.OutcomeFound, addresses: 3, ttl: 30 * time.Second},
		"over TCP":          {question: a(service), client: dnsprobe.Client{Transport: dnsprobe.TCP}, outcome: dnsprobe.OutcomeFound, addresses: 3, ttl: 30 * time.Second},
		"EDNS":              {question: a(service), client: dnsprobe.Client{EDNSSize: 1232}, outcome: dnsprobe.OutcomeFound, addresses: 3, ttl: 30 * time.Second},
		"AAAA":              {question: dnsprobe.Question{Name: "v6.default.svc.cluster.local", Type: dnsprobe.TypeAAAA}, outcome: dnsprobe.OutcomeFound, addresses: 1, ttl: 30 * time.Second},
		"no AAAA":           {question: dnsprobe.Question{Name: service, Type: dnsprobe.TypeAAAA}, outcome: dnsprobe.OutcomeNoData, ttl: 30 * time.Second},
		"empty nonterminal": {question: a("default.svc.cluster.local"), outcome: dnsprobe.OutcomeNoData, ttl: 30 * time.Second},
		"unknown":           {question: a("squares.default.svc.cluster.local"), outcome: dnsprobe.OutcomeNXDomain, rcode: dnsprobe.RcodeNameError, ttl: 30 * time.Second},
		"other zone":        {question: a("example.com"), outcome: dnsprobe.OutcomeRefused, rcode: dnsprobe.RcodeRefused, ttl: -1},
		"two CNAMEs": {question: a("alias.default.svc.cluster.local"), outcome: dnsprobe.OutcomeFound, addresses: 3, ttl: 10 * time.Second,
			chain: []string{"middle.default.svc.cluster.local.", service}},
		"dangling CNAME": {question: a("dangling.default.svc.cluster.local"), outcome: dnsprobe.OutcomeNXDomain, rcode: dnsprobe.RcodeNameError,
			ttl: 30 * time.Second, chain: []string{"nothing.default.svc.cluster.local."}},
		"the CNAME itself": {question: dnsprobe.Question{Name: "alias.default.svc.cluster.local", Type: dnsprobe.TypeCNAME},
			outcome: dnsprobe.OutcomeFound, ttl: 20 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client := test.client
			client.Dial = dnstest.NewDialer(t).DialContext
			got, err := client.Ask(t.Context(), server.Addr(), test.question)
			if err != nil {
				t.Fatal(err)
			}
			if got.Outcome() != test.outcome || got.Rcode != test.rcode || len(got.Addresses()) != test.addresses {
				t.Errorf("got %s, %s, %d addresses; want %s, %s, %d", got.Outcome(), got.Rcode, len(got.Addresses()),
					test.outcome, test.rcode, test.addresses)
			}
			if diff := cmp.Diff(test.chain, got.Chain); diff != "" {
				t.Errorf("chain (-want +got):\n%s", diff)
			}
			ttl, ok := got.TTL()
			if ok != (test.ttl >= 0) || ok && ttl != test.ttl {
				t.Errorf("TTL %v, %v; want %v", ttl, ok, test.ttl)
			}
			transport := client.Transport
			if transport == "" {
				transport = dnsprobe.UDP
			}
			if got.Transport != transport || got.Server != server.Addr() || got.RTT <= 0 || got.Size < 12 {
				t.Errorf("transport %s, server %s, round trip %v, size %d", got.Transport, got.Server, got.RTT, got.Size)
			}
			if want := (dnsprobe.EDNS{Advertised: client.EDNSSize, Echoed: client.EDNSSize > 0, ServerSize: client.EDNSSize}); got.EDNS != want {
				t.Errorf("EDNS %+v, want %+v", got.EDNS, want)
			}
			if !got.Flags.RecursionDesired {
				t.Error("the answer does not repeat RD")
			}
		})
	}
}

func TestAskSRV(t *testing.T) {
	server := dnstest.Serve(t, cluster(t, 2))
	client := dnsprobe.Client{EDNSSize: 4096}
	got, err := client.Ask(t.Context(), server.Addr(), dnsprobe.Question{Name: "_grpc._tcp." + service, Type: dnsprobe.TypeSRV})
	if err != nil {
		t.Fatal(err)
	}
	endpoints, unresolved := got.Endpoints()
	want := []dnsprobe.Endpoint{{Address: pods(2)[0], Port: 6565}, {Address: pods(2)[1], Port: 6565}}
	if diff := cmp.Diff(want, endpoints, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" || len(unresolved) > 0 {
		t.Errorf("unresolved %v, endpoints (-want +got):\n%s", unresolved, diff)
	}
	if r := got.Records[0]; r.Port != 6565 || r.Weight != 100 || r.Priority != 0 || r.Target != "10-244-0-0."+service {
		t.Errorf("record %+v", r)
	}
	if len(got.Additional) != 2 {
		t.Errorf("%d additional records, want 2 and no OPT", len(got.Additional))
	}
}

func TestAskTruncated(t *testing.T) {
	server := dnstest.Serve(t, cluster(t, 100))
	t.Run("falls back to TCP and keeps the truncated answer", func(t *testing.T) {
		dialer := dnstest.NewDialer(t)
		client := dnsprobe.Client{Dial: dialer.DialContext}
		got, err := client.Ask(t.Context(), server.Addr(), a(service))
		if err != nil {
			t.Fatal(err)
		}
		cut := got.TruncatedUDP()
		if got.Transport != dnsprobe.TCP || got.Flags.Truncated || len(got.Addresses()) != 100 || cut == nil {
			t.Fatalf("over %s, truncated %v, %d addresses, truncated answer %v", got.Transport, got.Flags.Truncated,
				len(got.Addresses()), cut)
		}
		if n := len(cut.Addresses()); !cut.Flags.Truncated || cut.Transport != dnsprobe.UDP || n == 0 || n >= 100 || cut.Size > 512 {
			t.Errorf("truncated answer: %d addresses in %d octets over %s", n, cut.Size, cut.Transport)
		}
		if diff := cmp.Diff([]string{"udp", "tcp"}, dialer.Dialed()); diff != "" {
			t.Errorf("dialled (-want +got):\n%s", diff)
		}
	})
	t.Run("may be kept", func(t *testing.T) {
		client := dnsprobe.Client{KeepTruncated: true}
		got, err := client.Ask(t.Context(), server.Addr(), a(service))
		if err != nil || got.TruncatedUDP() != got || len(got.Earlier) != 0 {
			t.Errorf("error %v, answer %+v", err, got)
		}
	})
	t.Run("survives when TCP is closed", func(t *testing.T) {
		refused := dnstest.RefusedAddr(t)
		client := dnsprobe.Client{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if network == "tcp" {
				address = refused
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}}
		got, err := client.Ask(t.Context(), server.Addr(), a(service))
		if !errors.Is(err, dnsprobe.ErrConnRefused) || got == nil || got.TruncatedUDP() != got {
			t.Fatalf("error %v, answer %v", err, got)
		}
		var failed *dnsprobe.Error
		if !errors.As(err, &failed) || failed.Transport != dnsprobe.TCP {
			t.Errorf("error %v does not say that TCP failed", err)
		}
	})
}

// TestAskHostileServer holds every behaviour against every transport that it concerns.
func TestAskHostileServer(t *testing.T) {
	tcp, udp := []dnsprobe.Transport{dnsprobe.TCP}, []dnsprobe.Transport{dnsprobe.UDP}
	both := slices.Concat(udp, tcp)
	tests := map[string]struct {
		behave dnstest.Behaviour
		over   []dnsprobe.Transport
		want   error
		slow   bool // the time-out has to run out
		answer bool // an answer comes with the error
	}{
		"silence":          {behave: dnstest.Silence(), over: both, want: dnsprobe.ErrTimeout, slow: true},
		"wrong id":         {behave: dnstest.WrongID(), over: udp, want: dnsprobe.ErrSpoofed, slow: true},
		"wrong id, stream": {behave: dnstest.WrongID(), over: tcp, want: dnsprobe.ErrSpoofed},
		"wrong name": {behave: dnstest.WrongQuestion(dns.Question{Name: "other.test.", Qtype: dns.TypeA, Qclass: dns.ClassINET}),
			over: udp, want: dnsprobe.ErrSpoofed, slow: true},
		"wrong type": {behave: dnstest.WrongQuestion(dns.Question{Name: "name.test.", Qtype: dns.TypeAAAA, Qclass: dns.ClassINET}),
			over: tcp, want: dnsprobe.ErrSpoofed},
		"wrong class": {behave: dnstest.WrongQuestion(dns.Question{Name: "name.test.", Qtype: dns.TypeA, Qclass: dns.ClassCHAOS}),
			over: tcp, want: dnsprobe.ErrSpoofed},
		"no question":     {behave: dnstest.Change(func(m *dns.Msg) { m.Question = nil }), over: tcp, want: dnsprobe.ErrSpoofed},
		"two questions":   {behave: dnstest.Change(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), over: tcp, want: dnsprobe.ErrSpoofed},
		"other opcode":    {behave: dnstest.Change(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), over: tcp, want: dnsprobe.ErrSpoofed},
		"not a response":  {behave: dnstest.NotAResponse(), over: udp, want: dnsprobe.ErrSpoofed, slow: true},
		"garbage":         {behave: dnstest.Garbage(100), over: udp, want: dnsprobe.ErrSpoofed, slow: true},
		"garbage, stream": {behave: dnstest.Garbage(100), over: tcp, want: dnsprobe.ErrSpoofed},
		"too short":       {behave: dnstest.Garbage(7), over: udp, want: dnsprobe.ErrMalformed, slow: true},
		"noise, then a forgery": {behave: func(p *dnstest.Peer) { p.SendWire([]byte{1}); dnstest.WrongID()(p) }, over: udp,
			want: dnsprobe.ErrSpoofed, slow: true},
		"too short, stream": {behave: dnstest.Garbage(7), over: tcp, want: dnsprobe.ErrMalformed},
		"empty, stream":     {behave: dnstest.Garbage(0), over: tcp, want: dnsprobe.ErrMalformed},
		"half a message":    {behave: dnstest.HalfMessage(), over: both, want: dnsprobe.ErrMalformed},
		"header lies":       {behave: dnstest.ChangeWire(func(w []byte) []byte { binary.BigEndian.PutUint16(w[6:], 9); return w }), over: both, want: dnsprobe.ErrMalformed},
		"pointer loop":      {behave: dnstest.ChangeWire(pointerLoop), over: both, want: dnsprobe.ErrMalformed},
		"A without data":    {behave: dnstest.Change(func(m *dns.Msg) { m.Answer = []dns.RR{&dns.ANY{Hdr: *m.Answer[0].Header()}} }), over: both, want: dnsprobe.ErrMalformed},
		"two OPTs":          {behave: dnstest.Change(func(m *dns.Msg) { m.Extra = []dns.RR{opt(512), opt(512)} }), over: both, want: dnsprobe.ErrMalformed},
		"OPT as answer":     {behave: dnstest.Change(func(m *dns.Msg) { m.Answer = []dns.RR{opt(512)} }), over: both, want: dnsprobe.ErrMalformed},
		"truncated twice":   {behave: dnstest.Truncated("udp", "tcp"), over: both, want: dnsprobe.ErrTruncatedTCP, answer: true},
		"slow drip":         {behave: dnstest.SlowDrip(20 * time.Millisecond), over: both, want: dnsprobe.ErrTimeout, slow: true, answer: true},
		"closed at once":    {behave: dnstest.Hangup(), over: both, want: dnsprobe.ErrClosed, answer: true},
		"half a prefix":     {behave: dnstest.HangupWithin(-1), over: both, want: dnsprobe.ErrShortRead, answer: true},
		"closed at prefix":  {behave: dnstest.HangupWithin(0), over: both, want: dnsprobe.ErrShortRead, answer: true},
		"closed within":     {behave: dnstest.HangupWithin(20), over: both, want: dnsprobe.ErrShortRead, answer: true},
	}
	for name, test := range tests {
		for _, transport := range test.over {
			t.Run(fmt.Sprintf("%s over %s", name, transport), func(t *testing.T) {
				t.Parallel()
				server := dnstest.Attack(t, test.behave)
				client := dnsprobe.Client{Dial: dnstest.NewDialer(t).DialContext, Transport: transport}
				if test.slow {
					client.Timeout = short
				}
				got, err := client.Ask(t.Context(), server.Addr(), a("name.test"))
				if !errors.Is(err, test.want) || !exactlyOne(err) {
					t.Fatalf("error %v (kind %s), want %v and no other", err, dnsprobe.KindOf(err), test.want)
				}
				// What came over UDP before is evidence; over TCP alone only the truncated answer itself is.
				if wantAnswer := test.answer && (transport == dnsprobe.UDP || errors.Is(err, dnsprobe.ErrTruncatedTCP)); (got != nil) != wantAnswer {
					t.Errorf("answer %v beside error %v", got, err)
				}
			})
		}
	}
}

func opt(size uint16) *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(size)
	return o
}

// pointerLoop makes the owner of the first record a compression pointer to itself.
func pointerLoop(wire []byte) []byte {
	const body = 12 + len("\x04name\x04test\x00") + 4
	return append(wire[:body:body], 0xC0, byte(body), 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1)
}

// exactlyOne tells whether err matches one of the package's errors only.
func exactlyOne(err error) bool {
	n := 0
	for _, kind := range []error{dnsprobe.ErrTimeout, dnsprobe.ErrMalformed, dnsprobe.ErrSpoofed, dnsprobe.ErrConnRefused,
		dnsprobe.ErrTruncatedTCP, dnsprobe.ErrShortRead, dnsprobe.ErrClosed, dnsprobe.ErrBadQuestion} {
		if errors.Is(err, kind) {
			n++
		}
	}
	return n == 1
}

func TestAskOddButValid(t *testing.T) {
	tests := map[string]struct {
		behave dnstest.Behaviour
		client dnsprobe.Client
		check  func(a *dnsprobe.Answer) bool
	}{
		"forgeries before the answer": {behave: dnstest.Forge(6, dnstest.Honest()), check: func(a *dnsprobe.Answer) bool {
			return a.Ignored == 6 && len(a.IgnoredWhy) == 4 && a.Addresses()[0].String() == "192.0.2.1"
		}},
		"noise before the answer": {behave: func(p *dnstest.Peer) { p.SendWire([]byte{1}); p.Send(p.Reply()) },
			check: func(a *dnsprobe.Answer) bool { return a.Ignored == 1 }},
		"case changed": {behave: dnstest.ChangeCase(), check: func(a *dnsprobe.Answer) bool {
			return a.CaseChanged && a.Question.Name == "MiXed.test." && len(a.Addresses()) == 1
		}},
		"case kept": {behave: dnstest.Honest(), check: func(a *dnsprobe.Answer) bool { return !a.CaseChanged }},
		"CNAME loop": {behave: dnstest.CNAMELoop(5), check: func(a *dnsprobe.Answer) bool {
			return a.ChainLoops && len(a.Chain) == 5 && a.Outcome() == dnsprobe.OutcomeNoData && len(a.Records) == 5
		}},
		"CNAME to itself": {behave: dnstest.CNAMELoop(1), check: func(a *dnsprobe.Answer) bool {
			return a.ChainLoops && len(a.Chain) == 1
		}},
		"huge datagram": {behave: dnstest.Huge(4000), check: func(a *dnsprobe.Answer) bool {
			return a.Transport == dnsprobe.UDP && a.Size > 60000 && len(a.Addresses()) > 3900
		}},
		"huge stream": {behave: dnstest.Huge(4000), client: dnsprobe.Client{Transport: dnsprobe.TCP},
			check: func(a *dnsprobe.Answer) bool { return len(a.Addresses()) == 4000 }},
		"NXDOMAIN with SOA": {behave: dnstest.Rcode(dns.RcodeNameError, true), check: func(a *dnsprobe.Answer) bool {
			ttl, ok := a.TTL()
			return a.Outcome() == dnsprobe.OutcomeNXDomain && ok && ttl == 7*time.Second && a.SOA().SOA.MName == "ns.test."
		}},
		"NXDOMAIN without SOA": {behave: dnstest.Rcode(dns.RcodeNameError, false), check: func(a *dnsprobe.Answer) bool {
			_, ok := a.TTL()
			return a.Outcome() == dnsprobe.OutcomeNXDomain && !ok && a.SOA() == nil
		}},
		"SERVFAIL": {behave: dnstest.Rcode(dns.RcodeServerFailure, false), check: func(a *dnsprobe.Answer) bool {
			return a.Outcome() == dnsprobe.OutcomeServFail
		}},
		"REFUSED, header alone": {behave: dnstest.Change(func(m *dns.Msg) { m.Rcode, m.Question, m.Answer = dns.RcodeRefused, nil, nil }),
			check: func(a *dnsprobe.Answer) bool { return a.Outcome() == dnsprobe.OutcomeRefused }},
		"extended rcode": {behave: dnstest.Change(func(m *dns.Msg) { m.Rcode = dns.RcodeBadVers }), client: dnsprobe.Client{EDNSSize: 1232},
			check: func(a *dnsprobe.Answer) bool {
				return a.Rcode.String() == "BADVERS" && a.Outcome() == dnsprobe.OutcomeRejected
			}},
		"RA": {behave: dnstest.Change(func(m *dns.Msg) { m.RecursionAvailable, m.Authoritative = true, false }),
			check: func(a *dnsprobe.Answer) bool { return a.Flags.RecursionAvailable && !a.Flags.Authoritative }},
		"octets at the end": {behave: dnstest.ChangeWire(func(w []byte) []byte { return append(w, 0, 0, 0) }),
			check: func(a *dnsprobe.Answer) bool { return a.TrailingBytes == 3 }},
		"FORMERR on EDNS": {behave: dnstest.RefuseEDNS(dns.RcodeFormatError), client: dnsprobe.Client{EDNSSize: 1232},
			check: func(a *dnsprobe.Answer) bool {
				return a.EDNSRefused() && a.EDNS == dnsprobe.EDNS{} && len(a.Addresses()) == 1 &&
					a.Earlier[0].Rcode == dnsprobe.RcodeFormatError && a.Earlier[0].EDNS.Advertised == 1232
			}},
		"NOTIMP on EDNS over TCP": {behave: dnstest.RefuseEDNS(dns.RcodeNotImplemented),
			client: dnsprobe.Client{EDNSSize: 1232, Transport: dnsprobe.TCP},
			check:  func(a *dnsprobe.Answer) bool { return a.EDNSRefused() && len(a.Addresses()) == 1 }},
		"FORMERR on EDNS, kept": {behave: dnstest.RefuseEDNS(dns.RcodeFormatError),
			client: dnsprobe.Client{EDNSSize: 1232, KeepEDNSRefusal: true},
			check: func(a *dnsprobe.Answer) bool {
				return a.Rcode == dnsprobe.RcodeFormatError && len(a.Earlier) == 0 && !a.EDNSRefused()
			}},
		"FORMERR by a server that knows EDNS": {behave: dnstest.Rcode(dns.RcodeFormatError, false), client: dnsprobe.Client{EDNSSize: 1232},
			check: func(a *dnsprobe.Answer) bool {
				return a.Rcode == dnsprobe.RcodeFormatError && a.EDNS.Echoed && len(a.Earlier) == 0
			}},
		"TTL with the top bit": {behave: dnstest.Change(func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1 << 31 }),
			check: func(a *dnsprobe.Answer) bool { ttl, ok := a.TTL(); return ok && ttl == 0 && a.Records[0].TTL == 0 }},
		"greatest TTL": {behave: dnstest.Change(func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1<<31 - 1 }),
			check: func(a *dnsprobe.Answer) bool { return a.Records[0].TTL == 1<<31-1 }},
		"FORMERR whatever is asked": {behave: dnstest.Rcode(dns.RcodeFormatError, false),
			check: func(a *dnsprobe.Answer) bool { return a.Outcome() == dnsprobe.OutcomeRejected && len(a.Earlier) == 0 }},
		"truncated and cut within a record": {behave: cutShort, client: dnsprobe.Client{KeepTruncated: true},
			check: func(a *dnsprobe.Answer) bool { return a.CutShort && a.Flags.Truncated && len(a.Records) == 0 }},
		"FORMERR on EDNS, then truncated": {behave: refuseThenTruncate, client: dnsprobe.Client{EDNSSize: 1232},
			check: func(a *dnsprobe.Answer) bool {
				return len(a.Earlier) == 2 && a.EDNSRefused() && a.TruncatedUDP() != nil && a.Earlier[1].Earlier == nil &&
					a.Transport == dnsprobe.TCP
			}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := dnstest.Attack(t, test.behave)
			client := test.client
			client.Dial = dnstest.NewDialer(t).DialContext
			got, err := client.Ask(t.Context(), server.Addr(), a("MiXed.test"))
			if err != nil {
				t.Fatal(err)
			}
			if !test.check(got) {
				t.Errorf("got %+v", got)
			}
			if q := server.Queries()[0]; q.Name != "MiXed.test." {
				t.Errorf("asked for %s", q.Name)
			}
		})
	}
}

func cutShort(p *dnstest.Peer) {
	m := p.Reply()
	m.Truncated = true
	if wire, err := m.Pack(); err == nil {
		p.SendWire(wire[:len(wire)-2])
	}
}

func refuseThenTruncate(p *dnstest.Peer) {
	if p.Question.IsEdns0() != nil {
		dnstest.RefuseEDNS(dns.RcodeFormatError)(p)
		return
	}
	dnstest.Truncated("udp")(p)
}

func TestAskIDsAreRandom(t *testing.T) {
	server := dnstest.Attack(t, dnstest.Honest())
	var client dnsprobe.Client
	for range 24 {
		if _, err := client.Ask(t.Context(), server.Addr(), a("name.test")); err != nil {
			t.Fatal(err)
		}
	}
	ids := make(map[uint16]bool)
	steps := make(map[uint16]bool)
	var before uint16
	for _, q := range server.Queries() {
		ids[q.ID], steps[q.ID-before] = true, true
		before = q.ID
	}
	if len(ids) < 20 || len(steps) < 20 { // all but impossible for random ones: 4 repetitions in 24 of 65536
		t.Errorf("%d distinct ids and %d distinct steps in 24 questions", len(ids), len(steps))
	}
}

func TestAskBadQuestion(t *testing.T) {
	for name, q := range map[string]dnsprobe.Question{
		"empty name":  a(""),
		"empty label": a("a..b"),
		"long label":  a(strings.Repeat("a", 64) + ".test"),
		"long name":   a(strings.Repeat("abcdefg.", 32)),
		"open escape": a("name\\"),
		"no type":     {Name: "name.test"},
		"OPT":         {Name: "name.test", Type: dnsprobe.Type(dns.TypeOPT)},
	} {
		t.Run(name, func(t *testing.T) {
			client := dnsprobe.Client{Dial: func(context.Context, string, string) (net.Conn, error) {
				t.Error("dialled for nothing")
				return nil, errors.New("no")
			}}
			if _, err := client.Ask(t.Context(), "server", q); !errors.Is(err, dnsprobe.ErrBadQuestion) {
				t.Errorf("error %v", err)
			}
		})
	}
	client := dnsprobe.Client{Transport: "quic"}
	if _, err := client.Ask(t.Context(), "server", a("name.test")); !errors.Is(err, dnsprobe.ErrBadQuestion) {
		t.Errorf("unknown transport: error %v", err)
	}
}

func TestAskRefusedConnection(t *testing.T) {
	for _, transport := range []dnsprobe.Transport{dnsprobe.UDP, dnsprobe.TCP} {
		client := dnsprobe.Client{Dial: dnstest.NewDialer(t).DialContext, Transport: transport}
		_, err := client.Ask(t.Context(), dnstest.RefusedAddr(t), a("name.test"))
		if !errors.Is(err, dnsprobe.ErrConnRefused) || !exactlyOne(err) {
			t.Errorf("over %s: error %v", transport, err)
		}
		if strings.Contains(err.Error(), "->") {
			t.Errorf("over %s: the error tells our own port, and so reads differently each time: %v", transport, err)
		}
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	server := dnstest.Attack(t, dnstest.Silence())
	why := errors.New("the user has seen enough")
	for _, transport := range []dnsprobe.Transport{dnsprobe.UDP, dnsprobe.TCP} {
		t.Run(string(transport), func(t *testing.T) {
			client := dnsprobe.Client{Dial: dnstest.NewDialer(t).DialContext, Transport: transport, Timeout: time.Hour}
			ctx, cancel := context.WithCancelCause(t.Context())
			asked := len(server.Queries())
			done := make(chan error)
			go func() {
				_, err := client.Ask(ctx, server.Addr(), a("name.test"))
				done <- err
			}()
			eventually(t, "the question to arrive", func() bool { return len(server.Queries()) > asked })
			cancel(why)
			if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, why) || dnsprobe.KindOf(err) != dnsprobe.KindCanceled {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), short)
		defer cancel()
		client := dnsprobe.Client{Timeout: time.Hour}
		_, err := client.Ask(ctx, server.Addr(), a("name.test"))
		if !errors.Is(err, dnsprobe.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// TestAskDialThatHangs has a dial function that knows nothing of contexts: the caller must not wait for it, and the connection
// that it brings in the end must be closed.
func TestAskDialThatHangs(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan net.Conn, 1)
	client := dnsprobe.Client{Timeout: short, Dial: func(context.Context, string, string) (net.Conn, error) {
		<-release
		ours, theirs := net.Pipe()
		arrived <- theirs
		return ours, nil
	}}
	_, err := client.Ask(t.Context(), "server", a("name.test"))
	if !errors.Is(err, dnsprobe.ErrTimeout) {
		t.Errorf("error %v", err)
	}
	close(release)
	if _, err := (<-arrived).Read(make([]byte, 1)); err == nil {
		t.Error("the late connection is still open")
	}
}

// eventually polls for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}
