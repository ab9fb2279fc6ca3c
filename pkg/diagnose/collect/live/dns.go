package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

const (
	dnsPort = 53
	// maxDNSPods bounds the DNS pods that are asked: enough for every cluster that autoscales CoreDNS by the usual table.
	maxDNSPods = 50
	// propagation is how long a disagreement may last before it counts: EndpointSlices reach a DNS pod by a watch.
	propagation = 1500 * time.Millisecond
)

// DNS asks every ready DNS pod for the Services' addresses, over TCP through a port-forward. A pod that disagrees with the
// endpoints is asked a second time a little later, because an update may be on its way.
func DNS(o Options) collect.Stage {
	o = o.withDefaults()
	return func(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
		s.Emit(collect.Event{Fact: diagnose.FactDNS, Step: collect.StepStart})
		snap.DNS = askDNS(ctx, s, snap, o)
		s.Emit(collect.Event{Fact: diagnose.FactDNS, Step: collect.StepEnd, Status: snap.DNS.Status})
		return ctx.Err()
	}
}

func askDNS(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, o Options) diagnose.Fact[[]diagnose.DNSAnswer] {
	questions := questionsOf(snap)
	if len(questions) == 0 {
		return diagnose.Unknown[[]diagnose.DNSAnswer](diagnose.NotAsked, "no Service to ask for", "")
	}
	servers, fail := dnsPods(ctx, s, o)
	if fail.State != "" {
		return diagnose.Fact[[]diagnose.DNSAnswer]{Status: fail}
	}
	results := make([]serverResult, len(servers))
	group := newLimited(ctx, maxStreams)
	for i, pod := range servers {
		group.Go(func() { results[i] = askServer(ctx, s, snap, pod, questions) })
	}
	group.Wait()
	var all []diagnose.DNSAnswer
	var worst diagnose.Status
	good := 0
	for i, r := range results {
		if r.fail.State != "" {
			s.Gap(diagnose.Gap{Fact: diagnose.FactDNS, Subject: "pod " + servers[i].String(), Status: r.fail})
			worst = r.fail
			continue
		}
		good++
		all = append(all, r.answers...)
	}
	if good == 0 {
		if worst.State == diagnose.Denied {
			worst.Reason = "may not port-forward in " + o.DNSNamespace
		}
		return diagnose.Fact[[]diagnose.DNSAnswer]{Status: worst}
	}
	slices.SortFunc(all, func(a, b diagnose.DNSAnswer) int {
		return cmp.Or(a.Server.Compare(b.Server), cmp.Compare(a.Round, b.Round), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
	return diagnose.Know(all)
}

// dnsPods lists the ready pods of the cluster's DNS.
func dnsPods(ctx context.Context, s *collect.Session, o Options) ([]diagnose.Key, diagnose.Status) {
	op := collect.Op{Verb: "list", Resource: collect.Pods, Namespace: o.DNSNamespace}
	cctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	var list corev1.PodList
	err := s.REST().Get().AbsPath("api", "v1", "namespaces", o.DNSNamespace, "pods").Param("labelSelector", o.DNSSelector).Do(cctx).Into(&list)
	if err != nil {
		return nil, s.Failure(ctx, op, err).Status
	}
	var out []diagnose.Key
	for i := range list.Items {
		if p := &list.Items[i]; ready(p) {
			out = append(out, diagnose.Key{Namespace: p.Namespace, Name: p.Name})
		}
	}
	if len(out) == 0 {
		reason := fmt.Sprintf("no pod in %s has the labels %s", o.DNSNamespace, o.DNSSelector)
		if len(list.Items) > 0 {
			reason = fmt.Sprintf("none of the %d DNS pods in %s is ready", len(list.Items), o.DNSNamespace)
		}
		return nil, diagnose.Status{State: diagnose.Failed, Reason: reason, Hint: "--dns-namespace and --dns-selector say where the cluster's DNS runs"}
	}
	slices.SortFunc(out, diagnose.Key.Compare)
	if len(out) > maxDNSPods {
		s.Gap(diagnose.Gap{Fact: diagnose.FactDNS, Subject: fmt.Sprintf("%d more DNS pods", len(out)-maxDNSPods), Status: diagnose.Status{
			Reason: fmt.Sprintf("at most %d are asked", maxDNSPods),
		}})
		out = out[:maxDNSPods]
	}
	return out, diagnose.Status{}
}

func ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// questionsOf lists what to ask: A or AAAA by the Service's families and SRV of each named TCP port, for the targets and their
// headless twins.
func questionsOf(snap *diagnose.Snapshot) []dnsprobe.Question {
	var out []dnsprobe.Question
	add := func(q dnsprobe.Question) {
		if !slices.Contains(out, q) {
			out = append(out, q)
		}
	}
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok || v.Service.Type == "ExternalName" {
			continue
		}
		services := []diagnose.Service{v.Service}
		if t, ok := v.Twin(); ok {
			services = append(services, t)
		}
		for _, svc := range services {
			name := fqdn(svc.Key, snap.Cluster.Domain)
			for _, t := range families(svc) {
				add(dnsprobe.Question{Name: name, Type: t})
			}
			for _, p := range svc.Ports {
				if p.Name != "" && (p.Protocol == "" || p.Protocol == "TCP") {
					add(dnsprobe.Question{Name: "_" + p.Name + "._tcp." + name, Type: dnsprobe.TypeSRV})
				}
			}
		}
	}
	return out
}

func fqdn(k diagnose.Key, domain string) string {
	return k.Name + "." + k.Namespace + ".svc." + strings.TrimSuffix(domain, ".") + "."
}

func families(svc diagnose.Service) []dnsprobe.Type {
	out := []dnsprobe.Type{}
	for _, f := range svc.IPFamilies {
		if f == "IPv6" {
			out = append(out, dnsprobe.TypeAAAA)
		} else {
			out = append(out, dnsprobe.TypeA)
		}
	}
	if len(out) == 0 {
		out = append(out, dnsprobe.TypeA)
	}
	return out
}

type serverResult struct {
	answers []diagnose.DNSAnswer
	fail    diagnose.Status
}

// askServer asks one DNS pod everything, and a second time when an answer disagrees with the endpoints.
func askServer(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, pod diagnose.Key, qs []dnsprobe.Question) serverResult {
	f, err := openForward(ctx, s, pod)
	if err != nil {
		return serverResult{fail: statusOf(err)}
	}
	defer f.Close()
	client := dnsprobe.Client{
		Transport: dnsprobe.TCP, Timeout: s.CallTimeout(),
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx, dnsPort) },
	}
	out := round(ctx, client, pod, qs, 1)
	if !slices.ContainsFunc(out, func(a diagnose.DNSAnswer) bool { return a.Error == "" }) {
		return serverResult{fail: diagnose.Status{State: diagnose.Failed, Reason: out[0].Error}}
	}
	if disagrees(snap, out) {
		t := time.NewTimer(propagation)
		defer t.Stop()
		select {
		case <-t.C:
			out = append(out, round(ctx, client, pod, qs, 2)...)
		case <-ctx.Done():
		}
	}
	return serverResult{answers: out}
}

