package diagnose_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

func TestVerdict(t *testing.T) {
	anon := diagnose.ServicePort{Port: 9000, TargetPort: "6565"}
	needsPods := quiet("needs-pods", diagnose.High)
	needsPods.Needs = []diagnose.FactName{diagnose.FactPods}
	tests := map[string]struct {
		snap   *diagnose.Snapshot
		change func(*diagnose.Snapshot)
		checks []diagnose.Check
		state  diagnose.VerdictState
		words  string
	}{
		"nothing found": {
			snap: healthy(3), state: diagnose.VerdictOK, words: "no cause found in what was read; the spread itself was not measured (--sockets does)",
		},
		"not gRPC": {
			snap:  port(healthy(3), diagnose.ServicePort{Name: "http", Port: 80, TargetPort: "6565"}),
			state: diagnose.VerdictNotGRPC, words: "does not speak gRPC: port 80 is named http",
		},
		"not gRPC, but broken otherwise": {
			snap:   port(healthy(3), diagnose.ServicePort{Name: "http", Port: 80, TargetPort: "6565"}),
			checks: []diagnose.Check{fires("a", diagnose.High)}, state: diagnose.VerdictSuspect, words: "a found it",
		},
		"no ready pod": {
			snap: healthy(0), checks: []diagnose.Check{fires("a", diagnose.Critical)},
			state: diagnose.VerdictBroken, words: "no ready pod behind it: every call fails",
		},
		"no pod is meant to run": {
			snap: healthy(0), state: diagnose.VerdictUnknown, words: "no pod runs behind it now: nothing to balance",
		},
		"no ready pod, by name only": {
			snap: healthy(0), change: func(s *diagnose.Snapshot) { s.Services.Value[0].Type = "ExternalName" },
			state: diagnose.VerdictUnknown, words: "an ExternalName Service: what balances its calls is outside of what was looked at",
		},
		"one pod gets all": {
			snap: measured(0, 9000, 0), checks: []diagnose.Check{fires("a", diagnose.Critical)},
			state: diagnose.VerdictPinned, words: "all traffic lands on 1 of 3 ready pods",
		},
		"uneven": {
			snap: measured(8000, 2000, 0), state: diagnose.VerdictUneven,
			words: "traffic is uneven: of 3 ready pods the busiest gets 80%, the quietest 0%, an even share is 33%",
		},
		"uneven, by sidecars that weigh": {
			snap: weighed(measured(6000, 2000, 2000)), state: diagnose.VerdictOK,
			words: "calls go to all 3 ready pods, which the clients' sidecars weigh by latency: between 20% and 60% each",
		},
		"uneven, by sidecars that miss a pod": {
			snap: weighed(measured(8000, 2000, 0)), state: diagnose.VerdictUneven,
			words: "traffic is uneven: of 3 ready pods the busiest gets 80%, the quietest 0%, an even share is 33%",
		},
		"even now, with a finding": {
			snap: measured(3000, 3000, 3000), checks: []diagnose.Check{fires("a", diagnose.Critical)},
			state: diagnose.VerdictSuspect, words: "a found it",
		},
		"even, with a milder finding": {
			snap: measured(3000, 3000, 3000), checks: []diagnose.Check{fires("a", diagnose.Medium)},
			state: diagnose.VerdictOK, words: "traffic is spread evenly over 3 ready pods",
		},
		"roughly even": {
			snap: measured(2000, 2900, 1100), state: diagnose.VerdictOK,
			words: "traffic is spread roughly evenly over 3 ready pods: between 18% and 48% each",
		},
		"CPU alone": {
			snap: healthy(2), change: func(s *diagnose.Snapshot) {
				s.Metrics = diagnose.Know([]diagnose.PodMetrics{{Key: key("p1"), CPUMilli: 980}, {Key: key("p2"), CPUMilli: 20}})
			},
			state: diagnose.VerdictSuspect, words: "1 of 2 ready pods uses 98% of their CPU time; --sockets shows whether it gets the calls too",
		},
		"probe over one channel, and a pinned Service": {
			snap: clusterIP(0, 1, 0), checks: []diagnose.Check{fires("clusterip-pinned", diagnose.Critical)},
			state: diagnose.VerdictPinned, words: "100 probe calls over one channel landed on 1 of 3 ready pods",
		},
		"probe over one channel, and nobody concerned": {
			snap: clusterIP(0, 1, 0), state: diagnose.VerdictOK, words: "no cause found in what was read; the spread itself was not measured (--sockets does)",
		},
		"probe over the headless Service": {
			snap: probed(3, 100, 100, 100), state: diagnose.VerdictOK,
			words: "probe calls over the headless Service are spread evenly over 3 ready pods; users' traffic was too little to judge",
		},
		"probe straight to the pods says nothing about the Service": {
			snap: probed(3, 200), change: func(s *diagnose.Snapshot) { s.Probes.Value[0].Via = "pods" },
			state: diagnose.VerdictOK, words: "no cause found in what was read; the spread itself was not measured (--sockets does)",
		},
		"traffic before probe": {
			snap: measured(3000, 3000, 3000), change: func(s *diagnose.Snapshot) { s.Probes = probed(3, 200).Probes },
			state: diagnose.VerdictOK, words: "traffic is spread evenly over 3 ready pods",
		},
		"a finding at the threshold": {
			snap: healthy(3), checks: []diagnose.Check{fires("a", diagnose.High)}, state: diagnose.VerdictSuspect, words: "a found it",
		},
		"a milder finding is told, not hidden": {
			snap: healthy(3), checks: []diagnose.Check{fires("a", diagnose.Medium)}, state: diagnose.VerdictOK,
			words: "nothing at or above high; worth a look: a found it",
		},
		"a low finding is not worth the headline": {
			snap: healthy(3), checks: []diagnose.Check{fires("a", diagnose.Low)}, state: diagnose.VerdictOK,
			words: "no cause found in what was read; the spread itself was not measured (--sockets does)",
		},
		"could not look": {
			snap: healthy(3), checks: []diagnose.Check{needsPods}, change: func(s *diagnose.Snapshot) {
				s.Pods = diagnose.Unknown[[]diagnose.Pod](diagnose.Denied, "may not list pods in default", "")
			},
			state: diagnose.VerdictUnknown, words: "cannot tell: may not list pods in default",
		},
		"slices denied, no check needs them": {
			snap: healthy(3), change: func(s *diagnose.Snapshot) {
				s.Slices = diagnose.Unknown[[]diagnose.Slice](diagnose.Denied, "may not list endpointslices", "")
			},
			state: diagnose.VerdictUnknown, words: "cannot tell: may not list endpointslices",
		},
		"slices not asked for": {
			snap: healthy(3), change: func(s *diagnose.Snapshot) { s.Slices = diagnose.Fact[[]diagnose.Slice]{} },
			state: diagnose.VerdictUnknown, words: "cannot tell: the EndpointSlices were not asked for",
		},
		"cannot tell whether gRPC": {
			snap: port(healthy(3), anon), state: diagnose.VerdictUnknown,
			words: "cannot tell whether it speaks gRPC: nothing about port 9000 says gRPC or anything else",
		},
		"no ports": {
			snap: healthy(3), change: func(s *diagnose.Snapshot) { s.Services.Value[0].Ports = nil },
			state: diagnose.VerdictUnknown, words: "cannot tell whether it speaks gRPC: no port says so",
		},
		"headless, and a client without a policy": {
			snap: dialledByTwin("", ""), change: func(s *diagnose.Snapshot) { s.Targets[0] = key("square-headless") }, state: diagnose.VerdictUnknown,
			words: "no cause found, but whether the clients use all 3 ready pods depends on their policy (the default, pick_first, does not); --sockets measures it",
		},
		"headless, and nobody known": {
			snap: dialledByTwin("", ""), change: func(s *diagnose.Snapshot) { s.Targets[0], s.Workloads.Value = key("square-headless"), nil }, state: diagnose.VerdictUnknown,
			words: "no cause found, but whether the clients use all 3 ready pods depends on their policy (the default, pick_first, does not); --sockets measures it",
		},
		"headless, and round_robin": {
			snap: dialledByTwin("", "round_robin"), change: func(s *diagnose.Snapshot) { s.Targets[0] = key("square-headless") }, state: diagnose.VerdictOK,
			words: "no cause found in what was read; the spread itself was not measured (--sockets does)",
		},
		"a cluster IP is no matter of policy": {
			snap: dialledByTwin("", ""), state: diagnose.VerdictUnknown,
			words: "no cause found here; clients found dial the headless svc/square-headless, and use all 3 ready pods only with round_robin, which was not seen; --sockets measures it",
		},
		"a cluster IP beside another": {
			snap: dialledByTwin("10.96.0.8", ""), state: diagnose.VerdictOK,
			words: "no cause found in what was read; the spread itself was not measured (--sockets does)",
		},
		"a twin whose clients are seen to balance": {
			snap: dialledByTwin("", "round_robin"), state: diagnose.VerdictOK,
			words: "no cause found in what was read; the spread itself was not measured (--sockets does)",
		},
		"one pod": {snap: healthy(1), state: diagnose.VerdictOK, words: "one ready pod: nothing to balance"},
		"too little traffic": {
			snap: measured(10, 20), state: diagnose.VerdictOK, words: "no cause found; too little traffic in 2 s to judge the spread",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.change != nil {
				tc.change(tc.snap)
			}
			whole, r := run(tc.snap, tc.checks...)
			if r.Verdict.State != tc.state || r.Verdict.Headline != tc.words {
				t.Errorf("%s: %s\nwant %s: %s", r.Verdict.State, r.Verdict.Headline, tc.state, tc.words)
			}
			red := slices.Contains([]diagnose.VerdictState{diagnose.VerdictPinned, diagnose.VerdictUneven, diagnose.VerdictBroken}, r.Verdict.State)
			if red && whole.Status != diagnose.StatusFindings {
				t.Errorf("the headline says %q and the status %s", r.Verdict.State, whole.Status)
			}
		})
	}
}

