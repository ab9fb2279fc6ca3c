package diagnose_test

import (
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func TestGRPCOfOnePort(t *testing.T) {
	plain := func(p diagnose.ServicePort) func(*diagnose.Snapshot) {
		return func(s *diagnose.Snapshot) {
			if p.TargetPort == "" {
				p.TargetPort = "6565"
			}
			port(s, p)
		}
	}
	heard := func(protos ...string) func(*diagnose.Snapshot) {
		return func(s *diagnose.Snapshot) {
			port(s, diagnose.ServicePort{Port: 9000, TargetPort: "6565"})
			var ps []diagnose.PortProbe
			for i, p := range protos {
				ps = append(ps, diagnose.PortProbe{Pod: s.Pods.Value[i].Key, Port: 6565, Proto: p})
			}
			s.Ports = diagnose.Know(ps)
		}
	}
	both := func(fs ...func(*diagnose.Snapshot)) func(*diagnose.Snapshot) {
		return func(s *diagnose.Snapshot) {
			for _, f := range fs {
				f(s)
			}
		}
	}
	container := func(c diagnose.Container) func(*diagnose.Snapshot) {
		return func(s *diagnose.Snapshot) {
			for i := range s.Pods.Value {
				s.Pods.Value[i].Containers = []diagnose.Container{c}
			}
		}
	}
	client := func(tg diagnose.Target) func(*diagnose.Snapshot) {
		return func(s *diagnose.Snapshot) {
			tg.Kind, tg.Service, tg.Source, tg.Name = diagnose.TargetService, key("square"), "env", "SQUARE"
			s.Workloads = diagnose.Know([]diagnose.Workload{{Kind: "Deployment", Key: key("web"), Targets: []diagnose.Target{tg}}})
		}
	}
	anon := plain(diagnose.ServicePort{Port: 9000})
	tests := map[string]struct {
		change  func(*diagnose.Snapshot)
		level   diagnose.GRPCLevel
		because string
	}{
		"name grpc":               {plain(diagnose.ServicePort{Name: "grpc", Port: 1}), diagnose.GRPCYes, "port 1 is named grpc"},
		"name grpc-web-api":       {plain(diagnose.ServicePort{Name: "grpc-api", Port: 1}), diagnose.GRPCYes, "named grpc-api"},
		"name api-grpc":           {plain(diagnose.ServicePort{Name: "api-grpc", Port: 1}), diagnose.GRPCYes, "named api-grpc"},
		"name GRPC":               {plain(diagnose.ServicePort{Name: "GRPC", Port: 1}), diagnose.GRPCYes, "named GRPC"},
		"name http":               {plain(diagnose.ServicePort{Name: "http", Port: 1}), diagnose.GRPCNo, "named http"},
		"name tcp-postgres":       {plain(diagnose.ServicePort{Name: "tcp-postgres", Port: 1}), diagnose.GRPCNo, "named tcp-postgres"},
		"name http2":              {plain(diagnose.ServicePort{Name: "http2", Port: 1}), diagnose.GRPCLikely, "named http2"},
		"appProtocol grpc":        {plain(diagnose.ServicePort{AppProtocol: "grpc", Port: 1}), diagnose.GRPCYes, "appProtocol grpc"},
		"appProtocol h2c":         {plain(diagnose.ServicePort{AppProtocol: "kubernetes.io/h2c", Port: 1}), diagnose.GRPCLikely, "kubernetes.io/h2c"},
		"appProtocol before name": {plain(diagnose.ServicePort{AppProtocol: "http", Name: "grpc", Port: 1}), diagnose.GRPCNo, "appProtocol http"},
		"UDP":                     {plain(diagnose.ServicePort{Protocol: "UDP", Name: "grpc", Port: 1}), diagnose.GRPCNo, "port 1 is UDP"},
		"nothing":                 {anon, diagnose.GRPCUnknown, "nothing about port 9000"},
		"a database's number":     {plain(diagnose.ServicePort{Port: 5432}), diagnose.GRPCNo, "PostgreSQL by convention"},
		"a database's number, but a gRPC probe": {
			both(plain(diagnose.ServicePort{Port: 5432}), container(diagnose.Container{Readiness: &diagnose.Probe{Kind: "grpc", Port: "6565"}})),
			diagnose.GRPCLikely, "gRPC probe on port 6565",
		},
		"a gRPC probe on another port": {
			both(anon, container(diagnose.Container{Readiness: &diagnose.Probe{Kind: "grpc", Port: "7000"}, Ports: []diagnose.ContainerPort{{Port: 7000}}})),
			diagnose.GRPCUnknown, "nothing",
		},
		"container port named grpc": {
			both(anon, container(diagnose.Container{Ports: []diagnose.ContainerPort{{Name: "grpc-api", Port: 6565}}})),
			diagnose.GRPCLikely, "container port 6565 is named grpc-api",
		},
		"hint in the only container": {both(anon, container(diagnose.Container{Name: "app", Hints: []string{"env GRPC_PORT"}})), diagnose.GRPCLikely, "env GRPC_PORT"},
		"client dials it as gRPC":    {both(anon, client(diagnose.Target{Port: 9000, GRPC: true})), diagnose.GRPCLikely, "deploy/web dials it as gRPC (env SQUARE)"},
		"client dials the pods' port": {
			both(anon, client(diagnose.Target{Port: 6565, GRPC: true})), diagnose.GRPCLikely, "deploy/web dials it",
		},
		"client dials another port": {both(anon, client(diagnose.Target{Port: 9100, GRPC: true})), diagnose.GRPCUnknown, "nothing"},
		"client without gRPC":       {both(anon, client(diagnose.Target{Port: 9000})), diagnose.GRPCUnknown, "nothing"},
		"heard gRPC":                {heard("grpc", "h2c"), diagnose.GRPCYes, "answered as gRPC on 1 of 2 pods asked"},
		"heard HTTP/1":              {heard("http1", "http1"), diagnose.GRPCNo, "answered as HTTP/1 on 2 of 2"},
		"heard only silence":        {heard("silent"), diagnose.GRPCUnknown, "nothing"},
		"heard HTTP/1 though named so": {
			both(heard("http1"), plain(diagnose.ServicePort{Name: "grpc", Port: 9000})), diagnose.GRPCYes, "port 9000 is named grpc",
		},
		"heard gRPC though named http": {
			both(heard("grpc"), plain(diagnose.ServicePort{Name: "http", Port: 9000})), diagnose.GRPCYes, "answered as gRPC",
		},
		"assumed":             {both(anon, func(s *diagnose.Snapshot) { s.AssumeGRPC = true }), diagnose.GRPCYes, "--assume-grpc"},
		"assumed over HTTP/1": {both(heard("http1"), func(s *diagnose.Snapshot) { s.AssumeGRPC = true }), diagnose.GRPCYes, "--assume-grpc"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := healthy(3)
			tc.change(s)
			g := view(s).GRPC()
			if g.Level != tc.level || !strings.Contains(strings.Join(g.Because, "; "), tc.because) {
				t.Errorf("%s because %v, want %s because %q", g.Level, g.Because, tc.level, tc.because)
			}
			if g.Yes() != (tc.level == diagnose.GRPCYes || tc.level == diagnose.GRPCLikely) {
				t.Errorf("Yes() = %v at level %s", g.Yes(), g.Level)
			}
		})
	}
}

func TestGRPCOfSeveralPorts(t *testing.T) {
	s := healthy(1)
	s.Services.Value[0].Ports = []diagnose.ServicePort{
		{Name: "metrics", Port: 9090, TargetPort: "9090"}, {Name: "grpc", Port: 6565, TargetPort: "6565"}, {Port: 7000, TargetPort: "7000"},
	}
	g := view(s).GRPC()
	if g.Level != diagnose.GRPCYes || len(g.Ports) != 3 || g.Ports[0].Level != diagnose.GRPCNo || g.Because[0] != "port 6565 is named grpc" {
		t.Errorf("%+v", g)
	}
	if ps := view(s).GRPCPorts(); len(ps) != 1 || ps[0].Port != 6565 {
		t.Errorf("GRPCPorts() = %v", ps)
	}
	s.Services.Value[0].Ports = nil
	if g := view(s).GRPC(); g.Level != diagnose.GRPCUnknown {
		t.Errorf("without ports: %s", g.Level)
	}
}
