package aggregator

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
)

// Target is where the aggregator's one channel goes.
type Target struct {
	// Dial is the target in grpc-go's own syntax.
	Dial   string
	Policy channel.Policy
}

const wanted = "want static://HOST:PORT or dns:///HOST:PORT"

// ParseTarget reads an address in the style of the Spring Boot gRPC starter, and the name of a policy or "".
//
// static://HOST:PORT is one address: the name goes to the dialer as it stands, whatever the number of addresses behind
// it, and the default policy is pick_first. dns:///HOST:PORT asks DNS for all addresses and takes them in turn
// (round_robin), so that changing the address alone moves a client from one pod to all pods of a headless Service.
func ParseTarget(address, policy string) (Target, error) {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		return Target{}, fmt.Errorf("address %q has no scheme: %s", address, wanted)
	}
	var t Target
	hostport := rest
	switch scheme {
	case "static":
		t = Target{Dial: "passthrough:///" + rest, Policy: channel.PickFirst}
	case "dns":
		// The part between the second and the third slash would be the DNS server to ask.
		_, hostport, found = strings.Cut(rest, "/")
		if !found {
			return Target{}, fmt.Errorf("address %q lacks a slash: a DNS name follows three of them, dns:///%s", address, rest)
		}
		t = Target{Dial: address, Policy: channel.RoundRobin}
	default:
		return Target{}, fmt.Errorf("address %q has the scheme %q, which this program does not know: %s", address, scheme, wanted)
	}
	if err := checkHostPort(hostport); err != nil {
		return Target{}, fmt.Errorf("address %q: %w: %s", address, err, wanted)
	}
	if policy != "" {
		p, err := channel.ParsePolicy(policy)
		if err != nil {
			return Target{}, err
		}
		t.Policy = p
	}
	return t, nil
}

func checkHostPort(hostport string) error {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return err
	}
	if host == "" {
		return fmt.Errorf("%q names no host", hostport)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port number", port)
	}
	return nil
}
