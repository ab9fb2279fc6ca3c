package api

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/pki"
)

// serve runs an API server that answers paths with fixed texts, and returns a
// client for it. Requests that are not GET are handed to changed.
func serve(t *testing.T, answers map[string]string, changed func(path, body string)) *Client {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			changed(r.Method+" "+r.URL.Path, string(b))
			return
		}
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	dir := filepath.Join(t.TempDir(), "pki")
	a, err := pki.NewAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Issue("admin", pki.Subject{CommonName: "admin"}); err != nil {
		t.Fatal(err)
	}
	// The server has a certificate of its own making.
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(a.CertFile(), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(srv.Listener.Addr().String(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestNodes(t *testing.T) {
	c := serve(t, map[string]string{"/api/v1/nodes": `{"items": [
		{"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}}, "spec": {"podCIDR": "10.244.1.0/24"},
		 "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T03:04:05Z"}]}},
		{"metadata": {"name": "n2"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
		{"metadata": {"name": "n3"}}]}`}, nil)
	got, err := c.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Node{
		{Name: "n1", Zone: "a", Ready: true, PodCIDR: "10.244.1.0/24", Heartbeat: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{Name: "n2"}, {Name: "n3"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDeployment(t *testing.T) {
	const path = "/apis/apps/v1/namespaces/kube-system/deployments/"
	c := serve(t, map[string]string{
		path + "whole": `{"spec": {"replicas": 2}, "status": {"readyReplicas": 2}}`,
		path + "part":  `{"spec": {"replicas": 2}, "status": {"readyReplicas": 1}}`,
		path + "fresh": `{"spec": {"replicas": 2}}`,
	}, nil)
	for name, want := range map[string]struct {
		d        Deployment
		complete bool
	}{
		"whole": {Deployment{2, 2}, true}, "part": {Deployment{2, 1}, false},
		"fresh": {Deployment{2, 0}, false}, "not there": {Deployment{}, false},
	} {
		got, err := c.Deployment(t.Context(), "kube-system", name)
		if err != nil || got != want.d || got.Complete() != want.complete {
			t.Errorf("%s: %+v complete %v, %v", name, got, got.Complete(), err)
		}
	}
}

func TestMetricsAvailable(t *testing.T) {
	const path = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
	for answer, want := range map[string]bool{
		`{"status": {"conditions": [{"type": "Available", "status": "True"}]}}`:  true,
		`{"status": {"conditions": [{"type": "Available", "status": "False"}]}}`: false,
		`{}`: false,
	} {
		if got, err := serve(t, map[string]string{path: answer}, nil).MetricsAvailable(t.Context()); err != nil || got != want {
			t.Errorf("%s: %v, %v", answer, got, err)
		}
	}
	if got, err := serve(t, nil, nil).MetricsAvailable(t.Context()); err != nil || got {
		t.Errorf("not registered: %v, %v", got, err)
	}
}

func TestSetPodCIDR(t *testing.T) {
	var what, patch string
	c := serve(t, nil, func(path, body string) { what, patch = path, body })
	if err := c.SetPodCIDR(t.Context(), "n1", "10.244.1.0/24"); err != nil {
		t.Fatal(err)
	}
	if what != "PATCH /api/v1/nodes/n1" {
		t.Error(what)
	}
	var got struct {
		Spec struct {
			PodCIDR  string
			PodCIDRs []string
		}
	}
	if err := json.Unmarshal([]byte(patch), &got); err != nil || got.Spec.PodCIDR != "10.244.1.0/24" || len(got.Spec.PodCIDRs) != 1 {
		t.Errorf("%s, %v", patch, err)
	}
}

func TestErrors(t *testing.T) {
	c := serve(t, map[string]string{"/api/v1/nodes": "<html>"}, nil)
	var status *StatusError
	if err := c.Ready(t.Context()); !errors.As(err, &status) || status.Code != http.StatusNotFound {
		t.Errorf("error %v", err)
	}
	if _, err := c.Nodes(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "/api/v1/nodes: ") {
		t.Errorf("an answer that is not JSON: error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := New("127.0.0.1:1", t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without keys: error %v", err)
	}
}
