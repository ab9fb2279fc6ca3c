package snapfile_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// crowd is a snapshot of a Service with so many pods, on a hundred nodes.
func crowd(pods int) *diagnose.Snapshot {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	key := diagnose.Key{Namespace: "shop", Name: "backend"}
	s := &diagnose.Snapshot{
		APIVersion: diagnose.APIVersion, Kind: diagnose.SnapshotKind, TakenAt: at, Targets: []diagnose.Key{key}, Depth: "static",
		Services: diagnose.Know([]diagnose.Service{{Key: key, ClusterIPs: []string{"10.96.0.7"}, Selector: map[string]string{"app": "backend"}}}),
	}
	const perSlice = 100
	var slices []diagnose.Slice
	for i := range pods {
		p := diagnose.Pod{
			Key: diagnose.Key{Namespace: "shop", Name: fmt.Sprintf("backend-5d9c8f7b6-%05d", i)}, UID: fmt.Sprintf("uid-%d", i), Created: at,
			Owner: diagnose.Owner{Kind: "Deployment", Name: "backend"}, Node: fmt.Sprintf("node-%02d", i%100), Labels: map[string]string{"app": "backend"},
			IPs: []string{fmt.Sprintf("10.%d.%d.%d", 1+i/65536, i/256%256, i%256)}, Phase: "Running", Ready: true, ReadySince: at,
			Containers: []diagnose.Container{{Name: "app", Ports: []diagnose.ContainerPort{{Name: "grpc", Port: 50051, Protocol: "TCP"}}}},
		}
		s.Pods.Value = append(s.Pods.Value, p)
		if i%perSlice == 0 {
			slices = append(slices, diagnose.Slice{
				Key: diagnose.Key{Namespace: "shop", Name: fmt.Sprintf("backend-%03d", i/perSlice)}, Service: "backend", AddressType: "IPv4",
				Ports: []diagnose.SlicePort{{Name: "grpc", Port: 50051, Protocol: "TCP"}},
			})
		}
		last := &slices[len(slices)-1]
		last.Endpoints = append(last.Endpoints, diagnose.SliceEndpoint{Addresses: p.IPs, Ready: true, Serving: true, Node: p.Node, Zone: "a", Pod: p.Key})
	}
	s.Pods.State = diagnose.Known
	s.Slices = diagnose.Know(slices)
	return s
}

func BenchmarkSave(b *testing.B) {
	s := crowd(1000)
	b.ReportAllocs()
	for b.Loop() {
		if err := snapfile.Save(io.Discard, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	var file bytes.Buffer
	if err := snapfile.Save(&file, crowd(1000)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(file.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snapfile.Load(bytes.NewReader(file.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
}
