package dnsprobe

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// Transport is how a question travelled.
type Transport string

// The two transports of RFC 1035 section 4.2. The values are the network names that a [DialFunc] is called with.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
)

// Type is a record type by its number (RFC 1035 section 3.2.2). It marshals as its mnemonic, or as TYPE123 where there is none
// (RFC 3597 section 5).
type Type uint16

// The record types that this package takes apart; others are kept in their text form.
const (
	TypeA     = Type(dns.TypeA)
	TypeNS    = Type(dns.TypeNS)
	TypeCNAME = Type(dns.TypeCNAME)
	TypeSOA   = Type(dns.TypeSOA)
	TypePTR   = Type(dns.TypePTR)
	TypeTXT   = Type(dns.TypeTXT)
	TypeAAAA  = Type(dns.TypeAAAA)
	TypeSRV   = Type(dns.TypeSRV)
)

// String returns the mnemonic.
func (t Type) String() string {
	// The table also names values that are no types, in mixed case ("None", "Reserved").
	if s, ok := dns.TypeToString[uint16(t)]; ok && s == strings.ToUpper(s) {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// MarshalText returns the mnemonic; it never fails.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a mnemonic in any case, or TYPE123.
func (t *Type) UnmarshalText(text []byte) error {
	s := strings.ToUpper(string(text))
	if n, ok := dns.StringToType[s]; ok {
		*t = Type(n)
		return nil
	}
	n, err := numbered(s, "TYPE", 16)
	if err != nil {
		return fmt.Errorf("read record type %q: %w", text, err)
	}
	*t = Type(n)
	return nil
}

// Rcode is a response code, extended by EDNS(0) where the answer carried it (RFC 6891 section 6.1.3). It marshals as its
// mnemonic, or as RCODE123.
type Rcode uint16

// The response codes that callers branch on (RFC 1035 section 4.1.1).
const (
	RcodeSuccess        = Rcode(dns.RcodeSuccess)
	RcodeFormatError    = Rcode(dns.RcodeFormatError)
	RcodeServerFailure  = Rcode(dns.RcodeServerFailure)
	RcodeNameError      = Rcode(dns.RcodeNameError)
	RcodeNotImplemented = Rcode(dns.RcodeNotImplemented)
	RcodeRefused        = Rcode(dns.RcodeRefused)
)

// String returns the mnemonic, such as NOERROR or NXDOMAIN. 16 is BADVERS: its other meaning belongs to TSIG, which is never
// sent from here.
func (r Rcode) String() string {
	if r == dns.RcodeBadVers {
		return "BADVERS"
	}
	if s, ok := dns.RcodeToString[int(r)]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(int(r))
}

// MarshalText returns the mnemonic; it never fails.
func (r Rcode) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a mnemonic in any case, or RCODE123.
func (r *Rcode) UnmarshalText(text []byte) error {
	s := strings.ToUpper(string(text))
	if s == "BADVERS" {
		*r = dns.RcodeBadVers
		return nil
	}
	if n, ok := dns.StringToRcode[s]; ok {
		*r = Rcode(n)
		return nil
	}
	n, err := numbered(s, "RCODE", 12)
	if err != nil {
		return fmt.Errorf("read response code %q: %w", text, err)
	}
	*r = Rcode(n)
	return nil
}

// numbered reads the number behind prefix.
func numbered(s, prefix string, bits int) (uint64, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return 0, fmt.Errorf("neither a known name nor %s and a number", prefix)
	}
	return strconv.ParseUint(digits, 10, bits)
}

// sameName compares domain names as RFC 1035 section 2.3.3 asks: ASCII letters without regard to case.
func sameName(a, b string) bool { return dns.CanonicalName(a) == dns.CanonicalName(b) }
