package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

// finding is what one name came to.
type finding struct {
	outcome   Outcome // OutcomeOK, OutcomeNXDomain or OutcomeNoData
	endpoints []endpoint.Endpoint
	family    dnsprobe.Type // of the endpoints' preferred addresses
	owner     string        // the name that has the records, fully qualified
	itself    bool          // an SRV record leads back to the name: a ClusterIP
	bytes     int
	ttl       time.Duration
	overTCP   bool // UDP would not have held it
	partial   bool
}

// want is what to look for below a name.
type want struct {
	portName string // SRV, when not ""
	port     uint16 // of A and AAAA records
	family   dnsprobe.Type
	// settled means that the family is in use: an error about it is no reason to
	// change to the other and connect to everything anew.
	settled bool
}

// find looks one fully qualified name up.
func (a *asker) find(ctx context.Context, name string, w want) (finding, error) {
	if w.portName != "" {
		return a.findSRV(ctx, name, w)
	}
	r, err := a.ask(ctx, name, w.family)
	switch {
	case err != nil && w.settled, err == nil && r.outcome == OutcomeNXDomain:
		// A name that does not exist has no other records either (RFC 8020).
	case err != nil || r.outcome == OutcomeNoData:
		other, otherErr := a.ask(ctx, name, otherFamily(w.family))
		switch {
		case otherErr == nil && other.outcome == OutcomeOK:
			r, err = other, nil
		case err == nil:
			// NODATA of one family and an error of the other do not make an
			// empty answer.
			err = otherErr
		}
	}
	if err != nil {
		return finding{}, err
	}
	f := newFinding(r)
	for _, rec := range r.records() {
		if usable(rec.Address, w.port) {
			f.endpoints = append(f.endpoints, endpoint.At(netip.AddrPortFrom(rec.Address, w.port)))
			f.family = rec.Type
		}
	}
	return f.settle(), nil
}

func newFinding(r reply) finding {
	f := finding{outcome: r.outcome, owner: r.owner(), bytes: r.size(), ttl: r.ttl(), partial: r.partial, overTCP: r.overTCP()}
	return f
}

// settle makes records that lead nowhere the lack of records.
func (f finding) settle() finding {
	if f.outcome == OutcomeOK && len(f.endpoints) == 0 {
		f.outcome = OutcomeNoData
	}
	return f
}

func otherFamily(t dnsprobe.Type) dnsprobe.Type {
	if t == dnsprobe.TypeA {
		return dnsprobe.TypeAAAA
	}
	return dnsprobe.TypeA
}

// usable refuses addresses that are nobody's: 0.0.0.0, with which filters answer
// for names they do not like and which connects to the local host, and multicast.
func usable(addr netip.Addr, port uint16) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && port != 0
}

// srvName is the name of RFC 2782. Kubernetes' gRPC ports are TCP ports.
func srvName(portName, name string) string { return "_" + portName + "._tcp." + name }

// findSRV looks the endpoints of a named port up.
func (a *asker) findSRV(ctx context.Context, name string, w want) (finding, error) {
	asked := srvName(w.portName, name)
	r, err := a.ask(ctx, asked, dnsprobe.TypeSRV)
	if err != nil {
		return finding{}, err
	}
	g := glueOf(r)
	if len(g.missing(r)) > 0 && !r.overTCP() && !r.partial {
		// Addresses are left out of UDP answers without a sign (RFC 2181
		// section 9): those of all targets come over TCP.
		full := *a
		full.client.Transport = dnsprobe.TCP
		if again, err := full.ask(ctx, asked, dnsprobe.TypeSRV); err == nil && again.outcome == OutcomeOK {
			r, g = again, glueOf(again)
		}
	}
	missing := g.missing(r)
	if r.cut || len(missing) > maxGlueless {
		if f, ok, err := a.byAddress(ctx, name, w, r); ok || err != nil {
			return f, err
		}
	}
	if r.cut {
		return finding{}, &Error{Name: plain(asked), Outcome: OutcomeTooLarge, Err: fmt.Errorf("%w, and its records have several ports", dnsprobe.ErrTruncatedTCP)}
	}
	if err := a.complete(ctx, g, missing, w.family); err != nil {
		return finding{}, err
	}
	f := newFinding(r)
	if rest, ok := cutPrefixFold(f.owner, srvName(w.portName, "")); ok {
		f.owner = rest
	}
	f.itself = leadsTo(r, name) || leadsTo(r, f.owner)
	f.endpoints = g.endpoints(services(r), w.family)
	if len(f.endpoints) > 0 {
		f.family = typeOf(f.endpoints[0].Addr().Addr())
	}
	return f.settle(), nil
}