// dialledByTwin has a second Service over the same three pods, headless unless it has an address, and one client that dials it.
func dialledByTwin(clusterIP, policy string) *diagnose.Snapshot {
	s := healthy(3)
	twin := s.Services.Value[0]
	twin.Key, twin.ClusterIPs = key("square-headless"), []string{cmp.Or(clusterIP, "None")}
	s.Services.Value = append(s.Services.Value, twin)
	slice := s.Slices.Value[0]
	slice.Key, slice.Service = key("square-headless-1"), twin.Name
	s.Slices.Value = append(s.Slices.Value, slice)
	s.Workloads.Value = []diagnose.Workload{{Kind: "Deployment", Key: key("client"), Targets: []diagnose.Target{{
		Container: "app", Source: "env", Name: "SQUARE_GRPC", Token: "dns:///square-headless:6565", Scheme: "dns", Host: "square-headless", Port: 6565,
		Kind: diagnose.TargetService, Service: twin.Key, GRPC: true, Policy: policy,
	}}}}
	return s
}

// weighed makes every connection that of an injected client's one pod, which has each of the addresses.
func weighed(s *diagnose.Snapshot) *diagnose.Snapshot {
	client := diagnose.Pod{Key: diagnose.Key{Namespace: "default", Name: "client-1"}, Phase: "Running", Owner: diagnose.Owner{Kind: "Deployment", Name: "client"}}
	for i := range s.Sockets.Value {
		client.IPs = append(client.IPs, s.Sockets.Value[i].Sockets[0].Remote.Addr().String())
	}
	ns := s.Targets[0].Namespace
	client.Namespace = ns
	s.Pods.Value = append(s.Pods.Value, client)
	s.Workloads = diagnose.Know([]diagnose.Workload{{
		Kind: "Deployment", Key: diagnose.Key{Namespace: ns, Name: "client"}, Sidecar: &diagnose.Sidecar{Container: true},
	}})
	return s
}
