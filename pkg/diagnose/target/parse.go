package target

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxValue bounds the values that Parse looks at; no target is as long.
const maxValue = 2048

// Target is one dialled address as written.
type Target struct {
	// Token is the target as written, without user info, query, fragment or the path of a URL.
	Token string
	// Scheme is in lower case; empty when none was written.
	Scheme string
	// Host is a DNS name in lower case without its final dot, or an IP address without brackets.
	Host string
	// Port is 0 when none was written, or when it was a name.
	Port int32
	// Rooted is true when the name ended in a dot: resolvers add no search path to it (RFC 1034, section 3.1).
	Rooted bool
}

// Addr returns the host as an address; false for a name.
func (t Target) Addr() (netip.Addr, bool) {
	a, err := netip.ParseAddr(t.Host)
	return a, err == nil
}

// Schemes of gRPC's own naming (its doc/naming.md), of resolvers that clients commonly add to it, and of URLs that mean gRPC.
var grpcSchemes = []string{
	"dns", "static", "passthrough", "xds", "kubernetes", "k8s", "ipv4", "ipv6", "grpc", "grpcs", "dnssrv", "dnssrvnoa", "google-c2p",
}

// resolverSchemes have the form scheme://authority/endpoint, in which the endpoint is what is dialled.
var resolverSchemes = []string{"dns", "passthrough", "xds", "kubernetes", "k8s", "static", "google-c2p"}

// registrySchemes name something in a registry that is not Kubernetes: the name may look like a Service's and is not one.
var registrySchemes = []string{"consul", "etcd", "etcd3", "zookeeper", "zk", "nacos", "eureka", "discovery", "polaris", "lb"}

// localSchemes reach nothing outside the machine.
var localSchemes = []string{"unix", "unix-abstract", "vsock", "file", "inproc", "data", "mailto", "classpath"}

// GRPCScheme reports whether a scheme says that gRPC is spoken.
func GRPCScheme(s string) bool { return slices.Contains(grpcSchemes, s) }

// Parse reads a whole value as one target, or as several separated by commas or blanks after commas. It returns nil when any part is
// none. A single word without scheme or port also parses, as a host: whether it is one only its context can tell.
func Parse(value string) []Target {
	value = strings.Trim(strings.TrimSpace(value), `"'`)
	if value == "" || len(value) > maxValue || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil
	}
	prefix, scheme, rest := cutScheme(value)
	if slices.Contains(localSchemes, scheme) {
		return nil
	}
	var out []Target
	for part := range strings.SplitSeq(rest, ",") {
		part = strings.TrimSpace(part)
		p, s := prefix, scheme
		if len(out) > 0 {
			// A list repeats its scheme or leaves it out.
			if p2, s2, r2 := cutScheme(part); s2 != "" {
				p, s, part = p2, s2, r2
			}
		}
		t, ok := parseOne(p, s, part)
		if !ok {
			return nil
		}
		out = append(out, t)
	}
	return out
}

// cutScheme splits a value into its scheme with all punctuation as written ("dns:///" is prefix "dns://" and rest "/"), the scheme
// alone, and the rest.
func cutScheme(v string) (prefix, scheme, rest string) {
	if i := strings.Index(v, "://"); i > 0 && isScheme(v[:i]) {
		s := strings.ToLower(v[:i])
		s = strings.TrimPrefix(s, "jdbc:")
		return v[:i+3], s, v[i+3:]
	}
	for _, s := range []string{"dnssrvnoa", "dnssrv", "dns"} { // as Thanos and Cortex write it
		if r, ok := strings.CutPrefix(v, s+"+"); ok {
			return s + "+", s, r
		}
	}
	s, r, ok := strings.Cut(v, ":")
	if !ok || isPort(r) || !slices.Contains(slices.Concat(grpcSchemes, localSchemes), strings.ToLower(s)) {
		return "", "", v
	}
	return s + ":", strings.ToLower(s), r
}

