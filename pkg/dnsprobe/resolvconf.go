package dnsprobe

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Limits of glibc's stub resolver (resolv.conf(5), <resolv.h>): values above are lowered to these.
const (
	maxNameservers = 3  // MAXNS; Kubernetes allows no more either (MaxDNSNameservers)
	maxNdots       = 15 // RES_MAXNDOTS
	maxTimeout     = 30 // RES_MAXRETRANS, seconds
	maxAttempts    = 5  // RES_MAXRETRY
)

// Limits of Kubernetes on the search list of a pod (KEP 2595). glibc before 2.26 stops at 6 domains or 256 characters and musl at
// 256 characters, later glibc has no limit; so the list is never cut here, and only Kubernetes' limits are warned of.
const (
	maxSearchDomains = 32
	maxSearchChars   = 2048
)

// maxConfigLine bounds a line of resolv.conf in octets: enough for the longest search list that Kubernetes lets pass.
const maxConfigLine = 64 << 10

// ResolvConf is what a stub resolver reads from resolv.conf(5).
type ResolvConf struct {
	// Nameservers are asked in this order, on port 53; glibc takes the first three. Without any, glibc asks the local host.
	Nameservers []netip.Addr `json:"nameservers,omitempty"`
	// Search holds the domains to try names in, in order and without final dots; "." stands for the root. When the file names none
	// glibc takes the host name's domain, which is not known here: the list is empty then.
	Search []string `json:"search,omitempty"`
	// Ndots is the number of dots from which a name is tried as it is before the search list.
	Ndots int `json:"ndots"`
	// Timeout is how long one server has for its answer.
	Timeout time.Duration `json:"timeoutNanos"`
	// Attempts is how often the list of servers is gone through.
	Attempts int `json:"attempts"`
	// Rotate spreads questions over the servers.
	Rotate bool `json:"rotate,omitempty"`
	// UseVC asks over TCP at once.
	UseVC bool `json:"useVC,omitempty"`
	// EDNS0 advertises a UDP payload size.
	EDNS0 bool `json:"edns0,omitempty"`
	// NoTLDQuery keeps names without a dot from being tried as they are.
	NoTLDQuery bool `json:"noTLDQuery,omitempty"`
	// OtherOptions are the options that have no effect here, as written.
	OtherOptions []string `json:"otherOptions,omitempty"`
	// Warnings say what was passed over, lowered, or would not work everywhere.
	Warnings []string `json:"warnings,omitempty"`
}

// DefaultResolvConf is what an empty file means (resolv.conf(5)).
func DefaultResolvConf() ResolvConf {
	return ResolvConf{Ndots: 1, Timeout: DefaultTimeout, Attempts: 2}
}

// ParseResolvConf reads a resolv.conf as glibc does: a keyword at the very start of a line, comments from '#' or ';' at the very start
// of a line, the last of all search and domain lines counts, and nothing is an error. What glibc would pass over in silence is in
// Warnings. The error is only one of reading, or a line beyond 64 KiB.
func ParseResolvConf(r io.Reader) (ResolvConf, error) {
	conf := DefaultResolvConf()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxConfigLine)
	for n := 1; lines.Scan(); n++ {
		conf.line(n, lines.Text())
	}
	if err := lines.Err(); err != nil {
		return conf, fmt.Errorf("read resolv.conf: %w", err)
	}
	if chars := len(strings.Join(conf.Search, " ")); len(conf.Search) > maxSearchDomains || chars > maxSearchChars {
		conf.warn("search list of %d domains and %d characters: Kubernetes allows %d and %d", len(conf.Search), chars,
			maxSearchDomains, maxSearchChars)
	}
	return conf, nil
}

func (c *ResolvConf) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

func (c *ResolvConf) line(n int, line string) {
	if line == "" || line[0] == '#' || line[0] == ';' {
		return
	}
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return
	}
	if line[0] == ' ' || line[0] == '\t' {
		c.warn("line %d: keyword %q is indented and passed over", n, fields[0])
		return
	}
	keyword, values := fields[0], fields[1:]
	if len(values) == 0 && keyword != "search" && keyword != "options" {
		c.warn("line %d: %s without a value", n, keyword)
		return
	}
	switch keyword {
	case "nameserver":
		c.nameserver(n, values[0])
	case "domain":
		c.setSearch(n, values[:1])
	case "search":
		c.setSearch(n, values)
	case "options":
		for _, option := range values {
			c.option(n, option)
		}
	case "sortlist":
	default:
		c.warn("line %d: unknown keyword %q", n, keyword)
	}
}

