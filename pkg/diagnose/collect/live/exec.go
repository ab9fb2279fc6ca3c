package live

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/remotecommand"
	spdytransport "k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/internal/agent/procnet"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

const (
	maxProc   = 8 << 20 // of a socket table: 150 bytes a line, 50,000 connections
	maxStderr = 4 << 10
)

var errTooMuch = errors.New("the socket table is too long to read")

// execCat prints both socket tables of a pod's network namespace with the cat of one of its containers.
func execCat(ctx context.Context, s *collect.Session, p *corev1.Pod) ([]byte, error) {
	pod := diagnose.Key{Namespace: p.Namespace, Name: p.Name}
	req := s.REST().Post().AbsPath(podPath(pod, "exec")...)
	for k, v := range map[string]string{"container": mainContainer(p), "stdout": "true", "stderr": "true"} {
		req = req.Param(k, v)
	}
	for _, word := range []string{"cat", "/proc/net/tcp", "/proc/net/tcp6"} {
		req = req.Param("command", word)
	}
	ctx, cancel := context.WithTimeout(quiet(ctx), s.CallTimeout())
	defer cancel()
	ctx, release := abortable(ctx)
	defer release()
	ws, err := remotecommand.NewWebSocketExecutor(s.RESTConfig(), http.MethodGet, req.URL().String())
	if err != nil {
		return nil, err
	}
	up, rt, err := newUpgrader(s.RESTConfig())
	if err != nil {
		return nil, err
	}
	old, err := remotecommand.NewSPDYExecutorForTransports(rt, spdytransport.NewUpgraderForStreaming(up), http.MethodPost, req.URL())
	if err != nil {
		return nil, err
	}
	ex, err := remotecommand.NewFallbackExecutor(ws, old, worthSPDY)
	if err != nil {
		return nil, err
	}
	out, complaint := &limitedBuffer{max: maxProc}, &limitedBuffer{max: maxStderr}
	err = ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: out, Stderr: complaint})
	switch {
	case ended(ctx, err) != nil: // also when the stream does not say so: half a table must not pass for a whole one
		return nil, ended(ctx, err)
	case out.cut:
		return nil, errTooMuch
	case err != nil && !(exited(err) && out.Len() > 0): // without IPv6 there is no tcp6, and cat fails after it printed the first table
		return nil, err
	}
	return out.Bytes(), nil
}

// exited tells the exit status of a program that ran from everything that kept it from running or cut it off.
func exited(err error) bool {
	var code utilexec.CodeExitError
	return errors.As(err, &code)
}

// noCat words why exec gave no table, for a reader who is about to hear that ephemeral containers are refused as well.
func noCat(err error) string {
	text := strings.ToLower(err.Error())
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		return "its image has no cat"
	case strings.Contains(text, "forbidden"):
		return "exec is not allowed either"
	case errors.Is(err, context.DeadlineExceeded):
		return "exec did not answer in time"
	case errors.Is(err, errTooMuch):
		return errTooMuch.Error()
	}
	return "exec failed as well"
}

// mainContainer is the one that kubectl would take: the annotation's choice, else the first.
func mainContainer(p *corev1.Pod) string {
	n := p.Annotations["kubectl.kubernetes.io/default-container"]
	if slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == n }) {
		return n
	}
	if len(p.Spec.Containers) == 0 {
		return ""
	}
	return p.Spec.Containers[0].Name
}

// parseProc reads the tables in the byte order of amd64 and arm64 nodes. On a big-endian node (s390x) the addresses would be nobody's,
// and the sockets show as coming from outside.
func parseProc(b []byte) ([]agentapi.Socket, error) {
	return procnet.Parse(bytes.NewReader(b), binary.LittleEndian)
}

// limitedBuffer keeps the first max bytes and drops the rest.
type limitedBuffer struct {
	bytes.Buffer
	max int
	cut bool
}

// Write implements io.Writer; it never fails, so that the other side is not cut off.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	room := b.max - b.Len()
	b.cut = b.cut || len(p) > room
	b.Buffer.Write(p[:min(max(room, 0), len(p))])
	return len(p), nil
}

var _ httpstream.UpgradeRoundTripper = (*upgrader)(nil)
