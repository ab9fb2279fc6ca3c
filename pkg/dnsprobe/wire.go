package dnsprobe

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// headerSize is the length of the fixed header of RFC 1035 section 4.1.1.
const headerSize = 12

// The header bits of RFC 1035 section 4.1.1, in the second 16-bit word.
const (
	bitResponse           = 1 << 15
	bitAuthoritative      = 1 << 10
	bitTruncated          = 1 << 9
	bitRecursionDesired   = 1 << 8
	bitRecursionAvailable = 1 << 7
	maskOpcode            = 0xF << 11
	maskRcode             = 0xF
)

// maxTTL is the greatest TTL that RFC 2181 section 8 lets stand; anything above reads as zero.
const maxTTL = 1<<31 - 1

// asked is what an answer is held against.
type asked struct {
	id       uint16
	question Question
	// edns is the advertised UDP payload size; 0 means no OPT was sent.
	edns uint16
}

// canonicalQuestion checks q and brings its name into the fully qualified form that an answer would have, so that the two
// compare however the name was escaped.
func canonicalQuestion(q Question) (Question, error) {
	if q.Type == 0 || q.Type == Type(dns.TypeOPT) {
		return q, fmt.Errorf("%w: %s is no type to ask for", ErrBadQuestion, q.Type)
	}
	name, err := canonicalName(q.Name)
	if err != nil {
		return q, err
	}
	return Question{Name: name, Type: q.Type}, nil
}

// canonicalName returns name fully qualified and escaped as the wire's names are, in its own case.
func canonicalName(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("%w: empty name", ErrBadQuestion)
	}
	full := dns.Fqdn(name)
	if !dns.IsFqdn(full) { // a backslash at the end escapes the dot that was to end it
		return "", fmt.Errorf("%w: name %q: ends within an escape", ErrBadQuestion, name)
	}
	var buf [256]byte
	end, err := dns.PackDomainName(full, buf[:], 0, nil, false)
	if err != nil {
		return "", fmt.Errorf("%w: name %q: %w", ErrBadQuestion, name, err)
	}
	canonical, _, err := dns.UnpackDomainName(buf[:end], 0)
	if err != nil {
		return "", fmt.Errorf("%w: name %q: %w", ErrBadQuestion, name, err)
	}
	return canonical, nil
}

// encode builds the question's message. Recursion is desired, as every stub resolver says.
func encode(s asked) ([]byte, error) {
	m := dns.Msg{
		MsgHdr:   dns.MsgHdr{Id: s.id, RecursionDesired: true},
		Question: []dns.Question{{Name: s.question.Name, Qtype: uint16(s.question.Type), Qclass: dns.ClassINET}},
	}
	if s.edns > 0 {
		m.SetEdns0(s.edns, false)
	}
	wire, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadQuestion, err)
	}
	return wire, nil
}

// verified is a message that is known to answer the question asked.
type verified struct {
	wire        []byte
	bits        uint16
	body        int // offset of the first record
	caseChanged bool
}

