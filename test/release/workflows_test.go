//go:build release

package release_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestWorkflowsAreValid has actionlint check syntax, expressions, permissions and the calls between workflows. That actions are named by
// their commits is a law of the repository.
func TestWorkflowsAreValid(t *testing.T) {
	files, err := filepath.Glob(filepath.FromSlash("../../.github/workflows/*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	argv := append([]string{"tool", "-modfile=../../tools/actionlint/go.mod", "actionlint"}, files...)
	if out, err := exec.CommandContext(t.Context(), "go", argv...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
