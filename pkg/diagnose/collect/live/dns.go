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
	// dnsWait bounds one question, however long API calls may take: it is what stub resolvers wait (resolv.conf(5)).
	dnsWait = 5 * time.Second
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
	asked := questionsOf(snap)
	if len(asked.questions) == 0 {
		return diagnose.Unknown[[]diagnose.DNSAnswer](diagnose.NotAsked, "no Service to ask for", "")
	}
	servers, err := dnsPods(ctx, s, o)
	if err != nil {
		return diagnose.Fact[[]diagnose.DNSAnswer]{Status: statusOf(err)}
	}
	asks := make([]dnsAsk, len(servers))
	for i, server := range servers {
		asks[i] = dnsAsk{server: server, err: errors.New("interrupted before it was asked"), timeout: min(dnsWait, s.CallTimeout())}
		defer asks[i].close()
	}
	each(ctx, asks, func(a *dnsAsk) { a.begin(ctx, s, asked) })
	if snap.Cluster.DomainFrom == diagnose.DomainAssumed && nowhereKnown(asks) {
		if domain, ok := learnDomain(ctx, snap, asks); ok && domain != snap.Cluster.Domain {
			snap.Cluster.Domain, snap.Cluster.DomainFrom = domain, diagnose.DomainFromDNS
			asked = questionsOf(snap)
			each(ctx, asks, func(a *dnsAsk) { a.ask(ctx, asked) })
		}
	}
	each(ctx, asks, func(a *dnsAsk) { a.again(ctx, asked) })
	settleDomain(s, snap, asks)
	var all []diagnose.DNSAnswer
	missing := misses{fact: diagnose.FactDNS}
	for i := range asks {
		all = append(all, asks[i].answers()...)
		if err := asks[i].err; err != nil {
			missing.add(servers[i].pod, statusOf(err))
		}
	}
	if len(all) == 0 {
		return diagnose.Fact[[]diagnose.DNSAnswer]{Status: missing.status("may not port-forward in " + o.DNSNamespace)}
	}
	missing.note(s)
	slices.SortFunc(all, func(a, b diagnose.DNSAnswer) int {
		return cmp.Or(a.Server.Compare(b.Server), cmp.Compare(a.Round, b.Round), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
	return diagnose.Know(all)
}

// dnsServer is one DNS pod and its TCP port.
type dnsServer struct {
	pod  diagnose.Key
	port int
}

// dnsPods lists the ready pods of the cluster's DNS. Those that are not ready get no questions from anybody: they are noted.
func dnsPods(ctx context.Context, s *collect.Session, o Options) ([]dnsServer, error) {
	op := collect.Op{Verb: "list", Resource: collect.Pods, Namespace: o.DNSNamespace}
	cctx, cancel := context.WithTimeout(quiet(ctx), s.CallTimeout())
	defer cancel()
	var list corev1.PodList
	err := s.REST().Get().AbsPath("api", "v1", "namespaces", o.DNSNamespace, "pods").Param("labelSelector", o.DNSSelector).Do(cctx).Into(&list)
	if err != nil {
		return nil, s.Failure(ctx, op, err)
	}
	var out []dnsServer
	var unready []diagnose.Key
	for i := range list.Items {
		p := &list.Items[i]
		k := diagnose.Key{Namespace: p.Namespace, Name: p.Name}
		if ready(p) {
			out = append(out, dnsServer{k, dnsPort(p)})
		} else {
			unready = append(unready, k)
		}
	}
	if len(out) == 0 {
		const hint = "--dns-namespace and --dns-selector say where the cluster's DNS runs"
		if len(unready) > 0 {
			return nil, agentFailed(hint, "none of the %d DNS pods in %s is ready", len(unready), o.DNSNamespace)
		}
		return nil, agentFailed(hint, "no pod in %s has the labels %s", o.DNSNamespace, o.DNSSelector)
	}
	for _, k := range unready {
		s.Gap(diagnose.Gap{Fact: diagnose.FactDNS, Subject: "pod " + k.String(), Status: diagnose.Status{Reason: "not ready, so it gets no questions"}})
	}
	slices.SortFunc(out, func(a, b dnsServer) int { return a.pod.Compare(b.pod) })
	if n := len(out) - o.MaxPods; n > 0 {
		s.Gap(diagnose.Gap{Fact: diagnose.FactDNS, Subject: fmt.Sprintf("%d more DNS pods", n), Status: diagnose.Status{
			Reason: fmt.Sprintf("at most %d are asked", o.MaxPods), Hint: "a quarter of --max-pods is for DNS pods",
		}})
		out = out[:o.MaxPods]
	}
	return out, nil
}

func ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// dnsPort is where the pod listens: 53, unless a container declares another for DNS over TCP, as OpenShift's do.
func dnsPort(p *corev1.Pod) int {
	for _, c := range p.Spec.Containers {
		for _, cp := range c.Ports {
			if cp.Name == "dns-tcp" && cp.Protocol == corev1.ProtocolTCP {
				return int(cp.ContainerPort)
			}
		}
	}
	return 53
}

// dnsQuestions are what to ask every server, and the addresses that A and AAAA answers should have.
type dnsQuestions struct {
	questions []dnsprobe.Question
	wanted    map[dnsprobe.Question][]string // sorted
}

// questionsOf lists A or AAAA by the Service's families and SRV of each named TCP port, for the targets and their headless twins.
func questionsOf(snap *diagnose.Snapshot) dnsQuestions {
	out := dnsQuestions{wanted: map[dnsprobe.Question][]string{}}
	add := func(q dnsprobe.Question) {
		if !slices.Contains(out.questions, q) {
			out.questions = append(out.questions, q)
		}
	}
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok || v.Service.Type == "ExternalName" {
			continue
		}
		services := []diagnose.Service{v.Service}
		if t, ok := v.Twin(); ok {
			services = append(services, t) // of the same pods: it has the same selector
		}
		for _, svc := range services {
			name := fqdn(svc.Key, snap.Cluster.Domain)
			for _, t := range families(svc) {
				q := dnsprobe.Question{Name: name, Type: t}
				add(q)
				if !svc.Headless() || snap.Slices.Known() {
					out.wanted[q] = addresses(svc, v.Endpoints(), t == dnsprobe.TypeAAAA)
				}
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

// addresses are those that DNS should give (Kubernetes DNS-Based Service Discovery 1.1.0, sections 2.3 and 2.4): the cluster IP; for a
// headless Service those of the endpoints that are ready, or of all when the Service publishes them.
func addresses(svc diagnose.Service, endpoints []diagnose.Endpoint, six bool) []string {
	var ips, out []string
	if !svc.Headless() {
		ips = svc.ClusterIPs
	} else {
		for _, e := range endpoints {
			if e.Ready || svc.PublishNotReady {
				ips = append(ips, e.IPs...)
			}
		}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil && a.Is4() != six {
			out = append(out, a.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// heard is the answer to a question, if there was one. One that is cut over TCP is an answer, and what it lacks no client can get: a
// message has a limit of 65535 bytes (RFC 1035, section 4.2.2).
func heard(r dnsprobe.Result) (*dnsprobe.Answer, bool) {
	if r.Failure == nil || r.Failure.Kind == dnsprobe.KindTruncatedTCP {
		return r.Answer, r.Answer != nil
	}
	return nil, false
}

// disagrees holds the addresses of one round against what the API has. A cut answer will be cut the next time, too.
func (d dnsQuestions) disagrees(answers []dnsprobe.Result) bool {
	return slices.ContainsFunc(answers, func(r dnsprobe.Result) bool {
		want, ok := d.wanted[r.Question]
		a, said := heard(r)
		return ok && said && !a.Flags.Truncated && !slices.Equal(answered(a), want)
	})
}

// dnsAsk is the asking of one DNS pod.
type dnsAsk struct {
	server        dnsServer
	timeout       time.Duration // of one question
	forward       *forward      // nil before it is open, and when it cannot be opened
	first, second []dnsprobe.Result
	err           error // why there is no answer at all
}

// each does something with all servers at the same time.
func each(ctx context.Context, asks []dnsAsk, do func(*dnsAsk)) {
	group := newLimited(ctx, maxStreams)
	for i := range asks {
		group.Go(func() { do(&asks[i]) })
	}
	group.Wait()
}

func (a *dnsAsk) client() dnsprobe.Client {
	return dnsprobe.Client{
		Transport: dnsprobe.TCP, Timeout: a.timeout,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return a.forward.dial(ctx, a.server.port) },
	}
}

// begin opens the connection and asks. A server that knows nothing is not asked a second time yet: its domain may be another.
func (a *dnsAsk) begin(ctx context.Context, s *collect.Session, asked dnsQuestions) {
	if a.forward, a.err = openForward(ctx, s, a.server.pod); a.err != nil {
		return
	}
	a.ask(ctx, asked)
	if a.err == nil && !unheardOf(a.first) {
		a.again(ctx, asked)
	}
}

// ask asks everything. A server that answers nothing at all is an error.
func (a *dnsAsk) ask(ctx context.Context, asked dnsQuestions) {
	if a.forward == nil {
		return
	}
	c := a.client()
	a.first, a.second, a.err = c.AskAll(ctx, "pod", asked.questions, 0), nil, nil
	if !slices.ContainsFunc(a.first, func(r dnsprobe.Result) bool { _, ok := heard(r); return ok }) {
		a.err = noAnswer(ctx, a.forward, a.first)
	}
}

// again asks a second time when an answer disagrees with the endpoints.
func (a *dnsAsk) again(ctx context.Context, asked dnsQuestions) {
	if a.err == nil && a.second == nil && asked.disagrees(a.first) && pause(ctx, propagation) {
		c := a.client()
		a.second = c.AskAll(ctx, "pod", asked.questions, 0)
	}
}

func (a *dnsAsk) answers() []diagnose.DNSAnswer {
	if a.err != nil {
		return nil
	}
	return append(project(a.server.pod, 1, a.first), project(a.server.pod, 2, a.second)...)
}

func (a *dnsAsk) close() {
	if a.forward != nil {
		_ = a.forward.Close() // everything was read
	}
}

// nowhereKnown reports whether the servers that answer know none of the names.
func nowhereKnown(asks []dnsAsk) bool {
	unknown := false
	for i := range asks {
		if asks[i].err != nil {
			continue
		}
		if !unheardOf(asks[i].first) {
			return false
		}
		unknown = true
	}
	return unknown
}

// noAnswer words why a server answered none of the questions.
func noAnswer(ctx context.Context, f *forward, results []dnsprobe.Result) error {
	if ctx.Err() != nil {
		return errors.New("interrupted before it answered")
	}
	if err := f.broken(); err != nil {
		return err
	}
	return errors.New(reason(results[0].Err))
}

// project keeps of one round what a snapshot has.
func project(pod diagnose.Key, round int, results []dnsprobe.Result) []diagnose.DNSAnswer {
	var out []diagnose.DNSAnswer
	for _, r := range results {
		d := diagnose.DNSAnswer{Server: pod, Round: round, Name: r.Question.Name, Type: r.Question.Type.String()}
		if a, ok := heard(r); ok {
			fill(&d, a)
		} else {
			d.Error = reason(r.Err)
		}
		out = append(out, d)
	}
	return out
}

func fill(d *diagnose.DNSAnswer, a *dnsprobe.Answer) {
	d.Rcode, d.Transport, d.Size, d.Truncated = a.Rcode.String(), string(a.Transport), a.Size, a.Flags.Truncated
	d.RTTMicros = a.RTT.Microseconds()
	if ttl, ok := a.TTL(); ok {
		d.TTL = uint32(ttl / time.Second)
	}
	d.Addresses = answered(a)
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
}

// answered are the addresses of an answer, sorted, each once.
func answered(a *dnsprobe.Answer) []string {
	var out []string
	for _, ip := range a.Addresses() {
		out = append(out, ip.Unmap().String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// reason words a DNS failure without what was asked, which stands beside it.
func reason(err error) string {
	if errors.Is(err, dnsprobe.ErrTimeout) {
		return dnsprobe.ErrTimeout.Error() // which step it was and that a deadline passed says no more
	}
	var e *dnsprobe.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return clip(err.Error())
}