func statusOf(err error) diagnose.Status {
	var ce *collect.CallError
	if errors.As(err, &ce) {
		return ce.Status
	}
	return diagnose.Status{State: diagnose.Failed, Reason: err.Error()}
}

func round(ctx context.Context, c dnsprobe.Client, pod diagnose.Key, qs []dnsprobe.Question, n int) []diagnose.DNSAnswer {
	var out []diagnose.DNSAnswer
	for _, r := range c.AskAll(ctx, "pod", qs, 0) {
		out = append(out, project(pod, n, r))
	}
	return out
}

func project(pod diagnose.Key, n int, r dnsprobe.Result) diagnose.DNSAnswer {
	d := diagnose.DNSAnswer{Server: pod, Round: n, Name: r.Question.Name, Type: r.Question.Type.String()}
	if r.Failure != nil {
		d.Error = string(r.Failure.Kind)
		if r.Err != nil {
			d.Error = reason(r.Err)
		}
		return d
	}
	a := r.Answer
	d.Rcode, d.Transport, d.Size, d.Truncated = a.Rcode.String(), string(a.Transport), a.Size, a.Flags.Truncated
	d.RTTMicros = a.RTT.Microseconds()
	if ttl, ok := a.TTL(); ok {
		d.TTL = uint32(ttl / time.Second)
	}
	for _, ip := range a.Addresses() {
		d.Addresses = append(d.Addresses, ip.Unmap().String())
	}
	slices.Sort(d.Addresses)
	for _, rec := range a.Final() {
		if rec.Type == dnsprobe.TypeSRV {
			d.SRV = append(d.SRV, diagnose.SRV{Target: rec.Target, Port: int32(rec.Port)})
		}
	}
	slices.SortFunc(d.SRV, func(a, b diagnose.SRV) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port))
	})
	if ps, err := dnsprobe.PredictUDP(a, 512, 1232, 4096); err == nil && len(a.Final()) > 0 {
		for _, p := range ps {
			d.Predicted = append(d.Predicted, diagnose.Truncation{UDPSize: int(p.UDPSize), Truncated: p.PredictedTruncated, Fits: p.PredictedRecords})
		}
	}
	return d
}

// reason words a DNS failure without the stream's inner text.
func reason(err error) string {
	var e *dnsprobe.Error
	if errors.As(err, &e) {
		return e.Err.Error()
	}
	return err.Error()
}

// disagrees holds the addresses of one round against what the API has for the Services asked for.
func disagrees(snap *diagnose.Snapshot, answers []diagnose.DNSAnswer) bool {
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok {
			continue
		}
		name := fqdn(k, snap.Cluster.Domain)
		for _, a := range answers {
			if a.Name != name || a.Error != "" || a.Type == "SRV" {
				continue
			}
			if !slices.Equal(a.Addresses, wanted(v, a.Type == "AAAA")) {
				return true
			}
		}
	}
	return false
}

// wanted are the addresses that DNS should give (Kubernetes DNS-Based Service Discovery, sections 2.3 and 2.4): the cluster IP; for a
// headless Service those of the endpoints that are ready, or of all when the Service publishes them.
func wanted(v *diagnose.View, six bool) []string {
	var ips, out []string
	if !v.Service.Headless() {
		ips = v.Service.ClusterIPs
	} else {
		for _, e := range v.Endpoints() {
			if e.Ready || v.Service.PublishNotReady {
				ips = append(ips, e.IPs...)
			}
		}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil && a.Is4() != six {
			out = append(out, ip)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