func isScheme(s string) bool {
	s = strings.TrimPrefix(strings.ToLower(s), "jdbc:")
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(c))) {
			return false
		}
	}
	return s != ""
}

func parseOne(prefix, scheme, s string) (Target, bool) {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	if s == "" || strings.ContainsAny(s, ` "'<>{}|\^`+"`") {
		return Target{}, false
	}
	authority, namespace := "", ""
	if strings.HasSuffix(prefix, "://") {
		if slices.Contains(resolverSchemes, scheme) {
			authority, s, namespace = cutAuthority(scheme, s)
		} else {
			s, _, _ = strings.Cut(s, "/")
		}
	} else {
		s, _, _ = strings.Cut(s, "/") // host:port/path
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = s[i+1:]
	}
	t := Target{Scheme: scheme}
	if !t.setHostPort(s, scheme == "kubernetes" || scheme == "k8s" || scheme == "static") {
		return Target{}, false
	}
	if namespace != "" {
		if _, isIP := t.Addr(); isIP || strings.Contains(t.Host, ".") {
			return Target{}, false
		}
		t.Host += "." + namespace
	}
	t.Token = prefix + authority + s
	return t, true
}

// cutAuthority splits authority/endpoint. "scheme://host:port" without a further slash is not what gRPC asks for, but what people
// write and some resolvers take: the authority is the endpoint then. kubernetes://NAMESPACE/NAME:PORT is a form of its own.
func cutAuthority(scheme, s string) (authority, endpoint, namespace string) {
	a, e, ok := strings.Cut(s, "/")
	if !ok || e == "" {
		return "", a, ""
	}
	e, _, _ = strings.Cut(e, "/")
	if i := strings.LastIndexByte(a, '@'); i >= 0 {
		a = a[i+1:]
	}
	if a != "" && !isHostPort(a) {
		return "", "", "" // no endpoint: refused by the caller
	}
	if (scheme == "kubernetes" || scheme == "k8s") && isLabel(a) {
		namespace = strings.ToLower(a)
	}
	return a + "/", e, namespace
}

func isHostPort(s string) bool {
	var t Target
	return t.setHostPort(s, false)
}

// setHostPort reads host, host:port, [v6], [v6]:port or a bare IPv6 address.
func (t *Target) setHostPort(s string, namedPort bool) bool {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		t.Host = a.String()
		return true
	}
	host, port, hasPort := s, "", false
	if strings.HasPrefix(s, "[") {
		in, after, ok := strings.Cut(s[1:], "]")
		a, err := netip.ParseAddr(in)
		if !ok || err != nil || !a.Is6() || a.Zone() != "" {
			return false
		}
		t.Host = a.String()
		if after == "" {
			return true
		}
		if port, hasPort = strings.CutPrefix(after, ":"); !hasPort {
			return false
		}
		return t.setPort(port, namedPort)
	}
	host, port, hasPort = strings.Cut(host, ":")
	if hasPort && !t.setPort(port, namedPort) {
		return false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		t.Host = a.String()
		return true
	}
	host, t.Rooted = strings.CutSuffix(host, ".")
	t.Host = strings.ToLower(host)
	return isName(t.Host)
}

func (t *Target) setPort(s string, named bool) bool {
	if named && isLabel(s) && strings.ContainsFunc(s, isLetter) {
		return true
	}
	if !isPort(s) {
		return false
	}
	n, err := strconv.ParseInt(s, 10, 32)
	t.Port = int32(n)
	return err == nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && len(s) <= 5 && s[0] != '+'
}

// isName accepts DNS names as they occur in practice: underscores too (RFC 2181, section 11), and a last label that is not a
// number, so that 1.5 or 10.0.0 are none.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	last := s
	for l := range strings.SplitSeq(s, ".") {
		if !isLabel(l) {
			return false
		}
		last = l
	}
	return strings.ContainsFunc(last, isLetter)
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !isLetter(r) && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
