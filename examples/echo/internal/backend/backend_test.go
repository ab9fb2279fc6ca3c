package backend_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/examples/echo/internal/backend"
	echopb "github.com/grpclb/kubectl-grpclb/examples/echo/proto"
	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
)

func TestSayHello(t *testing.T) {
	for name, want := range map[string]string{"fe": "hello fe, pod-a speaking", "": "hello stranger, pod-a speaking"} {
		reply, err := backend.Server{Host: "pod-a"}.SayHello(t.Context(), &echopb.EchoRequest{Name: name})
		if err != nil || reply.GetMessage() != want || reply.GetHost() != "pod-a" {
			t.Errorf("hello to %q: %v, %v; want %q from pod-a", name, reply, err, want)
		}
	}
}

func TestRunRefusesBadSettings(t *testing.T) {
	run := func(vars map[string]string) error {
		return backend.Run(t.Context(), app.Env{Getenv: func(name string) string { return vars[name] }, Stderr: &bytes.Buffer{}})
	}
	var usage *app.UsageError
	if err := run(map[string]string{backend.EnvPort: "70000"}); !errors.As(err, &usage) {
		t.Errorf("a bad port: %v, want a usage error", err)
	}
	if err := run(map[string]string{backend.EnvCert: "/nonexistent/tls.crt"}); err == nil || !strings.Contains(err.Error(), backend.EnvKey) {
		t.Errorf("a certificate without a key: %v, want an error that names %s", err, backend.EnvKey)
	}
}
