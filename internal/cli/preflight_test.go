package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// squares is a snapshot of one gRPC Service with two ready pods.
func squares(change func(*diagnose.Service)) *diagnose.Snapshot {
	key := diagnose.Key{Namespace: "default", Name: "square"}
	svc := diagnose.Service{Key: key, Type: "ClusterIP", ClusterIPs: []string{"10.0.0.1"}, Selector: map[string]string{"app": "square"},
		Ports: []diagnose.ServicePort{{Name: "grpc", Protocol: "TCP", Port: 6565, TargetPort: "6565"}}}
	change(&svc)
	end := func(name, ip string) diagnose.SliceEndpoint {
		return diagnose.SliceEndpoint{Addresses: []string{ip}, Ready: true, Serving: true, Pod: diagnose.Key{Namespace: "default", Name: name}}
	}
	return &diagnose.Snapshot{
		APIVersion: diagnose.APIVersion, Kind: diagnose.SnapshotKind, Targets: []diagnose.Key{key}, Depth: collect.DepthProbe,
		Services: diagnose.Know([]diagnose.Service{svc}),
		Slices: diagnose.Know([]diagnose.Slice{{Key: diagnose.Key{Namespace: "default", Name: "square-1"}, Service: "square", AddressType: "IPv4",
			Ports: []diagnose.SlicePort{{Name: "grpc", Port: 6565, Protocol: "TCP"}}, Endpoints: []diagnose.SliceEndpoint{end("a", "10.1.0.1"), end("b", "10.1.0.2")}}}),
	}
}

func headlessService(s *diagnose.Service) { s.ClusterIPs = []string{"None"} }
func asItIs(*diagnose.Service)            {}

// TestWaysNotTried: a way of dialling that the Service does not have is named, and the run ends when there is no other.
func TestWaysNotTried(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*diagnose.Service)
		via    []string
		must   bool
		says   string // on standard error and in the report
		err    string
	}{
		"all there":         {asItIs, []string{"clusterip", "pods"}, true, "", ""},
		"default":           {asItIs, nil, true, "", ""},
		"no twin":           {asItIs, []string{"clusterip", "headless"}, true, "via headless: not tried: svc/square has no headless Service beside it", ""},
		"no twin, only way": {asItIs, []string{"headless"}, true, "", "nothing to dial via headless: svc/square has no headless Service"},
		"no twin, diagnose": {asItIs, []string{"headless"}, false, "via headless: not tried:", ""},
		"no cluster IP":     {headlessService, []string{"clusterip", "headless"}, true, "via clusterip: not tried: svc/square is headless", ""},
		"an alias": {func(s *diagnose.Service) { s.Type, s.ExternalName, s.ClusterIPs = "ExternalName", "example.com", nil }, nil, true, "",
			"nothing to dial: svc/square only renames example.com"},
		"no cluster IP, only way": {headlessService, []string{"clusterip"}, true, "", "svc/square is headless"},
	} {
		t.Run(name, func(t *testing.T) {
			var errs bytes.Buffer
			snap := squares(tc.change)
			p := &preflight{app: &app{Streams: Streams{Err: &errs}}, via: tc.via, must: tc.must}
			err := p.stage(context.Background(), nil, snap)
			if tc.err != "" {
				var f *failure
				if !errors.As(err, &f) || f.code != ExitCouldNot || f.hint == "" || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with a hint that says %q", err, tc.err)
				}
				return
			}
			if err != nil || !strings.Contains(errs.String(), tc.says) || tc.says == "" && errs.Len() > 0 {
				t.Errorf("error %v, on standard error %q, want %q", err, errs.String(), tc.says)
			}
			snap.Probes = diagnose.Know([]diagnose.ProbeRun{})
			p.note(snap)
			told := ""
			for _, s := range diagnose.Run(snap, diagnose.Options{}).Services[0].Spread.Probes {
				told += "via " + s.Via + ": " + s.Error + "\n"
				if len(s.Rows) > 0 || s.From != "" {
					t.Errorf("a way that was not tried has pods or a caller: %+v", s)
				}
			}
			if !strings.Contains(told, tc.says) || tc.says == "" && told != "" {
				t.Errorf("the report says %q, want %q", told, tc.says)
			}
		})
	}
}

// TestStoppedSaysSo: what a run that was cut short did not come to is no matter of its depth.
func TestStoppedSaysSo(t *testing.T) {
	at := func(depth string) *diagnose.Snapshot {
		s := squares(asItIs)
		s.Depth = depth
		s.DNS.Status = diagnose.Status{Reason: "a quarter of --max-pods is for DNS pods, and that is none"} // what its stage said
		s.Ports.Status = diagnose.Status{Reason: "ports are not asked at depth " + depth}
		s.Sockets.Status = diagnose.Status{Reason: "sockets are not read at depth " + depth}
		s.Probes.Status = diagnose.Status{Reason: "no probe calls are made at depth " + depth}
		return s
	}
	everything := []diagnose.FactName{diagnose.FactDNS, diagnose.FactPorts, diagnose.FactSockets, diagnose.FactProbes}
	timeout := &collect.StoppedError{After: 11990 * time.Millisecond, Timeout: true, Err: context.DeadlineExceeded}
	interrupt := &collect.StoppedError{After: time.Second, Err: context.Canceled}

	s := at(collect.DepthProbe)
	err := gatherOptions{timeout: 12 * time.Second, asks: everything}.stopped(s, timeout)
	var kept *collect.StoppedError
	if err.Error() != "time was up after 12s" || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &kept) || !kept.Timeout {
		t.Errorf("got %q, want the limit that was asked for", err)
	}
	for _, f := range everything[1:] {
		if st := s.Status(f); st.State != diagnose.Failed || !strings.HasPrefix(st.Reason, "time was up") {
			t.Errorf("%s: %+v", f, st)
		}
	}
	if s.DNS.State != diagnose.NotAsked || !strings.Contains(s.DNS.Reason, "--max-pods") {
		t.Errorf("what a stage said is lost: %+v", s.DNS.Status)
	}

	s = at(collect.DepthObserve)
	if err := (gatherOptions{timeout: time.Minute, asks: everything[:2]}).stopped(s, interrupt); err.Error() != "interrupted" {
		t.Errorf("got %q", err)
	}
	if !strings.HasPrefix(s.Ports.Reason, "interrupted") || s.Sockets.State != diagnose.NotAsked {
		t.Errorf("ports %+v, sockets %+v", s.Ports.Status, s.Sockets.Status)
	}

	s = at(collect.DepthProbe)
	if err := (gatherOptions{asks: everything}).stopped(s, nil); err != nil || s.Ports.State != diagnose.NotAsked {
		t.Errorf("a run that was not stopped: %v, %+v", err, s.Ports.Status)
	}
}
