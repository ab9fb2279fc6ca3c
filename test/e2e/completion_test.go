//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/test/e2e/testbed"
)

// TestCompletionThroughKubectl: what a shell asks of kubectl at the press of TAB is answered by the plugin, once `completion install` has
// written the executable that kubectl looks for.
func TestCompletionThroughKubectl(t *testing.T) {
	s := newSpace(t)
	s.apply(service("backend"), service("backend-headless", headless, selecting("app", "backend")), server("caller"))
	dir := t.TempDir()
	bed := *s.bed
	bed.Path = append([]string{dir}, s.bed.Path...)

	// Whoever works on a test may have it installed beside the plugin.
	installed := slices.ContainsFunc(append(filepath.SplitList(os.Getenv("PATH")), bed.Path...), func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "kubectl_complete-grpclb"))
		return err == nil
	})
	if got := s.complete(bed, "diagnose", "svc/"); !installed && slices.Contains(got, "svc/backend") {
		t.Fatalf("kubectl completes already: %q", got)
	}
	install := bed.Command(s.ctx, s.plugin, "completion", "install", "--dir", dir)
	if o := s.finish(install, install.Args[1:]); o.code != 0 || !strings.Contains(o.stdout, "wrote "+filepath.Join(dir, "kubectl_complete-grpclb")) {
		t.Fatalf("%s", o)
	}

	for _, tt := range []struct {
		typed []string
		want  []string
		never string
	}{
		{[]string{"diagnose", "svc/"}, []string{"svc/backend", "svc/backend-headless"}, "svc/kube-dns"},
		{[]string{"diagnose", "svc", ""}, []string{"backend", "backend-headless"}, "svc/"},
		{[]string{"fix", "svc/backend-"}, []string{"svc/backend-headless"}, ""},
		{[]string{"diagnose", "svc/", "-n", "kube-system", "svc/"}, []string{"svc/kube-dns"}, "backend"},
		{[]string{"probe", "svc/backend", "--from", "deploy/"}, []string{"deploy/caller"}, ""},
		{[]string{"diagnose", "svc/backend", "--client", s.ns + "/deploy/c"}, []string{s.ns + "/deploy/caller"}, ""},
		{[]string{"diagnose", "-n", s.ns[:len(s.ns)-1]}, []string{s.ns}, ""},
		{[]string{"explain", "clusterip-"}, []string{"clusterip-pinned"}, ""},
		{[]string{"diagnose", "svc/backend", "--fail-on", ""}, []string{"critical", "low"}, ""},
		{[]string{"diag"}, []string{"diagnose"}, "svc"},
	} {
		var got []string
		// On a busy machine the cluster answers later than a person waits for: TAB once more.
		s.eventually(fmt.Sprintf("%q to complete to %q", tt.typed, tt.want), startTime, func() (bool, string) {
			got = s.complete(bed, tt.typed...)
			missing := slices.ContainsFunc(tt.want, func(w string) bool { return !slices.Contains(got, w) })
			return !missing, fmt.Sprintf("%q", got)
		})
		if tt.never != "" && slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, tt.never) }) {
			t.Errorf("%q completes to %q, with %s", tt.typed, got, tt.never)
		}
	}

	none := filepath.Join(t.TempDir(), "kubeconfig")
	down := s.kubeconfig("https://127.0.0.1:1", "x")
	for _, file := range []string{none, down} {
		bed.Kubeconfig = file
		if got := s.complete(bed, "diagnose", "svc/"); len(got) > 0 {
			t.Errorf("without a cluster it completes to %q", got)
		}
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("completion made a kubeconfig")
	}
}

// complete asks kubectl what continues a line, as the script of its own completion does, and returns the words without their descriptions.
// The namespace is the space's unless the line names another.
func (s *space) complete(bed testbed.Bed, typed ...string) []string {
	s.Helper()
	line := []string{"__complete", "grpclb"}
	if !slices.Contains(typed, "-n") {
		line = append(line, "-n", s.ns)
	}
	if bed.Context != "" {
		line = append(line, "--context", bed.Context)
	}
	cmd := bed.Command(s.ctx, append(append([]string{"kubectl"}, line...), typed...)...)
	o := s.finish(cmd, typed)
	if o.code != 0 {
		s.Fatalf("%s", o)
	}
	var out []string
	for l := range strings.Lines(o.stdout) {
		if word, _, _ := strings.Cut(strings.TrimSpace(l), "\t"); word != "" && !strings.HasPrefix(word, ":") {
			out = append(out, word)
		}
	}
	return out
}
