package dnsprobe

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"
)

// PredictedUDP is what a UDP client would probably get where the full answer is known: a computation, never a measurement.
type PredictedUDP struct {
	// UDPSize is the payload size in octets that the client is taken to accept. At 512 and below it is taken not to speak
	// EDNS(0) and to accept 512 (RFC 1035 section 4.2.1); above, to advertise this size in an OPT record.
	UDPSize uint16 `json:"udpSize"`
	// EDNS tells whether the client is taken to speak EDNS(0).
	EDNS bool `json:"edns,omitempty"`
	// PredictedSize is the size of the message in octets, after truncation where there is one.
	PredictedSize int `json:"predictedSize"`
	// PredictedTruncated is whether TC would be set.
	PredictedTruncated bool `json:"predictedTruncated"`
	// PredictedRecords is how many of the final records survive, and Records how many there are.
	PredictedRecords int `json:"predictedRecords"`
	Records          int `json:"records"`
	// PredictedAddresses is how many distinct addresses a client could read from the truncated answer, and Addresses how many there
	// are. For SRV they are those that come along with the targets.
	PredictedAddresses int `json:"predictedAddresses"`
	Addresses          int `json:"addresses"`
}

// ErrNotWhole means that an answer holds too little to predict from: it is itself truncated, or has a record that cannot be
// rebuilt.
var ErrNotWhole = errors.New("not a whole answer")

// PredictUDP tells what UDP clients would get of the answer for each of the payload sizes; with none, 512, 1232 and 4096. full is
// best asked for over TCP.
//
// The message is put together anew with name compression and cut as CoreDNS does (both use the same library): whole records
// from the end, and TC whenever one had to go, be it only from the additional section, although RFC 2181 section 9 would not
// ask for that. Servers that cut in another way, cap the size (CoreDNS's bufsize plugin) or leave additional records out
// over UDP will differ, as will the order of records where the server shuffles them.
func PredictUDP(full *Answer, sizes ...uint16) ([]PredictedUDP, error) {
	if full.Flags.Truncated || full.CutShort {
		return nil, fmt.Errorf("predict truncation: %w: it is truncated", ErrNotWhole)
	}
	if len(sizes) == 0 {
		sizes = []uint16{MinUDPSize, 1232, 4096}
	}
	whole, err := rebuild(full)
	if err != nil {
		return nil, fmt.Errorf("predict truncation: %w: %w", ErrNotWhole, err)
	}
	all := *full
	all.follow() // what was saved need not be what follow would say
	records, addresses := len(all.Final()), readable(&all)
	out := make([]PredictedUDP, 0, len(sizes))
	for _, size := range sizes {
		m := shallowCopy(whole)
		p := PredictedUDP{UDPSize: size, EDNS: size > MinUDPSize, Records: records, Addresses: addresses}
		if p.EDNS {
			m.SetEdns0(size, false)
		}
		m.Truncate(int(size))
		kept := *full
		kept.Records = full.Records[:len(m.Answer)]
		kept.Additional = full.Additional[:len(withoutOPT(m.Extra))]
		kept.follow()
		p.PredictedTruncated = m.Truncated
		p.PredictedSize = m.Len()
		p.PredictedRecords = len(kept.Final())
		p.PredictedAddresses = readable(&kept)
		out = append(out, p)
	}
	return out, nil
}

// rebuild puts the answer back into a message, without OPT.
func rebuild(a *Answer) (*dns.Msg, error) {
	m := &dns.Msg{
		MsgHdr:   dns.MsgHdr{Response: true, Rcode: int(a.Rcode)},
		Compress: true,
		Question: []dns.Question{{Name: a.Question.Name, Qtype: uint16(a.Question.Type), Qclass: dns.ClassINET}},
	}
	for _, section := range []struct {
		from []Record
		into *[]dns.RR
	}{{a.Records, &m.Answer}, {a.Authority, &m.Ns}, {a.Additional, &m.Extra}} {
		for _, r := range section.from {
			rr, err := toRR(r)
			if err != nil {
				return nil, err
			}
			*section.into = append(*section.into, rr)
		}
	}
	return m, nil
}

// shallowCopy lets a message be cut without touching the original; the records themselves are only read.
func shallowCopy(m *dns.Msg) *dns.Msg {
	c := *m
	c.Extra = append([]dns.RR(nil), m.Extra...) // an OPT is appended to it
	return &c
}

func withoutOPT(extra []dns.RR) []dns.RR {
	if n := len(extra); n > 0 && extra[n-1].Header().Rrtype == dns.TypeOPT {
		return extra[:n-1]
	}
	return extra
}

// readable counts the distinct addresses that the answer leads to.
func readable(a *Answer) int {
	endpoints, _ := a.Endpoints()
	addrs := make(map[netip.Addr]bool, len(endpoints))
	for _, e := range endpoints {
		addrs[e.Address] = true
	}
	return len(addrs)
}
