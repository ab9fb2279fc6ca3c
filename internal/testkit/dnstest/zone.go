package dnstest

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// TTL is the time to live of every record that a Zone makes itself, in seconds. kubeadm's Corefile has the same.
const TTL = 30

// Zone is a set of names below an origin. Its methods may be called while it is served.
type Zone struct {
	t      testing.TB
	origin string

	mu      sync.Mutex
	records map[string][]dns.RR // by canonical owner, in the order added
	rcodes  map[string]int      // by canonical owner: answered with this code, whatever the type
}

// NewZone returns a zone that holds only its SOA.
func NewZone(t testing.TB, origin string) *Zone {
	z := &Zone{t: t, origin: dns.CanonicalName(origin), records: make(map[string][]dns.RR), rcodes: make(map[string]int)}
	below := strings.TrimPrefix(z.origin, ".") // nothing for the root
	return z.Add(fmt.Sprintf("%s %d IN SOA ns.dns.%s hostmaster.%s 1700000000 7200 1800 86400 %d", z.origin, TTL, below, below, TTL))
}

// Add puts records in, each in zone-file form with a fully qualified owner.
func (z *Zone) Add(records ...string) *Zone {
	z.t.Helper()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil || rr == nil {
			z.t.Fatalf("record %q: %v", text, err)
		}
		owner := dns.CanonicalName(rr.Header().Name)
		if !dns.IsSubDomain(z.origin, owner) {
			z.t.Fatalf("record %q is not in zone %s", text, z.origin)
		}
		z.mu.Lock()
		z.records[owner] = append(z.records[owner], rr)
		z.mu.Unlock()
	}
	return z
}

// Headless puts in what CoreDNS serves for a headless Service: an A or AAAA record for each address, and an SRV record for each
// under _port._tcp and under the bare name, with a target made from the address.
func (z *Zone) Headless(service, portName string, port uint16, addrs ...netip.Addr) *Zone {
	z.t.Helper()
	for _, addr := range addrs {
		kind := "A"
		if addr.Is6() {
			kind = "AAAA"
		}
		target := strings.NewReplacer(".", "-", ":", "-").Replace(addr.StringExpanded()) + "." + service
		z.Add(
			fmt.Sprintf("%s %d IN %s %s", service, TTL, kind, addr),
			fmt.Sprintf("%s %d IN %s %s", target, TTL, kind, addr),
			fmt.Sprintf("_%s._tcp.%s %d IN SRV 0 100 %d %s", portName, service, TTL, port, target),
			fmt.Sprintf("%s %d IN SRV 0 100 %d %s", service, TTL, port, target),
		)
	}
	return z
}

// ClusterIP puts in what CoreDNS serves for a Service with virtual IPs, for one of its ports: the addresses, and an SRV record
// under _port._tcp and under the bare name whose target is the Service itself. For another port it is called again without addresses.
func (z *Zone) ClusterIP(service, portName string, port uint16, vips ...netip.Addr) *Zone {
	z.t.Helper()
	for _, vip := range vips {
		kind := "A"
		if vip.Is6() {
			kind = "AAAA"
		}
		z.Add(fmt.Sprintf("%s %d IN %s %s", service, TTL, kind, vip))
	}
	return z.Add(
		fmt.Sprintf("_%s._tcp.%s %d IN SRV 0 100 %d %s", portName, service, TTL, port, service),
		fmt.Sprintf("%s %d IN SRV 0 100 %d %s", service, TTL, port, service),
	)
}

// Remove takes all records of a name out.
func (z *Zone) Remove(name string) *Zone {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.records, dns.CanonicalName(name))
	return z
}

// Fail has every question for name answered with rcode and nothing else; dns.RcodeSuccess ends that.
func (z *Zone) Fail(name string, rcode int) *Zone {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rcodes[dns.CanonicalName(name)] = rcode
	return z
}

// maxChain is how many CNAMEs an honest server follows before it leaves the rest to the client.
const maxChain = 8

// answer fills in reply for its question.
func (z *Zone) answer(reply *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := reply.Question[0]
	reply.Authoritative = true
	if rcode := z.rcodes[dns.CanonicalName(q.Name)]; rcode != dns.RcodeSuccess {
		reply.Rcode, reply.Authoritative = rcode, false
		return
	}
	name := q.Name
	for range maxChain {
		found := z.ofTypeLocked(name, q.Qtype)
		cname := z.ofTypeLocked(name, dns.TypeCNAME)
		if len(found) > 0 || len(cname) == 0 {
			reply.Answer = append(reply.Answer, found...)
			z.finishLocked(reply, name, len(found) > 0)
			return
		}
		reply.Answer = append(reply.Answer, cname[0])
		name = cname[0].(*dns.CNAME).Target
		if !dns.IsSubDomain(z.origin, name) {
			return
		}
	}
}

// finishLocked adds the SOA to a negative answer (RFC 2308 section 3) and addresses to SRV (RFC 2782).
func (z *Zone) finishLocked(reply *dns.Msg, name string, found bool) {
	if !found {
		if !z.existsLocked(name) {
			reply.Rcode = dns.RcodeNameError
		}
		reply.Ns = z.ofTypeLocked(z.origin, dns.TypeSOA)
		return
	}
	for _, rr := range reply.Answer {
		if srv, ok := rr.(*dns.SRV); ok {
			reply.Extra = append(reply.Extra, z.ofTypeLocked(srv.Target, dns.TypeA)...)
			reply.Extra = append(reply.Extra, z.ofTypeLocked(srv.Target, dns.TypeAAAA)...)
		}
	}
}

func (z *Zone) ofTypeLocked(name string, t uint16) []dns.RR {
	var out []dns.RR
	for _, rr := range z.records[dns.CanonicalName(name)] {
		if rr.Header().Rrtype == t {
			out = append(out, rr)
		}
	}
	return out
}

// existsLocked tells whether name owns records or has names below it that do (RFC 8020 section 2).
func (z *Zone) existsLocked(name string) bool {
	for owner := range z.records {
		if dns.IsSubDomain(name, owner) {
			return true
		}
	}
	return false
}
