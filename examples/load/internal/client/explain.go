package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// names is the part of net.Resolver that an explanation asks.
type names interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

func systemNames() names { return net.DefaultResolver }

// lookupTimeout bounds the questions asked for an explanation.
const lookupTimeout = 5 * time.Second

// dialErrors remembers the last TCP connection that could not be opened. The zero value is ready.
type dialErrors struct {
	mu      sync.Mutex
	address string
	err     error
}

func (d *dialErrors) add(address string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.address, d.err = address, err
}

func (d *dialErrors) last() dialError {
	d.mu.Lock()
	defer d.mu.Unlock()
	return dialError{d.address, d.err}
}

type dialError struct {
	address string
	err     error
}

// failure is what is known of a channel that does not work.
type failure struct {
	target target
	tls    bool
	// dial is the last TCP failure; its err is nil when TCP was never the problem.
	dial dialError
	// call is the error of the last call.
	call error
}

// explain says in plain sentences what most likely stands behind a failure and what to do about it. It asks DNS, for at
// most lookupTimeout, and claims no more than the answers bear out.
func explain(ctx context.Context, dns names, f failure) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
	defer cancel()
	if net.ParseIP(f.target.host) == nil {
		addresses, err := dns.LookupHost(ctx, f.target.host)
		if err != nil {
			return explainName(f, err)
		}
		if errors.Is(f.dial.err, syscall.ECONNREFUSED) {
			return explainRefused(ctx, dns, f, addresses)
		}
	}
	if f.dial.err != nil {
		return explainDial(f)
	}
	return explainSession(f)
}

func explainName(f failure, err error) string {
	var failed *net.DNSError
	if errors.As(err, &failed) && failed.IsNotFound {
		return fmt.Sprintf("The name %s does not exist for this client's DNS. Either it is misspelt or in another namespace, or\n"+
			"it is a headless Service without one ready pod, which has no addresses.", f.target.host)
	}
	return fmt.Sprintf("DNS gave no answer for %s: %v.", f.target.host, err)
}

// explainRefused tells the port trap of headless Services from a Service without pods. An SRV answer decides: a headless
// Service lists the ports of its pods there, any other Service its own port (Kubernetes DNS specification, 2.3 and 2.4).
func explainRefused(ctx context.Context, dns names, f failure, addresses []string) string {
	refused := fmt.Sprintf("Port %d is refused at %s.", f.target.port, f.dial.address)
	_, records, err := dns.LookupSRV(ctx, "", "", f.target.host)
	if err == nil && len(records) > 0 && !listens(records, f.target.port) {
		port := records[0].Port
		return fmt.Sprintf("%s The name %s leads straight to its pods, and they listen on\n"+
			"port %d: a headless Service (clusterIP: None) translates no ports, its \"port\" is not opened anywhere.\n"+
			"Call the pods' own port: %s=%s", refused, f.target.host, port,
			EnvServerHost, net.JoinHostPort(f.target.host, fmt.Sprint(port)))
	}
	if len(addresses) > 1 {
		return fmt.Sprintf("%s The name %s has %d addresses, as a headless Service (clusterIP: None)\n"+
			"has: such a Service translates no ports. Call the port that the containers listen on.", refused, f.target.host, len(addresses))
	}
	return refused + " Either the Service has no ready pod, or its targetPort is not the port that the\n" +
		"containers listen on: compare kubectl get endpointslices with the pods' containerPort."
}

func listens(records []*net.SRV, port int) bool {
	for _, r := range records {
		if int(r.Port) == port {
			return true
		}
	}
	return false
}

func explainDial(f failure) string {
	var timeout net.Error
	switch {
	case errors.Is(f.dial.err, syscall.ECONNREFUSED):
		return fmt.Sprintf("Nothing listens at %s.", f.dial.address)
	case errors.As(f.dial.err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("Nobody answers at %s: a NetworkPolicy or firewall that drops packets, or an address that is gone.", f.dial.address)
	default:
		return fmt.Sprintf("No TCP connection to %s: %v.", f.dial.address, f.dial.err)
	}
}

// explainSession covers servers that accept a connection and then make no gRPC of it. grpc-go reports these only as
// text, so the text is what there is to go by.
func explainSession(f failure) string {
	text := f.call.Error()
	switch {
	case strings.Contains(text, "x509:") || strings.Contains(text, "failed to verify certificate"):
		return fmt.Sprintf("The server's certificate is not accepted for %s: it must name that host and be signed by an\n"+
			"authority given with --tls-ca.", f.target.host)
	case f.tls && strings.Contains(text, "first record does not look like a TLS handshake"):
		return "The server speaks plaintext: call it without --tls."
	case !f.tls && (strings.Contains(text, "error reading server preface") || strings.Contains(text, "EOF")):
		return "The server takes the connection but does not answer in plaintext HTTP/2: it may want --tls, or not be a gRPC server."
	case strings.Contains(text, "Unimplemented"):
		return "The server speaks gRPC but has no load.LoadService: this is not the load example's server."
	default:
		return "A connection stands, but calls over it fail for the reason above."
	}
}
