package live_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

func TestDNSAgrees(t *testing.T) {
	t.Parallel()
	for _, ws := range []bool{true, false} {
		w := newWorld(t)
		w.dnsServes(t, dnsA, w.rightRecords()...)
		w.dnsServes(t, dnsB, w.rightRecords()...)
		streams := 2
		if !ws {
			w.nodes.NoWebSocket()
			streams = 4 // each is tried as a WebSocket first
		}
		snap := w.run(t, context.Background(), live.DNS(w.options()))
		if !snap.DNS.Known() || len(snap.DNS.Value) != 4 || len(snap.Gaps) != 0 {
			t.Fatalf("%+v, gaps %+v", snap.DNS, snap.Gaps)
		}
		a := snap.DNS.Value[1]
		if a.Server.String() != dnsA || a.Name != name || a.Type != "A" || a.Round != 1 || a.Rcode != "NOERROR" || a.TTL != 30 || a.Transport != "tcp" ||
			!slices.Equal(a.Addresses, []string{w.svc.Spec.ClusterIP}) || len(a.Predicted) != 3 || a.RTTMicros <= 0 || a.Size == 0 {
			t.Errorf("%+v", a)
		}
		if s := snap.DNS.Value[0]; s.Type != "SRV" || len(s.SRV) != 1 || s.SRV[0] != (diagnose.SRV{Target: name, Port: 6565}) {
			t.Errorf("%+v", s)
		}
		if snap.Cost.Streams != streams || snap.Cost.Writes != 0 {
			t.Errorf("cost %+v, want %d streams and no writes", snap.Cost, streams)
		}
		if n := asked(w.srv, "list", ""); n != 2 {
			t.Errorf("%d lists of pods: the namespace's and the DNS pods' are enough", n)
		}
	}
}

func TestDNSSettlesInRoundTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dnsServes(t, dnsB, w.rightRecords()...)
	zone := dnstest.NewZone(t, "cluster.local.").Add(w.rightRecords()...).Remove(name).Add(name + " 30 IN A 10.0.0.99")
	server := dnstest.Serve(t, zone)
	w.nodes.Listen(dnsA, 53, server.Addr())
	go func() {
		eventually(t.Context(), 10*time.Second, func() bool { return len(server.Queries()) >= 2 })
		zone.Remove(name).Add(name + " 30 IN A " + w.svc.Spec.ClusterIP)
	}()
	snap := w.run(t, context.Background(), live.DNS(w.options()))
	var rounds []string
	for _, a := range snap.DNS.Value {
		if a.Type == "A" {
			rounds = append(rounds, a.Server.Name+" "+strings.Join(a.Addresses, ","))
		}
	}
	want := []string{"coredns-a 10.0.0.99", "coredns-a " + w.svc.Spec.ClusterIP, "coredns-b " + w.svc.Spec.ClusterIP}
	if !slices.Equal(rounds, want) {
		t.Errorf("%q, want %q", rounds, want)
	}
}

// TestDNSAnswers: what a server says instead of the addresses is an answer.
func TestDNSAnswers(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		behave dnstest.Behaviour
		rcode  string
		err    string // of the A question, or of the server when it answers nothing
		silent bool
	}{
		"nxdomain":   {behave: dnstest.Rcode(dns.RcodeNameError, true), rcode: "NXDOMAIN"},
		"servfail":   {behave: dnstest.Rcode(dns.RcodeServerFailure, false), rcode: "SERVFAIL"},
		"garbage":    {behave: dnstest.Garbage(40), err: "answer does not belong to the question", silent: true},
		"half":       {behave: dnstest.HalfMessage(), err: "malformed answer", silent: true},
		"hangs up":   {behave: dnstest.Hangup(), err: "connection closed without an answer", silent: true},
		"is silent":  {behave: dnstest.Silence(), err: "no answer in time", silent: true},
		"cut in two": {behave: dnstest.HangupWithin(5), err: "connection ended within a message", silent: true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.dnsServes(t, dnsB, w.rightRecords()...)
			w.nodes.Listen(dnsA, 53, dnstest.Attack(t, c.behave).Addr())
			var snap *diagnose.Snapshot
			within(t, 8*time.Second, func() { snap = w.run(t, context.Background(), live.DNS(w.options())) })
			gap := gaps(snap, diagnose.FactDNS)["pod "+dnsA]
			if c.silent {
				contains(t, "gap", gap.Reason, c.err)
				if gap.State != diagnose.Failed || len(snap.DNS.Value) != 2 {
					t.Errorf("%+v, %+v", gap, snap.DNS)
				}
				return
			}
			a := snap.DNS.Value[slices.IndexFunc(snap.DNS.Value, func(a diagnose.DNSAnswer) bool { return a.Server.String() == dnsA && a.Type == "A" })]
			if a.Rcode != c.rcode || len(a.Addresses) != 0 || gap.State != "" {
				t.Errorf("%+v, gap %+v", a, gap)
			}
		})
	}
}

