package live

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// unheardOf reports whether the server knows none of the names for whose addresses it was asked. They are those of Services that exist, so
// it may serve them in another domain.
func unheardOf(results []dnsprobe.Result) bool {
	unknown := false
	for _, r := range results {
		a, ok := heard(r)
		switch {
		case !ok || r.Question.Type == dnsprobe.TypeSRV:
		case a.Rcode != dns.RcodeNameError:
			return false
		default:
			unknown = true
		}
	}
	return unknown
}

// reversed is an address whose reverse record names a Service of the snapshot, and that Service (Kubernetes DNS-Based Service Discovery
// 1.1.0, sections 2.3.3 and 2.4.3).
type reversed struct {
	addr netip.Addr
	svc  diagnose.Key
}

// reverseOf chooses an address: a target's cluster IP, that of any other Service, or an endpoint of a headless target.
func reverseOf(snap *diagnose.Snapshot) (reversed, bool) {
	var targets, others, endpoints []reversed
	for _, svc := range snap.Services.Value {
		isTarget := slices.Contains(snap.Targets, svc.Key)
		if len(svc.ClusterIPs) > 0 && !svc.Headless() {
			if ip, err := netip.ParseAddr(svc.ClusterIPs[0]); err == nil && isTarget {
				targets = append(targets, reversed{ip, svc.Key})
			} else if err == nil {
				others = append(others, reversed{ip, svc.Key})
			}
		}
		if v, ok := snap.View(svc.Key); ok && isTarget && svc.Headless() {
			for _, e := range v.Ready() {
				if ip, err := netip.ParseAddr(slices.Concat(e.IPs, []string{""})[0]); err == nil {
					endpoints = append(endpoints, reversed{ip, svc.Key})
				}
			}
		}
	}
	all := slices.Concat(targets, others, endpoints)
	if len(all) == 0 {
		return reversed{}, false
	}
	return all[0], true
}

// domainOf takes the cluster's domain out of a reverse record: what stands behind SERVICE.NAMESPACE.svc. It is text of a server that may
// be anybody's: what is no domain name is none.
func (r reversed) domainOf(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	mark := "." + r.svc.Name + "." + r.svc.Namespace + ".svc."
	_, domain, found := strings.Cut("."+name, mark)
	plain := strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
	if _, ok := dns.IsDomainName(domain); !found || !ok || !plain || domain == "" {
		return "", false
	}
	return domain, true
}

// learnDomain asks the servers, all at once, for the domain that they serve the cluster's names in; the first that says wins. It is
// asked over the connections that are open anyway.
func learnDomain(ctx context.Context, snap *diagnose.Snapshot, asks []dnsAsk) (string, bool) {
	rev, ok := reverseOf(snap)
	if !ok {
		return "", false
	}
	name, err := dns.ReverseAddr(rev.addr.String())
	if err != nil {
		return "", false
	}
	q := dnsprobe.Question{Name: name, Type: dnsprobe.TypePTR}
	ctx, done := context.WithCancel(ctx)
	defer done()
	said := make([]string, len(asks))
	group := newLimited(ctx, maxStreams)
	for i := range asks {
		if asks[i].err != nil {
			continue
		}
		group.Go(func() {
			c := asks[i].client()
			a, err := c.Ask(ctx, "pod", q)
			if err != nil {
				return
			}
			for _, rec := range a.Final() {
				if d, ok := rev.domainOf(rec.Data); ok && rec.Type == dnsprobe.TypePTR {
					said[i] = d
					done()
				}
			}
		})
	}
	group.Wait()
	i := slices.IndexFunc(said, func(d string) bool { return d != "" })
	if i < 0 {
		return "", false
	}
	return said[i], true
}

// settleDomain notes how the domain is known. A domain that was assumed, and that no server answers for, is worth a word.
func settleDomain(s *collect.Session, snap *diagnose.Snapshot, asks []dnsAsk) {
	if snap.Cluster.DomainFrom != diagnose.DomainAssumed {
		return
	}
	for _, a := range asks {
		if slices.ContainsFunc(a.first, func(r dnsprobe.Result) bool {
			answer, ok := heard(r)
			return ok && answer.Rcode == dns.RcodeSuccess
		}) {
			snap.Cluster.DomainFrom = diagnose.DomainFromDNS
			return
		}
	}
	if slices.ContainsFunc(asks, func(a dnsAsk) bool { return a.err == nil && unheardOf(a.first) }) {
		s.Gap(diagnose.Gap{Fact: diagnose.FactDNS, Subject: "the cluster's domain", Status: diagnose.Status{
			Reason: snap.Cluster.Domain + " is assumed: its DNS knows no Service there and names no other domain", Hint: "--cluster-domain sets it",
		}})
	}
}
