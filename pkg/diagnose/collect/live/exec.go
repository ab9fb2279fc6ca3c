package live

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/agent/procnet"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// maxProc bounds what is taken of a socket table: 150 bytes a line, 50,000 connections.
const maxProc = 8 << 20

// execCat prints both socket tables of a pod's network namespace with the cat of its first container. Images without cat are usual
// and give an error like any other.
func execCat(ctx context.Context, s *collect.Session, pod diagnose.Key) ([]byte, error) {
	p, err := getPod(ctx, s, pod)
	if err != nil {
		return nil, err
	}
	if len(p.Spec.Containers) == 0 {
		return nil, errors.New("the pod has no container")
	}
	req := s.REST().Post().AbsPath(podPath(pod, "exec")...)
	for k, v := range map[string]string{"container": mainContainer(p), "stdout": "true", "stderr": "true"} {
		req = req.Param(k, v)
	}
	for _, word := range []string{"cat", "/proc/net/tcp", "/proc/net/tcp6"} {
		req = req.Param("command", word)
	}
	cfg := s.RESTConfig()
	ws, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, req.URL().String())
	if err != nil {
		return nil, err
	}
	old, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, req.URL())
	if err != nil {
		return nil, err
	}
	ex, err := remotecommand.NewFallbackExecutor(ws, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.CallTimeout())
	defer cancel()
	var out limitedBuffer
	if err := ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &limitedBuffer{}}); err != nil {
		// A pod without IPv6 has no tcp6: cat then fails after it printed the first table.
		if out.Len() == 0 {
			return nil, fmt.Errorf("exec cat in pod %s: %w", pod, err)
		}
	}
	return out.Bytes(), nil
}

// mainContainer is the one that kubectl would take: the annotation's choice, else the first.
func mainContainer(p *corev1.Pod) string {
	if n := p.Annotations["kubectl.kubernetes.io/default-container"]; n != "" {
		return n
	}
	return p.Spec.Containers[0].Name
}

// parseProc reads the tables in the byte order of amd64 and arm64 nodes. On a big-endian node (s390x) the addresses would be nobody's,
// and the sockets show as coming from outside.
func parseProc(b []byte) ([]agentapi.Socket, error) {
	return procnet.Parse(bytes.NewReader(b), binary.LittleEndian)
}

// limitedBuffer keeps the first maxProc bytes and drops the rest.
type limitedBuffer struct{ bytes.Buffer }

// Write implements io.Writer; it never fails, so that the other side is not cut off.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxProc - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
