package target

import (
	"regexp"
	"slices"
	"strings"
)

// words splits a variable's, flag's or key's name into its words in upper case: GRPC_CLIENT_ADDRESS, grpc.client.address and
// grpcClientAddress are the same three.
func words(name string) []string {
	var out []string
	for _, w := range wordAt(name) {
		out = append(out, strings.ToUpper(name[w[0]:w[1]]))
	}
	return out
}

// wordAt returns the spans of a name's words.
func wordAt(name string) [][2]int {
	var out [][2]int
	start := -1
	for i := 0; i <= len(name); i++ {
		var c, before byte
		if i < len(name) {
			c = name[i]
		}
		if i > 0 {
			before = name[i-1]
		}
		alnum := isLetter(rune(c)) || c >= '0' && c <= '9'
		hump := c >= 'A' && c <= 'Z' && before >= 'a' && before <= 'z'
		if start >= 0 && (!alnum || hump) {
			out = append(out, [2]int{start, i})
			start = -1
		}
		if start < 0 && alnum {
			start = i
		}
	}
	return out
}

// Words of names whose value is an address to dial.
var addressWords = []string{
	"ADDR", "ADDRESS", "ADDRESSES", "HOST", "HOSTS", "HOSTNAME", "TARGET", "TARGETS", "SERVER", "SERVERS", "ENDPOINT", "ENDPOINTS", "URL",
	"URLS", "URI", "UPSTREAM", "UPSTREAMS", "BACKEND", "BACKENDS", "DIAL", "CONNECT", "FQDN",
}

// Words of names whose value may equal a Service's name, or have the form of an address, and is not dialled.
var otherWords = []string{
	"LISTEN", "LISTENER", "BIND", "ADVERTISE", "ADVERTISED", "IMAGE", "TAG", "NAMESPACE", "NODE", "ALLOWED", "ALLOW", "ORIGIN", "ORIGINS",
	"CORS", "AUTHORITY", "OVERRIDE", "SNI", "SAN", "SANS", "ISSUER", "AUDIENCE", "REALM", "USER", "USERNAME", "PASSWORD", "SECRET",
	"TOKEN", "VERSION", "LABEL", "LABELS", "CLASS",
}

// Last words of names whose value is an address even when it is a lone word. TARGET, BACKEND or UPSTREAM are not among them: the value
// of CACHE_BACKEND may be redis, the kind of thing, and not the Service of that name.
var hostWords = []string{
	"ADDR", "ADDRESS", "ADDRESSES", "HOST", "HOSTS", "HOSTNAME", "SERVER", "SERVERS", "ENDPOINT", "ENDPOINTS", "URL", "URLS", "URI", "FQDN",
}

type nameSense struct {
	address, other, grpc, noProxy bool
	last                          string // word that says what the value is
}

func sense(name string) nameSense {
	var s nameSense
	ws := words(name)
	for i, w := range ws {
		s.address = s.address || slices.Contains(addressWords, w)
		s.other = s.other || slices.Contains(otherWords, w)
		s.grpc = s.grpc || strings.Contains(w, "GRPC")
		s.noProxy = s.noProxy || w == "NOPROXY" || w == "PROXY" && i > 0 && (ws[i-1] == "NO" || ws[i-1] == "NON")
		// The last word counts, without a number behind it, and HOST_NAME is a HOST.
		if strings.Trim(w, "0123456789") != "" && (w != "NAME" || i == 0 || ws[i-1] != "HOST" && ws[i-1] != "DNS") {
			s.last = w
		}
	}
	return s
}

// lone reports whether a single word under this name is an address.
func (s nameSense) lone() bool {
	return slices.Contains(hostWords, s.last) || s.grpc && slices.Contains(addressWords, s.last)
}

// portNames proposes the names under which the port of a host may stand: the name with its last address word replaced by PORT, or
// PORT added. The style of the name is kept (HOST/PORT, host/port, Host/Port).
func portNames(name string) []string {
	var out []string
	at := wordAt(name)
	for i := len(at) - 1; i >= 0; i-- {
		w := name[at[i][0]:at[i][1]]
		if slices.Contains(addressWords, strings.ToUpper(w)) || strings.EqualFold(w, "service") {
			out = append(out, name[:at[i][0]]+like(w, "port")+name[at[i][1]:])
		}
	}
	sep := "_"
	if strings.Contains(name, ".") {
		sep = "."
	} else if strings.Contains(strings.TrimLeft(name, "-"), "-") {
		sep = "-"
	}
	return append(out, name+sep+like(name, "port"))
}

// like writes word with the capitals of model.
func like(model, word string) string {
	switch {
	case model == strings.ToUpper(model):
		return strings.ToUpper(word)
	case model[0] >= 'A' && model[0] <= 'Z':
		return strings.ToUpper(word[:1]) + word[1:]
	}
	return word
}

// sharedWords counts the words that two names begin with alike.
func sharedWords(a, b string) int {
	x, y := words(a), words(b)
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] {
		n++
	}
	return n
}

// policies are the names of load-balancing policies in service configs (gRFC A24, A52 and others), and how people write them.
var (
	policyExact = regexp.MustCompile(`\b(round_robin|pick_first|weighted_round_robin|ring_hash_experimental|ring_hash|least_request_experimental|least_request|grpclb|xds_cluster_resolver_experimental)\b`)
	policyLoose = regexp.MustCompile(`(?i)^["']?(round[-_ ]?robin|pick[-_ ]?first|weighted[-_ ]?round[-_ ]?robin|ring[-_ ]?hash|least[-_ ]?request)["']?$`)
)

var policyWords = []string{"LB", "POLICY", "BALANCING", "BALANCER", "LOADBALANCING", "LOADBALANCER", "STRATEGY"}

// policyIn returns the policy that a value names, in gRPC's spelling; empty for none or several.
func policyIn(name, value string) string {
	if len(value) > 64<<10 {
		return ""
	}
	found := policyExact.FindAllString(value, -1)
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 1 {
		return found[0]
	}
	if len(found) > 1 || !slices.ContainsFunc(words(name), func(w string) bool { return slices.Contains(policyWords, w) }) {
		return ""
	}
	if !policyLoose.MatchString(strings.TrimSpace(value)) {
		return ""
	}
	letters := strings.ToLower(strings.Map(func(r rune) rune {
		if isLetter(r) {
			return r
		}
		return -1
	}, value))
	return map[string]string{
		"roundrobin": "round_robin", "pickfirst": "pick_first", "weightedroundrobin": "weighted_round_robin", "ringhash": "ring_hash",
		"leastrequest": "least_request",
	}[letters]
}

var serviceStyle = []string{"service", "svc", "srv", "server", "grpc", "rpc", "api", "backend", "headless", "gateway", "app", "lb"}

// serviceLike reports whether a name is put together like a Service's: two words, one of which says what it is.
func serviceLike(label string) bool {
	parts := strings.Split(label, "-")
	return len(parts) > 1 && slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(serviceStyle, p) })
}
