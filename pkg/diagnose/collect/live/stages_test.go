package live_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/podtest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect/live"
)

// TestStages: what each depth asks, what it writes, and that --max-pods bounds the streams of DNS pods and server pods together.
func TestStages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		depth                       string
		maxPods                     int
		streams, writes             int
		dns, ports, sockets, probes bool
	}{
		{depth: collect.DepthStatic},
		{depth: collect.DepthObserve, streams: 5, dns: true, ports: true},
		{depth: collect.DepthObserve, maxPods: 4, streams: 4, dns: true, ports: true},
		{depth: collect.DepthObserve, maxPods: 2, streams: 2, ports: true},
		{depth: collect.DepthSockets, streams: 5, writes: 3, dns: true, ports: true, sockets: true},
		{depth: collect.DepthSockets, maxPods: 2, streams: 2, writes: 2, ports: true, sockets: true},
		{depth: collect.DepthProbe, streams: 5, writes: 5, dns: true, ports: true, sockets: true, probes: true},
	} {
		t.Run(fmt.Sprintf("%s %d", c.depth, c.maxPods), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.working(t, nil)
			w.dnsServes(t, dnsA, w.rightRecords()...)
			w.dnsServes(t, dnsB, w.rightRecords()...)
			addr := grpcServer(t)
			for i := range w.pods {
				w.nodes.Listen(w.podName(i), 50051, addr)
			}
			o := w.options()
			o.MaxPods = c.maxPods
			snap := w.run(t, context.Background(), live.Stages(c.depth, o)...)
			if snap.Cost.Streams != c.streams || snap.Cost.Writes != c.writes {
				t.Errorf("cost %+v, want %d streams and %d writes", snap.Cost, c.streams, c.writes)
			}
			for fact, want := range map[diagnose.FactName]bool{
				diagnose.FactDNS: c.dns, diagnose.FactPorts: c.ports, diagnose.FactSockets: c.sockets, diagnose.FactProbes: c.probes,
			} {
				if st := snap.Status(fact); st.Known() != want || !want && st.Reason == "" {
					t.Errorf("%s: %+v, want known %v", fact, st, want)
				}
			}
			if c.writes == 0 && w.said() != "" {
				t.Errorf("announced %q and wrote nothing", w.said())
			}
		})
	}
}

// TestNothingPlacedOnAGuess: a Service that nothing says gRPC about gets no container, whatever depth is asked for.
func TestNothingPlacedOnAGuess(t *testing.T) {
	t.Parallel()
	web := kubetest.Service(ns, "web")
	web.Spec.Ports[0].Name = "main"
	web.Spec.Ports[0].Port = 7000
	pod := kubetest.Pod(ns, "web")
	pod.Spec.Containers[0].Ports = nil
	w := newWorld(t, web, pod, web.Slice(pod))
	w.nodes.Play(plays(podtest.Text("")))
	snap := w.collect(t, context.Background(), collect.Options{Namespace: ns, Names: []string{"web"}}, live.Probe(w.options()))
	if len(w.nodes.Agents()) != 0 || snap.Cost.Writes != 0 || snap.Sockets.State != diagnose.NotAsked || snap.Probes.State != diagnose.NotAsked || w.said() != "" {
		t.Errorf("%+v; sockets %+v, probes %+v; announced %q", w.nodes.Agents(), snap.Sockets.Status, snap.Probes.Status, w.said())
	}
}