// verify tells whether wire answers what was asked, by the rules of RFC 5452 section 9.1, and reads no further than it must for
// that. Its error is ErrMalformed or ErrSpoofed.
func verify(wire []byte, s asked) (verified, error) {
	v := verified{wire: wire}
	if len(wire) < headerSize {
		return v, fmt.Errorf("%w: %d octets where the header alone has %d", ErrMalformed, len(wire), headerSize)
	}
	v.bits = binary.BigEndian.Uint16(wire[2:])
	id, questions := binary.BigEndian.Uint16(wire), binary.BigEndian.Uint16(wire[4:])
	switch {
	case id != s.id:
		return v, fmt.Errorf("%w: id %d, asked with %d", ErrSpoofed, id, s.id)
	case v.bits&bitResponse == 0:
		return v, fmt.Errorf("%w: not a response", ErrSpoofed)
	case v.bits&maskOpcode != 0:
		return v, fmt.Errorf("%w: opcode %d", ErrSpoofed, v.bits&maskOpcode>>11)
	case questions > 1:
		return v, fmt.Errorf("%w: %d questions in it", ErrSpoofed, questions)
	case questions == 0 && !mayOmitQuestion(v.bits):
		return v, fmt.Errorf("%w: no question in it", ErrSpoofed)
	case questions == 0:
		v.body = headerSize
		return v, nil
	}
	name, off, err := dns.UnpackDomainName(wire, headerSize)
	if err != nil {
		return v, fmt.Errorf("%w: question: %w", ErrMalformed, err)
	}
	if off+4 > len(wire) {
		return v, fmt.Errorf("%w: ends within the question", ErrMalformed)
	}
	got := Question{Name: name, Type: Type(binary.BigEndian.Uint16(wire[off:]))}
	class := binary.BigEndian.Uint16(wire[off+2:])
	if !sameName(got.Name, s.question.Name) || got.Type != s.question.Type || class != dns.ClassINET {
		return v, fmt.Errorf("%w: it is for %s %s class %d", ErrSpoofed, got.Name, got.Type, class)
	}
	v.body, v.caseChanged = off+4, got.Name != s.question.Name
	return v, nil
}

// mayOmitQuestion lets refusals of a header alone pass: servers that could not or would not parse the question send them, and
// the most that a forger gains is a refusal.
func mayOmitQuestion(bits uint16) bool {
	switch Rcode(bits & maskRcode) {
	case RcodeFormatError, RcodeServerFailure, RcodeNotImplemented, RcodeRefused:
		return true
	}
	return false
}

