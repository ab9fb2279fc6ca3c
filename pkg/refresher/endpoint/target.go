package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Target is what a client asks for, taken apart.
type Target struct {
	// Server is the DNS server to ask, with its port (53 unless said): the
	// authority of refresh://SERVER/name. "" means what the pod's resolv.conf
	// names.
	Server string
	// Host is a name of a Service, short or full, as written but without a
	// trailing dot; or an IP address without brackets.
	Host string
	// Absolute means that Host ended with a dot: no search path.
	Absolute bool
	// Port is the port's number, 0 when it is given by name.
	Port uint16
	// PortName is the name of the Service's port (an SRV label, a port name in
	// EndpointSlices), "" when it is given by number.
	PortName string
}

// ErrTarget is wrapped by every error about a malformed target.
var ErrTarget = errors.New("malformed target")

// ParseTarget takes the authority and the endpoint of a gRPC target apart
// (https://github.com/grpc/grpc/blob/master/doc/naming.md): for
// refresh://10.96.0.10/square.default:grpc they are "10.96.0.10" and
// "square.default:grpc". defaultPort is used when the endpoint has none; ""
// makes that an error.
func ParseTarget(authority, endpoint, defaultPort string) (Target, error) {
	t, err := parseTarget(authority, endpoint, defaultPort)
	if err != nil {
		return Target{}, fmt.Errorf("%w %q: %w", ErrTarget, endpoint, err)
	}
	return t, nil
}

func parseTarget(authority, endpoint, defaultPort string) (Target, error) {
	var t Target
	var err error
	if t.Server, err = parseServer(authority); err != nil {
		return t, err
	}
	if endpoint == "" {
		return t, errors.New("it names nothing: write refresh:///NAME.NAMESPACE:PORT")
	}
	if strings.ContainsAny(endpoint, "/,?#@ \t\r\n") {
		return t, errors.New("one name and one port are wanted, without a path, a list or spaces")
	}
	host, port, err := splitPort(endpoint)
	if err != nil {
		return t, err
	}
	if port == "" {
		if port = defaultPort; port == "" {
			return t, errors.New(`it has no port: add ":PORT", a number or the name of the Service's port`)
		}
	}
	if t.Port, t.PortName, err = parsePort(port); err != nil {
		return t, err
	}
	t.Host, t.Absolute, err = parseHost(host)
	if err == nil && t.PortName != "" && t.IsIP() {
		return t, fmt.Errorf("the port of an IP address is a number, not %q", t.PortName)
	}
	return t, err
}

// IsIP reports whether the target is an address and not a name.
func (t Target) IsIP() bool {
	_, err := netip.ParseAddr(t.Host)
	return err == nil
}

// String is the target as an endpoint of a gRPC target, with a port.
func (t Target) String() string {
	port := t.PortName
	if port == "" {
		port = strconv.Itoa(int(t.Port))
	}
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if t.Absolute {
		host += "."
	}
	return host + ":" + port
}

// parseServer takes the DNS server of the authority.
func parseServer(authority string) (string, error) {
	if authority == "" {
		return "", nil
	}
	host, port, err := splitPort(authority)
	if err != nil {
		return "", fmt.Errorf("the DNS server %q: %w", authority, err)
	}
	if port == "" {
		port = "53"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("the DNS server %q: its port is a number from 1 to 65535", authority)
	}
	host, _, err = parseHost(host)
	if err != nil {
		return "", fmt.Errorf("the DNS server %q: %w", authority, err)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatUint(n, 10), nil
}

// splitPort is net.SplitHostPort that lets the port away, and an IPv6 address
// without a port stand without brackets.
func splitPort(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", errors.New(`"[" without "]"`)
		}
		host, rest := s[1:end], s[end+1:]
		if addr, err := netip.ParseAddr(host); err != nil || addr.Is4() {
			return "", "", fmt.Errorf("%q in brackets is not an IPv6 address", host)
		}
		if rest == "" {
			return host, "", nil
		}
		if rest[0] != ':' || rest == ":" {
			return "", "", errors.New(`after "]" comes ":PORT"`)
		}
		return host, rest[1:], nil
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return s, "", nil
	}
	host, port, found := strings.Cut(s, ":")
	if found && port == "" {
		return "", "", errors.New(`nothing follows the ":"`)
	}
	if strings.Contains(port, ":") {
		return "", "", errors.New("too many colons: an IPv6 address goes in brackets")
	}
	return host, port, nil
}

// portName is a DNS label (RFC 1123), which is what the API server takes for the
// name of a Service's port. Container ports are stricter (RFC 6335 section 5.1),
// but are not what is asked for. One of digits alone is read as a number.
var portName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

func parsePort(s string) (number uint16, name string, err error) {
	if strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return 0, "", fmt.Errorf("port %s is not from 1 to 65535", s)
		}
		return uint16(n), "", nil
	}
	if len(s) > 63 || !portName.MatchString(s) {
		return 0, "", fmt.Errorf("port %q is neither a number nor a port name (lower-case letters, digits and hyphens, at most 63)", s)
	}
	return 0, s, nil
}

// label is a label of a DNS name as Kubernetes and search paths have them; the
// underscore is for those that are written by hand.
var label = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?$`)

// zone is what RFC 6874 lets stand in a URI without escapes.
var zone = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)

func parseHost(s string) (host string, absolute bool, err error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Is4In6() {
			addr = addr.Unmap()
		}
		if z := addr.Zone(); z != "" && !zone.MatchString(z) {
			return "", false, fmt.Errorf("the zone %q of the address is not the name of a network interface", z)
		}
		return addr.String(), false, nil
	}
	host, absolute = strings.CutSuffix(s, ".")
	_, notIP := netip.ParseAddr(host)
	switch {
	case notIP == nil:
		return "", false, errors.New("a dot follows the IP address")
	case host == "":
		return "", false, errors.New("it has no name before the port")
	case len(host) > 253:
		return "", false, errors.New("the name is longer than the 253 characters of a DNS name (RFC 1035)")
	}
	for l := range strings.SplitSeq(host, ".") {
		switch {
		case l == "":
			return "", false, errors.New("the name has an empty label: two dots meet, or it begins with one")
		case len(l) > 63:
			return "", false, fmt.Errorf("the label %q is longer than 63 characters (RFC 1035)", l)
		case !label.MatchString(l):
			return "", false, fmt.Errorf("the label %q is not of letters, digits and hyphens", l)
		}
	}
	return host, absolute, nil
}