// maxGlueless is how many SRV targets are asked for one by one in a look.
const maxGlueless = 16

// byAddress finds the endpoints of a named port by the name's addresses, when
// the SRV answer is too large to hold all its records and addresses: from about
// 800 endpoints on. That all pods have the port is then taken for granted; that
// it is the same everywhere is not.
func (a *asker) byAddress(ctx context.Context, name string, w want, r reply) (finding, bool, error) {
	ports := portsOf(r)
	if len(ports) != 1 || kindOf(r, name) != kindHeadless {
		return finding{}, false, nil
	}
	w.portName, w.port = "", ports[0]
	f, err := a.find(ctx, name, w)
	if err != nil || f.outcome != OutcomeOK {
		return finding{}, false, err
	}
	f.bytes, f.overTCP = max(f.bytes, r.size()), true
	return f, true, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) > len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// leadsTo reports whether an SRV target is the name itself.
func leadsTo(r reply, name string) bool {
	return slices.ContainsFunc(r.records(), func(rec dnsprobe.Record) bool { return strings.EqualFold(rec.Target, name) })
}

// services are the SRV records to use: those of the best priority, without the
// target "." that says that the service is not there (RFC 2782).
func services(r reply) []dnsprobe.Record {
	all := slices.DeleteFunc(r.records(), func(rec dnsprobe.Record) bool { return rec.Target == "." || rec.Port == 0 })
	if len(all) == 0 {
		return nil
	}
	best := slices.MinFunc(all, func(x, y dnsprobe.Record) int { return cmp.Compare(x.Priority, y.Priority) }).Priority
	return slices.DeleteFunc(all, func(rec dnsprobe.Record) bool { return rec.Priority != best })
}

// glue is the addresses of SRV targets by canonical name.
type glue map[string][]netip.Addr

func glueOf(r reply) glue {
	g := make(glue)
	for _, a := range r.answers {
		for _, rec := range a.Additional {
			if rec.Class == 0 {
				g.add(rec.Name, rec.Address)
			}
		}
	}
	return g
}

func (g glue) add(name string, addr netip.Addr) {
	key := strings.ToLower(name)
	if usable(addr, 1) && !slices.Contains(g[key], addr) {
		g[key] = append(g[key], addr)
	}
}

