package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInjectRoleInGuide: the Role that the guide shows for --apply is the one that --rbac prints.
func TestInjectRoleInGuide(t *testing.T) {
	var b bytes.Buffer
	if err := writeRBAC(&b, "default", "kube-system"); err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "inject.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for doc := range strings.SplitSeq(b.String(), "---\n") {
		if strings.Contains(doc, "name: "+applyRole+"\n") {
			n++
			role := doc[strings.Index(doc, "apiVersion:"):]
			if !strings.Contains(string(guide), "```yaml\n"+role+"---\n") {
				t.Errorf("docs/inject.md does not show:\n%s", role)
			}
		}
	}
	if n != 1 {
		t.Errorf("--rbac prints %d roles of the name %s", n, applyRole)
	}
}
