package calls

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Target is where calls go.
type Target struct {
	// Name labels the target in the report.
	Name string
	// Text is the target as given, without the label.
	Text string
	// Host is a name or an IP address (without brackets), Port a number.
	Host, Port string
	// All: one connection to every address of Host (dns:///), not one to the first that connects.
	All bool
}

// ParseTarget reads "[NAME=]HOST:PORT" and "[NAME=]dns:///HOST:PORT". The port is required, as both gRPC's default of 443 and a
// Service's port name would be guesses. A DNS server of its own (dns://8.8.8.8/…) and other schemes are errors.
func ParseTarget(text string) (Target, error) {
	name, rest, labelled := strings.Cut(text, "=")
	if !labelled {
		name, rest = text, text
	}
	if name == "" {
		return Target{}, fmt.Errorf("target %q: empty name before the equals sign", text)
	}
	t := Target{Name: name, Text: rest}
	address := rest
	if after, ok := strings.CutPrefix(rest, "dns:"); ok {
		t.All = true
		authority, endpoint, err := splitDNS(after)
		if err != nil || authority != "" {
			return Target{}, fmt.Errorf("target %q: want dns:///HOST:PORT", text)
		}
		address = endpoint
	} else if scheme, _, ok := strings.Cut(rest, "://"); ok {
		return Target{}, fmt.Errorf("target %q: scheme %q is not known, use HOST:PORT or dns:///HOST:PORT", text, scheme)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Target{}, fmt.Errorf("target %q: want HOST:PORT: %w", text, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Target{}, fmt.Errorf("target %q: port must be a number from 1 to 65535", text)
	}
	if host == "" || strings.ContainsAny(host, "/ ") {
		return Target{}, fmt.Errorf("target %q: bad host name %q", text, host)
	}
	t.Host, t.Port = host, port
	return t, nil
}

// splitDNS takes what follows "dns:", which is "//authority/endpoint" or, as gRPC allows too, the endpoint alone.
func splitDNS(s string) (authority, endpoint string, err error) {
	after, ok := strings.CutPrefix(s, "//")
	if !ok {
		return "", s, nil
	}
	authority, endpoint, ok = strings.Cut(after, "/")
	if !ok {
		return "", "", errors.New("no slash after the authority")
	}
	return authority, endpoint, nil
}