// missing lists the targets without an address.
func (g glue) missing(r reply) []string {
	var out []string
	for _, rec := range services(r) {
		if key := strings.ToLower(rec.Target); len(g[key]) == 0 && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}

// complete asks for the addresses of targets, over one connection. A target that
// does not exist (any more) is left out; one that could not be asked for is an
// error, since a Set without it would be a smaller one.
func (a *asker) complete(ctx context.Context, g glue, targets []string, family dnsprobe.Type) error {
	for _, t := range []dnsprobe.Type{family, otherFamily(family)} {
		targets = slices.DeleteFunc(slices.Clone(targets), func(name string) bool { return len(g[name]) > 0 })
		questions := make([]dnsprobe.Question, len(targets))
		for i, name := range targets {
			questions[i] = dnsprobe.Question{Name: name, Type: t}
		}
		if len(questions) == 0 {
			return nil
		}
		if err := a.askAll(ctx, g, questions); err != nil {
			return err
		}
	}
	return nil
}

// askAll asks one server after the other until one answers all the questions.
func (a *asker) askAll(ctx context.Context, g glue, questions []dnsprobe.Question) error {
	var heard []*failure
	for _, server := range a.servers {
		var bad *failure
		for i, res := range a.client.AskAll(ctx, server, questions, 0) {
			r, why := judge(server, res.Answer, res.Err)
			if why != nil {
				bad = cmp.Or(bad, why)
				continue
			}
			for _, rec := range r.records() {
				g.add(questions[i].Name, rec.Address)
			}
		}
		if bad == nil {
			return nil
		}
		heard = append(heard, bad)
	}
	return gaveUp(questions[0].Name, heard)
}

// endpoints makes endpoints of SRV records. A target that is the name of a pod
// holds both its families. CoreDNS makes names out of addresses where pods have
// no host name: such a name means one address, and the same pod's address of the
// other family has another name, so that only one family of those is used.
func (g glue) endpoints(records []dnsprobe.Record, family dnsprobe.Type) []endpoint.Endpoint {
	weighted := slices.ContainsFunc(records, func(r dnsprobe.Record) bool { return r.Weight != records[0].Weight })
	var named, bare []endpoint.Endpoint
	for _, rec := range records {
		addrs := g[strings.ToLower(rec.Target)]
		four, six := split(addrs)
		one := func(addrs ...netip.Addr) endpoint.Endpoint {
			e := endpoint.Endpoint{Name: strings.TrimSuffix(rec.Target, "."), Ready: true, Serving: true}
			if weighted {
				e.Weight = uint32(max(rec.Weight, 1))
			}
			for _, addr := range addrs {
				e.Addrs = append(e.Addrs, netip.AddrPortFrom(addr, rec.Port))
			}
			return e
		}
		switch {
		case len(four) == 1 && len(six) == 1 && family == dnsprobe.TypeAAAA:
			named = append(named, one(six[0], four[0]))
		case len(four) == 1 && len(six) == 1:
			named = append(named, one(four[0], six[0]))
		case len(addrs) == 1 && !namedAfter(rec.Target, addrs[0]):
			named = append(named, one(addrs[0]))
		default:
			for _, addr := range addrs {
				bare = append(bare, one(addr))
			}
		}
	}
	return append(named, oneFamily(bare, family)...)
}

func split(addrs []netip.Addr) (four, six []netip.Addr) {
	for _, addr := range addrs {
		if typeOf(addr) == dnsprobe.TypeA {
			four = append(four, addr)
		} else {
			six = append(six, addr)
		}
	}
	return four, six
}

func typeOf(addr netip.Addr) dnsprobe.Type {
	if addr.Unmap().Is4() {
		return dnsprobe.TypeA
	}
	return dnsprobe.TypeAAAA
}

// namedAfter reports whether the first label of a name is the address, with
// hyphens for dots and colons.
func namedAfter(name string, addr netip.Addr) bool {
	label, _, _ := strings.Cut(name, ".")
	parsed, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator(addr)))
	return err == nil && parsed == addr
}

func separator(addr netip.Addr) string {
	if addr.Is4() {
		return "."
	}
	return ":"
}

// oneFamily keeps the endpoints of the family, or all when none is of it.
func oneFamily(all []endpoint.Endpoint, family dnsprobe.Type) []endpoint.Endpoint {
	var of []endpoint.Endpoint
	for _, e := range all {
		if typeOf(e.Addr().Addr()) == family {
			of = append(of, e)
		}
	}
	if len(of) > 0 {
		return of
	}
	return all
}

// outcomeOf is the word for an error.
func outcomeOf(err error) Outcome {
	var e *Error
	if errors.As(err, &e) {
		return e.Outcome
	}
	return OutcomeUnreachable
}
