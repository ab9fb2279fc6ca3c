//go:build release

package release_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

func workflows(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.FromSlash("../../.github/workflows/*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	return files
}

// TestWorkflowsAreValid has actionlint check syntax, expressions, permissions and the calls between workflows.
func TestWorkflowsAreValid(t *testing.T) {
	argv := append([]string{"tool", "-modfile=../../tools/actionlint/go.mod", "actionlint"}, workflows(t)...)
	if out, err := exec.CommandContext(t.Context(), "go", argv...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// An action that sees a token which may write must not change under us: a tag can be moved, a hash cannot.
func TestActionsWithPowersArePinned(t *testing.T) {
	uses := regexp.MustCompile(`(?m)^\s*(?:- )?uses: +(\S+)(.*)$`)
	pinned := regexp.MustCompile(`^\S+@[0-9a-f]{40}$`)
	comment := regexp.MustCompile(`^ # v\d+\.\d+\.\d+$`)
	exempt := map[string]string{
		"rajatjindal/krew-release-bot": "is given a token that can only read, in a job of its own",
	}
	found := 0
	for _, file := range workflows(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range uses.FindAllStringSubmatch(string(text), -1) {
			action, rest := m[1], m[2]
			if action[0] == '.' {
				continue // a workflow of ours
			}
			found++
			name := regexp.MustCompile(`@.*`).ReplaceAllString(action, "")
			if _, ok := exempt[name]; ok {
				continue
			}
			if !pinned.MatchString(action) || !comment.MatchString(rest) {
				t.Errorf("%s: %s%s, want a full hash and its version in a comment", file, action, rest)
			}
		}
	}
	if found == 0 {
		t.Error("no action found: the search for them is broken")
	}
}
