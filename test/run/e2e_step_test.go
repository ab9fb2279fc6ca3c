package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeLab stands for test/lab: it keeps its state in a file and writes down
// what it was asked.
const fakeLab = `// Command lab pretends.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	state, _ := os.ReadFile("state")
	calls, _ := os.ReadFile("calls")
	_ = os.WriteFile("calls", append(calls, strings.Join(os.Args[1:], " ")+"\n"...), 0o644)
	switch os.Args[1] {
	case "status":
		fmt.Printf("{\"state\": %q}\n", state)
	default:
		_ = os.WriteFile("state", []byte(os.Args[1]), 0o644)
	}
}
`

const fakeE2E = `//go:build e2e

package e2e

import (
	"os"
	"testing"
)

func TestOnTheLab(t *testing.T) {
	state, _ := os.ReadFile("../lab/state")
	if string(state) != "up" && os.Getenv("CONTEXT") == "" {
		t.Fatalf("state %q, no context", state)
	}
	if os.Getenv("FAKE_FAIL") != "" {
		t.Fatal("asked to fail")
	}
}
`

func TestEndToEndStepLeavesTheMachineAsItWas(t *testing.T) {
	tests := map[string]struct {
		suite   suite
		before  string
		fail    bool
		calls   string
		wantErr string
	}{
		"a lab of its own is taken down": {
			before: "down", calls: "status -o json\nup\ndown\n",
		},
		"even when the tests fail": {
			before: "down", fail: true, calls: "status -o json\nup\ndown\n", wantErr: "go test",
		},
		"a lab that was half up counts as its own": {
			before: "partial", calls: "status -o json\nup\ndown\n",
		},
		"somebody else's lab stays": {
			before: "up", calls: "status -o json\nup\n",
		},
		"kept on request": {
			suite: suite{keep: true}, before: "down", calls: "status -o json\nup\n",
		},
		"a named context needs no lab": {
			suite: suite{kubeContext: "kind"}, before: "down",
		},
		"no lab on this machine": {
			suite: suite{noLab: func() string { return "needs root" }}, before: "down", wantErr: "needs root",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{
				"go.mod":               "module example.com/m\n\ngo 1.26\n",
				"test/lab/go.mod":      "module example.com/lab\n\ngo 1.26\n",
				"test/lab/main.go":     fakeLab,
				"test/lab/state":       tt.before,
				"test/e2e/e2e_test.go": fakeE2E,
			})
			if tt.fail {
				t.Setenv("FAKE_FAIL", "1")
			}
			t.Setenv("CONTEXT", "")
			tt.suite.root = dir
			if tt.suite.noLab == nil {
				tt.suite.noLab = func() string { return "" }
			}
			var out bytes.Buffer
			err := tt.suite.e2e(t.Context(), &out)
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q; output:\n%s", err, tt.wantErr, out.String())
			}
			calls, err := os.ReadFile(filepath.Join(dir, "test", "lab", "calls"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.calls, string(calls)); diff != "" {
				t.Errorf("the lab was asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLabDownSurvivesAnInterrupt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"test/lab/go.mod":  "module example.com/lab\n\ngo 1.26\n",
		"test/lab/main.go": fakeLab,
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (suite{root: dir}).labDown(ctx, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if state, err := os.ReadFile(filepath.Join(dir, "test", "lab", "state")); err != nil || string(state) != "down" {
		t.Errorf("state %q, %v", state, err)
	}
}
