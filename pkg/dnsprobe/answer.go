package dnsprobe

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Question is a name and a record type; the class is always IN.
type Question struct {
	// Name is asked in the case it is written in. A missing final dot is added; there is no search path here (see [Resolver]).
	Name string `json:"name"`
	// Type is the record type wanted.
	Type Type `json:"type"`
}

// Answer is one response message, taken apart.
type Answer struct {
	// Server is the address asked, as it was given to the client.
	Server string `json:"server"`
	// Transport is how this very message came.
	Transport Transport `json:"transport"`
	// Question is what was asked, fully qualified.
	Question Question `json:"question"`
	// Rcode is the response code, with EDNS(0)'s upper bits.
	Rcode Rcode `json:"rcode"`
	// Flags are the header's bits.
	Flags Flags `json:"flags,omitzero"`
	// EDNS is what both sides said of EDNS(0); its zero value says that neither used it.
	EDNS EDNS `json:"edns,omitzero"`
	// Records is the answer section in the order of the wire, CNAMEs and strangers included; see [Answer.Final].
	Records []Record `json:"records,omitempty"`
	// Authority is the authority section in the order of the wire; see [Answer.SOA].
	Authority []Record `json:"authority,omitempty"`
	// Additional is the additional section in the order of the wire without the OPT pseudo-record, which is in EDNS.
	Additional []Record `json:"additional,omitempty"`
	// Chain holds the names that CNAME records of this answer lead to, in order, without the name asked.
	Chain []string `json:"chain,omitempty"`
	// ChainLoops is true when the CNAMEs lead back to a name already seen, so that no record is final.
	ChainLoops bool `json:"chainLoops,omitempty"`
	// Size is the length of the message on the wire in octets, without TCP's length prefix. Over UDP it may exceed what was
	// advertised: the server is at fault then, and nothing is cut off here.
	Size int `json:"size"`
	// RTT runs from writing the question to having read the whole answer; dialling is not in it.
	RTT time.Duration `json:"rttNanos"`
	// CaseChanged is true when the server gave the question back in another case. That is allowed (RFC 4343 section 4) but
	// defeats clients that hide randomness in the case.
	CaseChanged bool `json:"caseChanged,omitempty"`
	// TrailingBytes counts octets behind the last record that the header announced.
	TrailingBytes int `json:"trailingBytes,omitempty"`
	// CutShort is true for a truncated answer that also ends within a record; what could be read is kept.
	CutShort bool `json:"cutShort,omitempty"`
	// Ignored counts the UDP datagrams that came first and did not answer the question.
	Ignored int `json:"ignored,omitempty"`
	// IgnoredWhy says why for the first few of them.
	IgnoredWhy []string `json:"ignoredWhy,omitempty"`
	// Earlier holds, oldest first, the answers that made the client ask again: an EDNS(0) question that was refused, a truncated
	// UDP answer. They have no Earlier of their own.
	Earlier []Answer `json:"earlier,omitempty"`
}

// Flags are the header bits of RFC 1035 section 4.1.1 that say something about the server.
type Flags struct {
	Authoritative      bool `json:"authoritative,omitempty"`
	Truncated          bool `json:"truncated,omitempty"`
	RecursionDesired   bool `json:"recursionDesired,omitempty"`
	RecursionAvailable bool `json:"recursionAvailable,omitempty"`
}

// EDNS is what the two OPT pseudo-records said (RFC 6891 section 6.1.2).
type EDNS struct {
	// Advertised is the UDP payload size sent in the question, in octets; 0 says that no OPT was sent.
	Advertised uint16 `json:"advertised,omitempty"`
	// Echoed is true when the answer had an OPT.
	Echoed bool `json:"echoed,omitempty"`
	// ServerSize is the UDP payload size in the answer's OPT, in octets: CoreDNS repeats the client's, others give their own.
	ServerSize uint16 `json:"serverSize,omitempty"`
	// Version is the one in the answer's OPT; only 0 is defined.
	Version uint8 `json:"version,omitempty"`
}

