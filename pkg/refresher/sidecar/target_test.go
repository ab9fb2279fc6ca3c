package sidecar

import (
	"errors"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]endpoint.Target{
		"a.b:1":                        {Host: "a.b", Port: 1},
		"dns:///a.b.:grpc":             {Host: "a.b", Absolute: true, PortName: "grpc"},
		"dns://127.0.0.1:5353/a.b:1":   {Server: "127.0.0.1:5353", Host: "a.b", Port: 1},
		"dns://[fd00::a]/[fd00::7]:1":  {Server: "[fd00::a]:53", Host: "fd00::7", Port: 1},
		"dns://kube-dns/square.a:6565": {Server: "kube-dns:53", Host: "square.a", Port: 6565},
	} {
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                "it names nothing: write NAME.NAMESPACE:PORT",
		"a.b":             `it has no port`,
		"dns://a.b:1":     "dns://SERVER/NAME:PORT",
		"static:///a.b:1": "it is written without static://: a.b:1",
		"dns://x:y/a.b:1": "its port is a number",
		"dns:///a/b:1":    "without a path",
	} {
		if _, err := ParseTarget(text); !errors.Is(err, endpoint.ErrTarget) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
