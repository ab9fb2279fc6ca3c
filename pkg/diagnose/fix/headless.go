package fix

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// udpWithoutEDNS is how many A records fit a DNS answer over UDP without EDNS0 (512 bytes, RFC 1035 section 4.2.1), as
// seen with CoreDNS and names of usual length.
const udpWithoutEDNS = 28

// headless gives the clients all addresses, so that they balance by themselves.
func (b *builder) headless() error {
	b.plan.Title = "use a headless Service with round_robin"
	if err := b.meshGuard(); err != nil {
		return err
	}
	ports, err := b.ports()
	if err != nil {
		return err
	}
	name, create, err := b.twin()
	if err != nil {
		return err
	}
	if create {
		if err := b.addTwin(name, ports); err != nil {
			return err
		}
	}
	target := fmt.Sprintf("dns:///%s:%d", b.fqdn(name), ports[0].number)
	b.moveClients(func(t diagnose.Target) (moved, error) { return b.headlessTarget(t, name, ports) }, target)
	tls := b.tlsAdvice(name, ports)
	b.plan.Snippets, err = snippets("client", clientCode{Target: target, TLS: tls.used, Authority: tls.authority})
	if err != nil {
		return err
	}
	for _, p := range ports[1:] {
		b.note("The code dials port %d; for port %s it is %d.", ports[0].number, portName(p.ServicePort), p.number)
	}
	b.headlessCaveats()
	return nil
}

func (b *builder) headlessCaveats() {
	b.caveat("Every client has to choose round_robin: the default of all gRPC libraries, pick_first, stays on one pod of a headless Service too.")
	b.caveat("A client asks DNS again only when it loses a connection: pods that are added later get no calls until then. See --strategy max-age.")
	b.caveat("Each client keeps a connection to each pod: connections grow with clients times pods.")
	if n := len(b.v.Ready()); n > udpWithoutEDNS {
		b.caveat("%d addresses do not fit a DNS answer over UDP without EDNS0: clients need TCP port 53 to the cluster's DNS.", n)
	}
	if n, kind := b.v.ServerMeshed(); n > 0 {
		b.caveat("The server pods are in %s: a client that joins the mesh has to dial the ClusterIP again, or its proxy stops balancing.", kind)
	}
}

// meshGuard refuses when every client found has a proxy that balances calls over the ClusterIP, and would not over a
// headless Service.
func (b *builder) meshGuard() error {
	clients := b.v.Clients()
	meshed := 0
	kind := ""
	for _, c := range clients {
		if b.balancedByMesh(c) {
			meshed++
			kind = c.Workload.Mesh.Kind
		}
	}
	if meshed > 0 && meshed == len(clients) {
		return b.refuse(CodeMeshed, "let them dial the ClusterIP; see --strategy mesh",
			"%s balances the calls of every client found, and could not on a headless Service", kind)
	}
	return nil
}

// balancedByMesh reports whether a proxy sees the calls of a client one by one. Istio's ambient mode does not: its node
// proxy forwards connections.
func (b *builder) balancedByMesh(c diagnose.Client) bool {
	m := c.Workload.Mesh
	if !m.In() || m.Mode == "ambient" {
		return false
	}
	for _, t := range c.Targets {
		if t.Port != 0 && (listed(m.SkipOutbound, t.Port) || listed(m.Opaque, t.Port)) {
			return false
		}
	}
	return true
}

// listed reports whether a port is in a list of numbers and ranges ("4000-5000"), as mesh annotations have it.
func listed(ranges []string, port int32) bool {
	for _, r := range ranges {
		lo, hi, isRange := strings.Cut(r, "-")
		if !isRange {
			hi = lo
		}
		l, err1 := strconv.ParseInt(strings.TrimSpace(lo), 10, 32)
		h, err2 := strconv.ParseInt(strings.TrimSpace(hi), 10, 32)
		if err1 == nil && err2 == nil && int64(port) >= l && int64(port) <= h {
			return true
		}
	}
	return false
}

