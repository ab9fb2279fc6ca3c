package sidecar

import (
	"fmt"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// dnsScheme may stand before a target, as gRPC has it, to name a DNS server.
const dnsScheme = "dns://"

// ParseTarget takes the text of a target apart: NAME:PORT, or
// dns://SERVER[:PORT]/NAME:PORT for a DNS server other than those of resolv.conf.
// The error wraps [endpoint.ErrTarget].
func ParseTarget(text string) (endpoint.Target, error) {
	server, name := "", text
	if rest, ok := strings.CutPrefix(text, dnsScheme); ok {
		if server, name, ok = strings.Cut(rest, "/"); !ok {
			return endpoint.Target{}, fmt.Errorf("%w %q: write NAME:PORT, or dns://SERVER/NAME:PORT for a DNS server of its own", endpoint.ErrTarget, text)
		}
	} else if scheme, rest, ok := strings.Cut(text, "://"); ok {
		return endpoint.Target{}, fmt.Errorf("%w %q: it is written without %s://: %s", endpoint.ErrTarget, text, scheme, strings.TrimLeft(rest, "/"))
	}
	t, err := endpoint.ParseTarget(server, name, "")
	if err != nil {
		// The words of the library name its own scheme.
		return t, reworded{err, strings.ReplaceAll(err.Error(), "refresh:///", "")}
	}
	return t, nil
}

// reworded is an error that says the same in other words.
type reworded struct {
	error
	text string
}

func (r reworded) Error() string { return r.text }
func (r reworded) Unwrap() error { return r.error }
