//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/test/docs"
)

// TestDocuments types what the documents tell a reader to type, page by page,
// and compares what they show. How a block is marked is said in test/docs.
//
// Each page has a namespace with the square example in it, its client busy; the
// pages of the examples deploy for themselves. The pages take turns
// because port-forwards need the ports that are written there.
func TestDocuments(t *testing.T) {
	if stand == nil {
		t.Skip(why)
	}
	ran := 0
	for _, page := range documents(t) {
		if !runs(page) {
			continue
		}
		ran++
		t.Run(page.Name, func(t *testing.T) {
			s := newSoloSpace(t)
			if !strings.HasPrefix(page.Name, "examples/") {
				s.applyDir("examples/square/plaintext")
				s.kubectl("set", "env", "deploy/aggregator-app", busy)
				s.rollout("square-app", "aggregator-app")
				s.settled()
				s.metered("square-app")
			}
			session := docs.Session{
				Command:   s.reader(t),
				Namespace: s.ns,
				Report:    func(b docs.Block, err error) { t.Errorf("%s: %v", b, err) },
			}
			session.Run(s.ctx, page, docs.Lab)
		})
	}
	if ran == 0 {
		t.Error("no document has a block to run on a cluster: the search for them is broken")
	}
}

// TestDocumentedObjects: the API server takes every object of Kubernetes that a
// document shows.
func TestDocumentedObjects(t *testing.T) {
	s := newSpace(t)
	n := 0
	for _, page := range documents(t) {
		for _, b := range page.Blocks {
			values, err := docs.Documents(b)
			if b.Class != docs.Data || err != nil || len(values) == 0 || !docs.IsObject(values[0]) || !docs.HasBlocks(page.Name) {
				continue
			}
			if version, _ := values[0]["apiVersion"].(string); strings.HasPrefix(version, "grpclb.dev/") {
				continue // a file of the project's own, which no API server knows
			}
			n++
			// The namespace of a document's object need not exist: a dry run in this one asks the same questions.
			text := strings.ReplaceAll(b.Text, "namespace: default", "namespace: "+s.ns)
			cmd := s.bed.Command(s.ctx, s.bed.Kubectl("apply", "--dry-run=server", "-n", s.ns, "-f", "-")...)
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: the API server does not take this: %v\n%s", b, err, out)
			}
		}
	}
	t.Logf("%d blocks with objects", n)
}

// busy makes traffic to measure, and too little CPU for a verdict by that alone.
const busy = "GRPC_CLIENT_SQUARE_LOAD=60"

func documents(t *testing.T) []*docs.Page {
	t.Helper()
	root := stand.bed.Root
	names, err := docs.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := docs.Read(root, names...)
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func runs(page *docs.Page) bool {
	for _, b := range page.Blocks {
		if b.Class == docs.Lab && docs.HasBlocks(page.Name) {
			return true
		}
	}
	return false
}

// reader makes commands that run as a reader's do: at a desk with the
// repository's files, the plugin on the PATH, and the space's namespace as the
// kubeconfig's own.
func (s *space) reader(t *testing.T) func(ctx context.Context, argv ...string) *exec.Cmd {
	t.Helper()
	desk, config := t.TempDir(), filepath.Join(t.TempDir(), "kubeconfig")
	if err := docs.Desk(s.bed.Root, desk); err != nil {
		t.Fatal(err)
	}
	view := s.bed.Command(s.ctx, s.bed.Kubectl("config", "view", "--raw", "--flatten", "--minify")...)
	text, err := view.Output()
	if err != nil {
		t.Fatalf("kubectl config view: %v", err)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(ctx context.Context, argv ...string) *exec.Cmd {
		cmd := s.bed.Command(ctx, argv...)
		cmd.Dir = desk
		cmd.Env = append(cmd.Env, "PWD="+desk, "KUBECONFIG="+config, "COLUMNS=130", "LC_ALL=C.UTF-8")
		return cmd
	}
	if out, err := command(s.ctx, "kubectl", "config", "set-context", "--current", "--namespace", s.ns).CombinedOutput(); err != nil {
		t.Fatalf("kubectl config set-context: %v\n%s", err, out)
	}
	return command
}

// metered waits until the cluster's metrics have every pod of the app, which
// then is in what is printed; where nothing measures, it does not wait.
func (s *space) metered(app string) {
	s.Helper()
	want := len(s.pods(app))
	s.eventually("metrics of "+app, startTime, func() (bool, string) {
		cmd := s.bed.Command(s.ctx, s.bed.Kubectl("top", "pods", "--no-headers", "-l", "app="+app, "-n", s.ns)...)
		out, err := cmd.CombinedOutput()
		if bytes.Contains(out, []byte("Metrics API not available")) {
			return true, ""
		}
		return err == nil && bytes.Count(out, []byte("\n")) >= want, string(out)
	})
}