// headlessTarget writes a target anew: dns, the twin's full name, and the pods' port. A target that was a bare host
// stays one, since the program puts scheme and port to it.
func (b *builder) headlessTarget(t diagnose.Target, twin string, ports []podPort) (moved, error) {
	if t.Scheme == "xds" {
		return moved{}, fmt.Errorf("its target %s is resolved by an xDS server, which balances in its own way", t.Token)
	}
	var port *podPort
	for i := range ports {
		if p := &ports[i]; p.Port == t.Port || p.number == t.Port || t.Port == 0 && len(ports) == 1 {
			port = p
			break
		}
	}
	switch {
	case port == nil:
		return moved{}, fmt.Errorf("its target %s names no gRPC port of svc/%s: which of the pods' ports it wants cannot be told", t.Token, b.v.Service.Name)
	case bareHost(t):
		if t.Port == 0 && port.number != port.Port {
			b.note("%s of the client holds no port: the program adds one, and on svc/%s it has to be %d, not %d.",
				source(t), twin, port.number, port.Port)
		}
		return moved{b.fqdn(twin), port.number}, nil
	}
	return moved{token: fmt.Sprintf("dns:///%s:%d", b.fqdn(twin), port.number)}, nil
}

// source names the place of a target: "env SQUARE_ADDRESS".
func source(t diagnose.Target) string {
	switch {
	case t.Source == "configmap":
		return strings.TrimSpace("configmap/" + t.ConfigMap + " " + configMapKey(t))
	case t.ConfigMap != "":
		return fmt.Sprintf("%s %s (configmap/%s %s)", t.Source, t.Name, t.ConfigMap, configMapKey(t))
	case t.Name == "":
		return t.Source
	}
	return t.Source + " " + t.Name
}

// configMapKey is the key that holds a target of a ConfigMap.
func configMapKey(t diagnose.Target) string { return cmp.Or(t.ConfigMapKey, t.Name) }

// tlsUse is what is known of TLS on the Service's ports.
type tlsUse struct {
	used      bool
	authority string // name to verify instead of the twin's; empty when the certificate has the twin's
}

// tlsAdvice says what the new name means for certificates: whenever TLS was seen, or could not be ruled out.
func (b *builder) tlsAdvice(twin string, ports []podPort) tlsUse {
	names, seen, plain := b.certificate(ports)
	fqdn := b.fqdn(twin)
	switch {
	case plain:
		return tlsUse{}
	case seen && covers(names, fqdn):
		b.note("The servers' certificate is valid for %s.", fqdn)
		return tlsUse{used: true}
	}
	authority := b.fqdn(b.v.Service.Name)
	if n := validName(names, authority); n != "" {
		authority = n
	}
	what := "The servers use TLS and their certificate is not valid for " + fqdn
	if !seen {
		what = "Whether the servers use TLS was not seen. If they do"
	}
	b.caveat("%s: add that name to the certificate, or let clients verify %s instead (Go WithAuthority, Java overrideAuthority, "+
		"Python, Node and C++ grpc.ssl_target_name_override; .NET has no such setting beside client-side balancing, so C# needs the name in the certificate).",
		what, authority)
	return tlsUse{used: seen, authority: authority}
}

// certificate gathers the names in the certificates of the pods' ports; plain is true when gRPC answered without TLS.
func (b *builder) certificate(ports []podPort) (names []string, seen, plain bool) {
	for _, p := range ports {
		if strings.EqualFold(p.AppProtocol, "grpcs") {
			seen = true
		}
		for _, pr := range b.v.Ports.Value {
			if pr.Port != p.number {
				continue
			}
			switch {
			case pr.TLS != nil:
				seen = true
				names = append(names, pr.TLS.DNSNames...)
			case pr.Proto == "grpc" || pr.Proto == "h2c":
				plain = true
			}
		}
	}
	return names, seen, plain && !seen
}

// covers reports whether a certificate's names match host; a wildcard stands for one whole label (RFC 9525 section 6.3).
func covers(names []string, host string) bool {
	for _, n := range names {
		n = strings.TrimSuffix(strings.ToLower(n), ".")
		_, parent, _ := strings.Cut(host, ".")
		if n == host || n == "*."+parent {
			return true
		}
	}
	return false
}

// validName picks the name to verify: the wanted one when the certificate has it, else the first that is no wildcard.
func validName(names []string, want string) string {
	if covers(names, want) {
		return want
	}
	for _, n := range names {
		if !strings.Contains(n, "*") {
			return n
		}
	}
	return ""
}