// TestDNSAnswerCutOverTCP: what does not fit into a message over TCP is missing for every client. It is an answer, and not asked for again.
func TestDNSAnswerCutOverTCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cut := func(m *dns.Msg) {
		if m.Question[0].Qtype == dns.TypeA {
			m.Rcode, m.Truncated = dns.RcodeSuccess, true
			for i := range 100 {
				rr, err := dns.NewRR(fmt.Sprintf("%s 30 IN A 10.1.0.%d", m.Question[0].Name, i+1))
				if err != nil {
					t.Error(err)
				}
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	for _, pod := range []string{dnsA, dnsB} {
		w.nodes.Listen(pod, 53, dnstest.Attack(t, dnstest.Change(cut)).Addr())
	}
	snap := w.run(t, context.Background(), live.DNS(w.options()))
	n := 0
	for _, a := range snap.DNS.Value {
		if a.Type != "A" {
			continue
		}
		if n++; a.Round != 1 || a.Error != "" || !a.Truncated || a.Transport != "tcp" || a.Rcode != "NOERROR" || len(a.Addresses) != 101 { // the server's own address is one
			t.Errorf("%+v", a)
		}
	}
	if n != 2 || len(snap.Gaps) > 0 {
		t.Errorf("%d answers, gaps %+v", n, snap.Gaps)
	}
}

func TestDNSPodsThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	gone := kubetest.Fault{Sub: "portforward", Name: "coredns-a", Status: 404, ContentType: "application/json",
		Body: `{"kind":"Status","apiVersion":"v1","code":404,"reason":"NotFound","details":{"name":"coredns-a","kind":"pods"},"message":"canary"}`}
	for title, c := range map[string]struct {
		break_ func(w *world)
		state  diagnose.State
		gap    string
	}{
		"denied":        {func(w *world) { w.srv.Fail(kubetest.Fault{Sub: "portforward", Name: "coredns-a", Status: 403}) }, diagnose.Denied, "may not create pods/portforward in kube-system"},
		"gone":          {func(w *world) { w.srv.Fail(gone) }, diagnose.Failed, "there is no pod coredns-a in kube-system"},
		"kubelet fails": {func(w *world) { w.srv.Fail(kubetest.Fault{Sub: "portforward", Name: "coredns-a", Status: 502}) }, diagnose.Failed, "the API server failed (502) to create pods/portforward in kube-system"},
		"refused":       {func(*world) {}, diagnose.Failed, "connection refused"},
		"node's fault":  {func(w *world) { w.nodes.Complain(dnsA, 53, "canary: no such sandbox") }, diagnose.Failed, "port 53 of the pod: the node could not connect"},
		"node silent":   {func(w *world) { w.nodes.Silence(dnsA) }, diagnose.Failed, "no answer in time"},
		"page": {func(w *world) {
			w.srv.Fail(kubetest.Fault{Sub: "portforward", Name: "coredns-a", Status: 200, Body: "<html>canary</html>", ContentType: "text/html"})
		}, diagnose.Failed, "the answer is not what an API server says to: create pods/portforward in kube-system"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.dnsServes(t, dnsB, w.rightRecords()...)
			c.break_(w)
			snap := w.run(t, context.Background(), live.DNS(w.options()))
			g := gaps(snap, diagnose.FactDNS)["pod "+dnsA]
			contains(t, "gap", g.Reason, c.gap)
			if g.State != c.state || !snap.DNS.Known() || len(snap.DNS.Value) != 2 {
				t.Errorf("gap %+v, DNS %+v", g, snap.DNS)
			}
			if strings.Contains(g.Reason+g.Hint, "canary") {
				t.Errorf("the peer's text is in %+v", g)
			}
		})
	}
}