// Record is a resource record.
type Record struct {
	// Name is the owner, fully qualified, in the case of the wire and with RFC 1035 section 5.1 escapes.
	Name string `json:"name"`
	// Type says which of the fields below are set.
	Type Type `json:"type"`
	// Class is 0 for IN, and the class's number for any other.
	Class uint16 `json:"class,omitempty"`
	// TTL is in seconds; one with the top bit set reads as 0 (RFC 2181 section 8).
	TTL uint32 `json:"ttl"`
	// Address belongs to A and AAAA.
	Address netip.Addr `json:"address,omitzero"`
	// Target belongs to CNAME and SRV; an SRV target of "." says that the service is not there (RFC 2782).
	Target string `json:"target,omitempty"`
	// Port, Priority and Weight belong to SRV (RFC 2782).
	Port     uint16 `json:"port,omitempty"`
	Priority uint16 `json:"priority,omitempty"`
	Weight   uint16 `json:"weight,omitempty"`
	// SOA belongs to SOA.
	SOA *SOA `json:"soa,omitempty"`
	// Data is the zone-file form of the data of all other types.
	Data string `json:"data,omitempty"`
}

// SOA is the data of a start-of-authority record (RFC 1035 section 3.3.13). Times are in seconds.
type SOA struct {
	MName   string `json:"mname"`
	RName   string `json:"rname"`
	Serial  uint32 `json:"serial"`
	Refresh uint32 `json:"refresh"`
	Retry   uint32 `json:"retry"`
	Expire  uint32 `json:"expire"`
	Minimum uint32 `json:"minimum"`
}

// Outcome sums up what an answer says about the question.
type Outcome string

// The outcomes of an exchange that brought an answer.
const (
	// OutcomeFound: at least one record of the type asked, at the end of the CNAME chain.
	OutcomeFound Outcome = "found"
	// OutcomeNoData: NOERROR without such a record (RFC 2308 section 2.2); the name has records of other types, has names below
	// it, or its CNAME chain ends or loops without data.
	OutcomeNoData Outcome = "nodata"
	// OutcomeReferral: NOERROR without such a record, pointing at other servers instead (RFC 2308 section 2.2: NS, no SOA, no AA).
	OutcomeReferral Outcome = "referral"
	// OutcomeNXDomain: the last name of the chain does not exist (RFC 2308 section 2.1).
	OutcomeNXDomain Outcome = "nxdomain"
	// OutcomeServFail: the server could not find out.
	OutcomeServFail Outcome = "servfail"
	// OutcomeRefused: the server does not want to say.
	OutcomeRefused Outcome = "refused"
	// OutcomeRejected: any other response code, such as FORMERR or NOTIMP.
	OutcomeRejected Outcome = "rejected"
)

// Outcome classes the answer. A truncated answer is classed by what it still holds.
func (a *Answer) Outcome() Outcome {
	switch a.Rcode {
	case RcodeSuccess:
	case RcodeNameError:
		return OutcomeNXDomain
	case RcodeServerFailure:
		return OutcomeServFail
	case RcodeRefused:
		return OutcomeRefused
	default:
		return OutcomeRejected
	}
	if len(a.Final()) > 0 {
		return OutcomeFound
	}
	if a.SOA() == nil && !a.Flags.Authoritative && len(a.Chain) == 0 && hasType(a.Authority, TypeNS) {
		return OutcomeReferral
	}
	return OutcomeNoData
}

// CanonicalName is the last name of the CNAME chain, or the name asked when there is none.
func (a *Answer) CanonicalName() string {
	if n := len(a.Chain); n > 0 {
		return a.Chain[n-1]
	}
	return a.Question.Name
}

