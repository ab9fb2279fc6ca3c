package target

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Ref names a namespaced object.
type Ref struct{ Namespace, Name string }

// Kinds of a Match.
const (
	KindService = "service" // the host is a name of a Service
	KindIP      = "ip"      // the host is an address of a Service or pod
	KindMissing = "missing" // the host has the form of a Service's name, and none is there
)

// Service is a Service as the index needs it: its name, every address at which it can be dialled (the cluster IPs first; none when
// it is headless), and its ports in order.
type Service struct {
	Ref
	IPs   []string
	Ports []Port
}

// Port is one port of a Service; the name may be empty.
type Port struct {
	Name   string
	Number int32
}

// Pod is a pod with its own addresses; pods on the host's network have none.
type Pod struct {
	Ref
	IPs []string
}

// Index answers which Service or pod a host means. It is immutable and safe for concurrent use.
type Index struct {
	domain   string
	listed   func(namespace string) bool
	services map[Ref]Service
	pods     map[Ref]bool
	byIP     map[netip.Addr]Match
	injected map[string]map[string]string // namespace -> variable that Kubernetes injects -> value
	names    map[string][]string          // namespace -> names of its Services
}

// Match is what a host means.
type Match struct {
	Kind    string
	Service Ref // of KindService; of KindIP when the address is a Service's
	Pod     Ref // of KindIP when the address is a pod's; of KindService when the name is one pod's below a headless Service
	// Qualified is true for names of the form NAME.NAMESPACE.svc..., which mean a Service whatever stands around them.
	Qualified bool
}

// NewIndex makes an index. listed says for which namespaces services is complete: only there can a Service be missing. domain is
// the cluster's DNS domain; names below svc of any other domain are taken as this cluster's too when the Service exists, since the API
// does not tell the domain.
func NewIndex(services []Service, pods []Pod, listed func(namespace string) bool, domain string) *Index {
	x := &Index{
		domain: strings.ToLower(strings.Trim(domain, ".")), listed: listed, services: map[Ref]Service{}, pods: map[Ref]bool{},
		byIP: map[netip.Addr]Match{}, injected: map[string]map[string]string{}, names: map[string][]string{},
	}
	for _, p := range pods {
		x.pods[p.Ref] = true
		x.addIPs(p.IPs, Match{Kind: KindIP, Pod: p.Ref})
	}
	for _, s := range services {
		x.services[s.Ref] = s
		x.names[s.Namespace] = append(x.names[s.Namespace], s.Name)
		x.addIPs(s.IPs, Match{Kind: KindIP, Service: s.Ref})
		x.inject(s)
	}
	for _, n := range x.names {
		slices.Sort(n)
	}
	return x
}

func (x *Index) addIPs(ips []string, m Match) {
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil {
			x.byIP[a.Unmap()] = m
		}
	}
}

// inject records the variables that the kubelet gives to pods of the Service's namespace (enableServiceLinks): the cluster IP and the
// ports as they were when the pod started. Headless Services have none.
func (x *Index) inject(s Service) {
	if len(s.IPs) == 0 {
		return
	}
	m := x.injected[s.Namespace]
	if m == nil {
		m = map[string]string{}
		x.injected[s.Namespace] = m
	}
	prefix := variable(s.Name) + "_SERVICE_"
	m[prefix+"HOST"] = s.IPs[0]
	for i, p := range s.Ports {
		number := strconv.Itoa(int(p.Number))
		if i == 0 {
			m[prefix+"PORT"] = number
		}
		if p.Name != "" {
			m[prefix+"PORT_"+variable(p.Name)] = number
		}
	}
}

func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// Resolve says what a host means to a client in a namespace, by the search path of pods (NAMESPACE.svc.DOMAIN, svc.DOMAIN, DOMAIN).
// False: it means nothing in this cluster as far as the index can tell.
func (x *Index) Resolve(host, namespace string) (Match, bool) {
	host, rooted := strings.CutSuffix(strings.ToLower(host), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		m, ok := x.byIP[a.Unmap()]
		return m, ok
	}
	labels := strings.Split(host, ".")
	for len(labels) > 1 && strings.HasPrefix(labels[0], "_") { // _grpc._tcp.NAME...: an SRV question (RFC 2782)
		labels = labels[1:]
	}
	if i := slices.Index(labels, "svc"); i >= 2 && i <= 3 {
		return x.qualified(labels[:i], strings.Join(labels[i+1:], "."), rooted)
	}
	if i := slices.Index(labels, "pod"); i == 2 {
		return x.podRecord(labels[0])
	}
	if rooted {
		return Match{}, false // no search path
	}
	return x.short(labels, namespace)
}

// qualified resolves [POD.]NAME.NAMESPACE, which stood before svc.
func (x *Index) qualified(labels []string, domain string, rooted bool) (Match, bool) {
	n := len(labels)
	ref := Ref{Namespace: labels[n-1], Name: labels[n-2]}
	_, exists := x.services[ref]
	switch {
	case rooted && domain == "", domain == "clusterset.local" && x.domain != domain: // the latter: a multi-cluster Service (KEP-1645)
		return Match{}, false
	case exists:
		m := Match{Kind: KindService, Service: ref, Qualified: true}
		if n == 3 {
			m.Pod = Ref{Namespace: ref.Namespace, Name: labels[0]}
		}
		return m, true
	case x.listed(ref.Namespace) && (domain == "" || domain == x.domain):
		return Match{Kind: KindMissing, Service: ref, Qualified: true}, true
	}
	return Match{}, false
}

// podRecord resolves a-b-c-d.NAMESPACE.pod.DOMAIN.
func (x *Index) podRecord(label string) (Match, bool) {
	for _, sep := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", sep)); err == nil {
			m, ok := x.byIP[a]
			return m, ok
		}
	}
	return Match{}, false
}

func (x *Index) short(labels []string, namespace string) (Match, bool) {
	switch len(labels) {
	case 1:
		return x.named(Ref{namespace, labels[0]})
	case 2:
		// First in the search path stands POD.NAME below the client's own namespace, then NAME.NAMESPACE.
		own := Ref{namespace, labels[1]}
		if _, ok := x.services[own]; ok && x.pods[Ref{namespace, labels[0]}] {
			return Match{Kind: KindService, Service: own, Pod: Ref{namespace, labels[0]}}, true
		}
		return x.named(Ref{labels[1], labels[0]})
	case 3:
		ref := Ref{labels[2], labels[1]}
		if _, ok := x.services[ref]; ok {
			return Match{Kind: KindService, Service: ref, Pod: Ref{labels[2], labels[0]}}, true
		}
	}
	return Match{}, false
}

func (x *Index) named(ref Ref) (Match, bool) {
	if _, ok := x.services[ref]; ok {
		return Match{Kind: KindService, Service: ref}, true
	}
	if x.listed(ref.Namespace) {
		return Match{Kind: KindMissing, Service: ref}, true
	}
	return Match{}, false
}