func TestDNSCannotBeSeen(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		break_       func(w *world, o *live.Options)
		state        diagnose.State
		reason, hint string
	}{
		"all denied": {func(w *world, _ *live.Options) {
			w.srv.Fail(kubetest.Fault{Sub: "portforward", Namespace: "kube-system", Status: 403})
		}, diagnose.Denied, "may not port-forward in kube-system", "--rbac"},
		"webhook": {func(w *world, _ *live.Options) {
			w.srv.Fail(kubetest.Fault{Sub: "portforward", Status: 403, ContentType: "application/json",
				Body: `{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"reason":"Forbidden","message":"admission webhook \"no.canary.example\" denied the request: secret text"}`})
		}, diagnose.Denied, "admission webhook no.canary.example does not allow port-forward to pod coredns-a", ""},
		"one denied, one broken": {func(w *world, _ *live.Options) {
			w.srv.Fail(kubetest.Fault{Sub: "portforward", Name: "coredns-a", Status: 403})
		}, diagnose.Failed, "connection refused", ""},
		"list denied": {func(w *world, _ *live.Options) {
			w.srv.Fail(kubetest.Fault{Verb: "list", Resource: "pods", Namespace: "kube-system", Status: 403})
		}, diagnose.Denied, "may not list pods in kube-system", "--rbac"},
		"no such pods": {func(_ *world, o *live.Options) { o.DNSNamespace, o.DNSSelector = "openshift-dns", "dns=default" },
			diagnose.Failed, "no pod in openshift-dns has the labels dns=default", "--dns-namespace"},
		"none ready": {func(w *world, _ *live.Options) {
			for _, n := range []string{"coredns-a", "coredns-b"} {
				w.srv.Set(kubetest.Pod("kube-system", n).Label("k8s-app", "kube-dns").NotReady("CrashLoopBackOff"))
			}
		}, diagnose.Failed, "none of the 2 DNS pods in kube-system is ready", "--dns-namespace"},
		"upgrade hangs": {func(w *world, _ *live.Options) { w.nodes.Hang("portforward") }, diagnose.Failed,
			"no answer within 3s to: create pods/portforward in kube-system", "--request-timeout"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.options()
			c.break_(w, &o)
			snap := w.run(t, context.Background(), live.DNS(o))
			contains(t, "reason", snap.DNS.Reason, c.reason)
			contains(t, "hint", snap.DNS.Hint, c.hint)
			if snap.DNS.State != c.state || strings.Contains(snap.DNS.Reason, "secret text") {
				t.Errorf("%+v", snap.DNS.Status)
			}
		})
	}
}

func TestDNSUnreadyIsNoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kubetest.Pod("kube-system", "coredns-c").Label("k8s-app", "kube-dns").NotReady("CrashLoopBackOff"))
	w.dnsServes(t, dnsA, w.rightRecords()...)
	w.dnsServes(t, dnsB, w.rightRecords()...)
	snap := w.run(t, context.Background(), live.DNS(w.options()))
	g := gaps(snap, diagnose.FactDNS)["pod kube-system/coredns-c"]
	if g.State != diagnose.NotAsked || g.Reason == "" || len(snap.DNS.Value) != 4 {
		t.Errorf("%+v, %+v", g, snap.DNS)
	}
}

// TestDNSHeadless: the twin is asked for as well, and what it should answer are the ready pods.
func TestDNSHeadless(t *testing.T) {
	t.Parallel()
	twin := kubetest.Service(ns, "square-headless").Headless().Selects("app", "square")
	w := newWorld(t, twin)
	w.srv.Set(w.svc.Slice(w.pods[0], w.pods[1].NotReady("CrashLoopBackOff"), w.pods[2]))
	twinName := "square-headless.default.svc.cluster.local."
	right := append(w.rightRecords(), twinName+" 30 IN A "+w.pods[0].Status.PodIP, twinName+" 30 IN A "+w.pods[2].Status.PodIP)
	w.dnsServes(t, dnsA, right...)
	w.dnsServes(t, dnsB, append(right, twinName+" 30 IN A "+w.pods[1].Status.PodIP)...) // not gone yet
	snap := w.run(t, context.Background(), live.DNS(w.options()))
	rounds := map[string]int{}
	for _, a := range snap.DNS.Value {
		if a.Name == twinName {
			rounds[a.Server.String()]++
		}
	}
	if rounds[dnsA] != 1 || rounds[dnsB] != 2 {
		t.Errorf("%v: %s agrees and is asked once, %s twice", rounds, dnsA, dnsB)
	}
}

func TestDNSInterrupted(t *testing.T) {
	t.Parallel()
	for title, hang := range map[string]func(w *world){
		"upgrade":       func(w *world) { w.nodes.Hang("portforward") },
		"stream":        func(w *world) { w.nodes.Silence(dnsA); w.nodes.Silence(dnsB) },
		"answer":        func(w *world) { a := silentServer(t); w.nodes.Listen(dnsA, 53, a); w.nodes.Listen(dnsB, 53, a) },
		"between round": func(w *world) { w.dnsServes(t, dnsA); w.dnsServes(t, dnsB) },
	} {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			hang(w)
			ctx := cancelWhen(t, func() bool { return asked(w.srv, "", "portforward") == 2 })
			var snap *diagnose.Snapshot
			within(t, time.Second, func() { snap = w.run(t, ctx, live.DNS(w.options())) })
			if snap.DNS.Known() && len(snap.DNS.Value) == 0 {
				t.Errorf("nothing was seen, and it passes for known: %+v", snap.DNS)
			}
			if !snap.DNS.Known() && !strings.Contains(snap.DNS.Reason, "interrupted") {
				t.Errorf("%+v", snap.DNS.Status)
			}
		})
	}
}

// TestSPDYInterrupted: also the old way ends at once, between request and answer.
func TestSPDYInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.srv.Fail(kubetest.Fault{Sub: "portforward", Verb: "get", Status: 400})
	w.nodes.Hang("portforward")
	ctx := cancelWhen(t, func() bool { return asked(w.srv, "create", "portforward") == 2 })
	within(t, time.Second, func() { w.run(t, ctx, live.DNS(w.options())) })
}
