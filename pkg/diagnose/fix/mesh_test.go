package fix_test

import (
	"slices"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/fix"
)

func TestMeshedClientStays(t *testing.T) {
	p := build(t, square(t, func(s *diagnose.Snapshot) {
		in := s.Workloads.Value[0]
		in.Name, in.Mesh = "meshed", diagnose.Mesh{Kind: "linkerd", Mode: "sidecar"}
		out := s.Workloads.Value[0]
		out.Name, out.Mesh = "skips", diagnose.Mesh{Kind: "linkerd", SkipOutbound: []string{"1-10", "6000-7000"}}
		ambient := s.Workloads.Value[0]
		ambient.Name, ambient.Mesh = "ambient", diagnose.Mesh{Kind: "istio", Mode: "ambient"}
		s.Workloads.Value = append(s.Workloads.Value, in, out, ambient)
	}), diagnose.StrategyHeadless, fix.Options{})
	var who []string
	for _, c := range p.Commands {
		who = append(who, c.Args[3])
	}
	if !slices.Equal(who, []string{"deploy/aggregator-app", "deploy/skips", "deploy/ambient"}) {
		t.Errorf("changed %v", who)
	}
	mentions(t, p.Notes, "deploy/meshed is in linkerd and stays")
}

func TestMesh(t *testing.T) {
	linkerd := func(s *diagnose.Snapshot) { s.Pods.Value[0].Mesh = diagnose.Mesh{Kind: "linkerd"} }
	t.Run("back from the twin", func(t *testing.T) {
		p := build(t, square(t, linkerd, sibling(func(*diagnose.Service) {}), target(func(tg *diagnose.Target) {
			tg.Service.Name, tg.Host, tg.Scheme = "square-service-headless", "square-service-headless.default", "dns"
			tg.Token = "dns:///square-service-headless.default:6565"
		})), diagnose.StrategyMesh, fix.Options{})
		if len(p.Patches) != 1 {
			t.Fatalf("patches %+v", p.Patches)
		}
		mentions(t, []string{p.Patches[0].YAML}, "linkerd.io/inject: enabled", "dns:///square-service.default.svc.cluster.local:6565")
	})
	t.Run("headless alone", func(t *testing.T) {
		p := build(t, square(t, linkerd, service(func(s *diagnose.Service) { s.ClusterIPs = []string{"None"} })), diagnose.StrategyMesh, fix.Options{})
		mentions(t, p.Notes, "has no cluster IP")
	})
	t.Run("already in", func(t *testing.T) {
		p := build(t, square(t, client(func(w *diagnose.Workload) { w.Mesh = diagnose.Mesh{Kind: "istio", Mode: "ambient"} }), service(func(s *diagnose.Service) {
			s.Ports[0].Name = ""
		})), diagnose.StrategyMesh, fix.Options{})
		if len(p.Patches) != 0 {
			t.Errorf("patches %+v", p.Patches)
		}
		mentions(t, p.Notes, "deploy/aggregator-app is in istio already", "set appProtocol: grpc")
		mentions(t, p.Caveats, "waypoint")
	})
	t.Run("a pod", func(t *testing.T) {
		p := build(t, square(t, linkerd, client(func(w *diagnose.Workload) { w.Kind = "Pod" })), diagnose.StrategyMesh, fix.Options{})
		mentions(t, p.Notes, "a Pod cannot be changed in place")
	})
}