func (c *ResolvConf) nameserver(n int, value string) {
	addr, err := netip.ParseAddr(value)
	switch {
	case err != nil:
		c.warn("line %d: nameserver %q is no IP address", n, value)
	case len(c.Nameservers) == maxNameservers:
		c.warn("line %d: nameserver %s is beyond the first %d", n, addr, maxNameservers)
	default:
		c.Nameservers = append(c.Nameservers, addr)
	}
}

func (c *ResolvConf) setSearch(n int, domains []string) {
	c.Search = nil
	for _, domain := range domains {
		if _, err := canonicalName(domain); err != nil {
			c.warn("line %d: search domain %q is no domain name", n, domain)
			continue
		}
		if domain != "." && dns.IsFqdn(domain) {
			domain = strings.TrimSuffix(domain, ".")
		}
		c.Search = append(c.Search, domain)
	}
}

func (c *ResolvConf) option(n int, option string) {
	name, value, _ := strings.Cut(option, ":")
	switch name {
	case "ndots":
		c.number(n, option, value, 0, maxNdots, func(v int) { c.Ndots = v })
	case "timeout":
		c.number(n, option, value, 1, maxTimeout, func(v int) { c.Timeout = time.Duration(v) * time.Second })
	case "attempts":
		c.number(n, option, value, 1, maxAttempts, func(v int) { c.Attempts = v })
	case "rotate":
		c.Rotate = true
	case "use-vc":
		c.UseVC = true
	case "edns0":
		c.EDNS0 = true
	case "no-tld-query":
		c.NoTLDQuery = true
	default:
		c.OtherOptions = append(c.OtherOptions, option)
	}
}

// number sets an option, lowered or raised to what the resolver would use.
func (c *ResolvConf) number(n int, option, value string, least, most int, set func(int)) {
	v, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		c.warn("line %d: option %q has no number", n, option)
		return
	}
	used := min(max(int(v), least), most)
	if used != int(v) {
		c.warn("line %d: option %q counts as %d", n, option, used)
	}
	set(used)
}

// Candidates returns the fully qualified names that a lookup of name asks for, in order, until one is found. The walk is
// glibc's, which the pure Go resolver shares: a name that ends in a dot is asked as it is and no other way; one with at
// least Ndots dots is asked as it is first and then below each search domain; any other the other way round. musl differs: from
// Ndots dots on it does not try the search list at all. Names longer than DNS allows are left out (RFC 1035 section 2.3.4).
func (c *ResolvConf) Candidates(name string) []string {
	var out []string
	for _, candidate := range c.plan(name) {
		out = append(out, candidate.name)
	}
	return out
}

// candidate is a name of the walk, with its place in glibc's rules.
type candidate struct {
	name  string
	place place
}

type place int

const (
	searched  place = iota // from the search list
	asIsFirst              // the name as it is, before the search list or instead of it
	asIsLast               // the name as it is, after the search list
)

func (c *ResolvConf) plan(name string) []candidate {
	var out []candidate
	add := func(name string, at place) {
		if full, err := canonicalName(name); err == nil {
			out = append(out, candidate{full, at})
		}
	}
	if _, err := canonicalName(name); err != nil {
		return nil
	}
	dots := strings.Count(name, ".")
	asItIs := dots >= c.Ndots || dns.IsFqdn(name)
	if asItIs {
		add(name, asIsFirst)
	}
	if dns.IsFqdn(name) {
		return out
	}
	root := false
	for _, domain := range c.Search {
		switch {
		case domain != "." && domain != "":
			add(name+"."+domain, searched)
		case !asItIs && !root:
			add(name, searched)
			fallthrough
		default:
			root = true
		}
	}
	if !asItIs && !root && (dots > 0 || !c.NoTLDQuery) {
		add(name, asIsLast)
	}
	return out
}