// Final returns the records that answer the question: those of the type asked, in class IN, owned by the last name of the CNAME
// chain. Others in the answer section are not believed (RFC 5452 section 6, RFC 2181 section 5.4.1). Asking for CNAME does
// not follow any.
func (a *Answer) Final() []Record {
	if a.ChainLoops {
		return nil
	}
	owner := dns.CanonicalName(a.CanonicalName())
	var out []Record
	for _, r := range a.Records {
		wanted := r.Type == a.Question.Type || a.Question.Type == Type(dns.TypeANY)
		if wanted && r.Class == 0 && dns.CanonicalName(r.Name) == owner {
			out = append(out, r)
		}
	}
	return out
}

// SOA returns the first SOA of the authority section, which a negative answer carries (RFC 2308 section 3), or nil.
func (a *Answer) SOA() *Record {
	for i := range a.Authority {
		if a.Authority[i].Type == TypeSOA && a.Authority[i].SOA != nil {
			return &a.Authority[i]
		}
	}
	return nil
}

// TTL is how long the answer may be cached: the least TTL of the final records and of the CNAMEs that led to them (RFC 2181
// section 5.2), and for a negative answer the lesser of the SOA's own TTL and its minimum field (RFC 2308 section 5). It is
// false when the answer gives no such time: then it must not be cached.
func (a *Answer) TTL() (time.Duration, bool) {
	switch a.Outcome() {
	case OutcomeFound:
	case OutcomeNoData, OutcomeNXDomain:
		soa := a.SOA()
		if soa == nil {
			return 0, false
		}
		return time.Duration(min(soa.TTL, soa.SOA.Minimum)) * time.Second, true
	default:
		return 0, false
	}
	least := ^uint32(0)
	for _, r := range a.Final() {
		least = min(least, r.TTL)
	}
	path := map[string]bool{dns.CanonicalName(a.Question.Name): true}
	for _, name := range a.Chain {
		path[dns.CanonicalName(name)] = true
	}
	for _, r := range a.Records {
		if r.Type == TypeCNAME && len(a.Chain) > 0 && path[dns.CanonicalName(r.Name)] {
			least = min(least, r.TTL)
		}
	}
	return time.Duration(least) * time.Second, true
}

// TruncatedUDP returns the truncated UDP answer that led to this one, or this one if it is that itself, or nil.
func (a *Answer) TruncatedUDP() *Answer {
	if a.Transport == UDP && a.Flags.Truncated {
		return a
	}
	for i := range a.Earlier {
		if e := &a.Earlier[i]; e.Transport == UDP && e.Flags.Truncated {
			return e
		}
	}
	return nil
}

// EDNSRefused tells whether the server rejected the question because of its OPT record and the client asked again without one
// (RFC 6891 section 7).
func (a *Answer) EDNSRefused() bool {
	for i := range a.Earlier {
		if refusesEDNS(&a.Earlier[i]) {
			return true
		}
	}
	return false
}

// follow fills in Chain and ChainLoops from the CNAMEs of the answer section (RFC 1034 section 3.6.2). The first CNAME of an
// owner counts; a second one is against RFC 2181 section 10.1.
func (a *Answer) follow() {
	a.Chain, a.ChainLoops = nil, false
	if a.Question.Type == TypeCNAME || a.Question.Type == Type(dns.TypeANY) {
		return
	}
	next := make(map[string]string)
	for _, r := range a.Records {
		owner := dns.CanonicalName(r.Name)
		if _, twice := next[owner]; r.Type == TypeCNAME && r.Class == 0 && !twice {
			next[owner] = r.Target
		}
	}
	name := dns.CanonicalName(a.Question.Name)
	seen := map[string]bool{name: true}
	for {
		target, ok := next[name]
		if !ok {
			return
		}
		a.Chain = append(a.Chain, target)
		name = dns.CanonicalName(target)
		if seen[name] {
			a.ChainLoops = true
			return
		}
		seen[name] = true
	}
}

func hasType(records []Record, t Type) bool {
	for _, r := range records {
		if r.Type == t {
			return true
		}
	}
	return false
}
