package micro

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/kubetest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// serve starts an API server with the square example, with as many pods as endpoints.
func serve(b *testing.B, endpoints int) *collect.Session {
	b.Helper()
	server := kubetest.Deployment("default", "square-app").Replicas(int32(endpoints))
	svc := kubetest.Service("default", "square-service").Port("grpc", 6565, intstr.FromInt32(6565)).Selects("app", "square-app")
	client := kubetest.Deployment("default", "aggregator-app").Env("GRPC_CLIENT_SQUARE_ADDRESS", "static://square-service:6565")
	objs := []runtime.Object{server, svc, client, kubetest.Node("n1"), kubetest.Node("n2").Zone("b")}
	for i, chunk := range slices.Collect(slices.Chunk(server.Pods(), 100)) {
		s := svc.Slice(chunk...)
		s.Name = fmt.Sprintf("square-service-%d", i)
		objs = append(objs, s)
	}
	s, err := collect.NewSession(kubetest.NewTLSServer(b, objs...).Config(), collect.SessionOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return s
}

func take(b *testing.B, s *collect.Session) *diagnose.Snapshot {
	b.Helper()
	snap, err := collect.Run(b.Context(), s, collect.Options{Namespace: "default", Names: []string{"square-service"}})
	if err != nil {
		b.Fatal(err)
	}
	return snap
}

var endpointCounts = []int{3, 1000}

// BenchmarkCollect reads a cluster over HTTP; the server's work is in the numbers.
func BenchmarkCollect(b *testing.B) {
	for _, n := range endpointCounts {
		b.Run(fmt.Sprintf("endpoints=%d/impl=ours", n), func(b *testing.B) {
			s := serve(b, n)
			for b.Loop() {
				take(b, s)
			}
		})
	}
}

// BenchmarkRun judges a snapshot with every check.
func BenchmarkRun(b *testing.B) {
	for _, n := range endpointCounts {
		b.Run(fmt.Sprintf("endpoints=%d/impl=ours", n), func(b *testing.B) {
			snap := take(b, serve(b, n))
			opt := diagnose.Options{Checks: checks.All()}
			for b.Loop() {
				if r := diagnose.Run(snap, opt); len(r.Services) != 1 {
					b.Fatalf("%d services judged", len(r.Services))
				}
			}
		})
	}
}

func BenchmarkSave(b *testing.B) {
	snap := take(b, serve(b, 1000))
	b.Run("endpoints=1000/impl=ours", func(b *testing.B) {
		var out bytes.Buffer
		for b.Loop() {
			out.Reset()
			if err := snapfile.Save(&out, snap); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(out.Len()), "file-B")
	})
	b.Run("endpoints=1000/impl=peer", func(b *testing.B) {
		var out bytes.Buffer
		for b.Loop() {
			out.Reset()
			if err := json.NewEncoder(&out).Encode(snap); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(out.Len()), "file-B")
	})
}

func BenchmarkLoad(b *testing.B) {
	snap := take(b, serve(b, 1000))
	b.Run("endpoints=1000/impl=ours", func(b *testing.B) {
		var file bytes.Buffer
		if err := snapfile.Save(&file, snap); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := snapfile.Load(bytes.NewReader(file.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("endpoints=1000/impl=peer", func(b *testing.B) {
		file, err := json.Marshal(snap)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			var s diagnose.Snapshot
			if err := json.Unmarshal(file, &s); err != nil {
				b.Fatal(err)
			}
		}
	})
}