// decode takes a verified message apart. It is strict: the sections must hold as many records as the header says. Only when TC
// is set may the message end early, because some servers and middle boxes cut at the octet; what was whole is kept then.
func decode(v verified, s asked) (*Answer, error) {
	a := &Answer{
		Question: s.question,
		Rcode:    Rcode(v.bits & maskRcode),
		Flags: Flags{
			Authoritative:      v.bits&bitAuthoritative != 0,
			Truncated:          v.bits&bitTruncated != 0,
			RecursionDesired:   v.bits&bitRecursionDesired != 0,
			RecursionAvailable: v.bits&bitRecursionAvailable != 0,
		},
		EDNS:        EDNS{Advertised: s.edns},
		Size:        len(v.wire),
		CaseChanged: v.caseChanged,
	}
	off, err := a.readSections(v.wire, v.body)
	switch {
	case err == nil:
		a.TrailingBytes = len(v.wire) - off
	case a.Flags.Truncated:
		a.CutShort = true
	default:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	a.follow()
	return a, nil
}

func (a *Answer) readSections(wire []byte, off int) (int, error) {
	sections := []struct {
		name string
		into *[]Record
	}{{"answer", &a.Records}, {"authority", &a.Authority}, {"additional", &a.Additional}}
	for i, section := range sections {
		count := int(binary.BigEndian.Uint16(wire[6+2*i:]))
		for n := range count {
			if off >= len(wire) {
				return off, fmt.Errorf("%s section ends after %d of %d records", section.name, n, count)
			}
			rr, next, err := dns.UnpackRR(wire, off)
			if err != nil {
				return off, fmt.Errorf("%s section, record %d of %d: %w", section.name, n+1, count, err)
			}
			if err := a.take(rr, section.into); err != nil {
				return off, fmt.Errorf("%s section, record %d of %d: %w", section.name, n+1, count, err)
			}
			off = next
		}
	}
	return off, nil
}

// take files one record: the OPT pseudo-record into EDNS, all others into the section.
func (a *Answer) take(rr dns.RR, into *[]Record) error {
	opt, isOPT := rr.(*dns.OPT)
	if !isOPT {
		r, err := fromRR(rr)
		if err != nil {
			return err
		}
		*into = append(*into, r)
		return nil
	}
	// RFC 6891 section 6.1.1: at most one OPT, in the additional section, owned by the root.
	if into != &a.Additional || a.EDNS.Echoed || opt.Hdr.Name != "." {
		return fmt.Errorf("misplaced or repeated OPT")
	}
	a.EDNS.Echoed = true
	a.EDNS.ServerSize = opt.UDPSize()
	a.EDNS.Version = opt.Version()
	a.Rcode |= Rcode(opt.ExtendedRcode())
	return nil
}

// fromRR turns a record as unpacked into ours.
func fromRR(rr dns.RR) (Record, error) {
	h := rr.Header()
	r := Record{Name: h.Name, Type: Type(h.Rrtype), TTL: h.Ttl}
	if h.Class != dns.ClassINET {
		r.Class = h.Class
	}
	if r.TTL > maxTTL {
		r.TTL = 0
	}
	ok := true
	switch x := rr.(type) {
	case *dns.A:
		r.Address, ok = netip.AddrFromSlice(x.A.To4())
	case *dns.AAAA:
		r.Address, ok = netip.AddrFromSlice(x.AAAA.To16())
	case *dns.CNAME:
		r.Target = x.Target
		ok = r.Target != ""
	case *dns.SRV:
		r.Target, r.Port, r.Priority, r.Weight = x.Target, x.Port, x.Priority, x.Weight
		ok = r.Target != ""
	case *dns.SOA:
		r.SOA = &SOA{MName: x.Ns, RName: x.Mbox, Serial: x.Serial, Refresh: x.Refresh, Retry: x.Retry,
			Expire: x.Expire, Minimum: x.Minttl}
		ok = x.Ns != "" && x.Mbox != ""
	default:
		r.Data = zoneForm(rr)
	}
	if !ok {
		return r, fmt.Errorf("%s record of %s without data", r.Type, r.Name)
	}
	return r, nil
}

// zoneForm returns the data of a record as a zone file would have it; types that have no such form get that of RFC 3597 section 5.
func zoneForm(rr dns.RR) string {
	if text, ok := strings.CutPrefix(rr.String(), rr.Header().String()); ok {
		return text
	}
	var unknown dns.RFC3597
	if err := unknown.ToRFC3597(rr); err != nil {
		return ""
	}
	return fmt.Sprintf(`\# %d %s`, len(unknown.Rdata)/2, unknown.Rdata)
}

// toRR is the way back, for computing what a message would weigh.
func toRR(r Record) (dns.RR, error) {
	h := dns.RR_Header{Name: r.Name, Rrtype: uint16(r.Type), Class: dns.ClassINET, Ttl: r.TTL}
	if r.Class != 0 {
		h.Class = r.Class
	}
	switch {
	case r.Type == TypeA && r.Address.Is4():
		return &dns.A{Hdr: h, A: r.Address.AsSlice()}, nil
	case r.Type == TypeAAAA && r.Address.Is6():
		return &dns.AAAA{Hdr: h, AAAA: r.Address.AsSlice()}, nil
	case r.Type == TypeCNAME && r.Target != "":
		return &dns.CNAME{Hdr: h, Target: r.Target}, nil
	case r.Type == TypeSRV && r.Target != "":
		return &dns.SRV{Hdr: h, Target: r.Target, Port: r.Port, Priority: r.Priority, Weight: r.Weight}, nil
	case r.Type == TypeSOA && r.SOA != nil:
		return &dns.SOA{Hdr: h, Ns: r.SOA.MName, Mbox: r.SOA.RName, Serial: r.SOA.Serial, Refresh: r.SOA.Refresh,
			Retry: r.SOA.Retry, Expire: r.SOA.Expire, Minttl: r.SOA.Minimum}, nil
	case r.Data == "":
		return nil, fmt.Errorf("%s record of %s has no data", r.Type, r.Name)
	}
	// The owner is set afterwards: a zone-file parser would take a name such as $ORIGIN for a directive.
	rr, err := dns.NewRR(fmt.Sprintf(". 0 IN %s %s", r.Type, r.Data))
	if err != nil {
		return nil, fmt.Errorf("%s record of %s: %w", r.Type, r.Name, err)
	}
	if rr == nil {
		return nil, fmt.Errorf("%s record of %s has no data", r.Type, r.Name)
	}
	*rr.Header() = h
	return rr, nil
}
