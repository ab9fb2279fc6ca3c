package krew_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/release/krew"
)

func TestOpen(t *testing.T) {
	tests := map[string]struct {
		files   []string
		want    string
		wantErr string
	}{
		"a snapshot": {
			files: []string{"checksums.txt", "grpclb-refresher_9.9.9_linux_amd64.tar.gz", "kubectl-grpclb_0.1.1-SNAPSHOT-1a2b_linux_amd64.tar.gz",
				"kubectl-grpclb_0.1.1-SNAPSHOT-1a2b_linux_amd64.tar.gz.spdx.json", "kubectl-grpclb_0.1.1-SNAPSHOT-1a2b_windows_arm64.zip"},
			want: "v0.1.1-SNAPSHOT-1a2b",
		},
		"leftovers of another": {
			files:   []string{"kubectl-grpclb_0.1.0_linux_amd64.tar.gz", "kubectl-grpclb_0.1.1_linux_amd64.tar.gz"},
			wantErr: "has those of v0.1.0 and of v0.1.1",
		},
		"nothing": {wantErr: "none of kubectl-grpclb"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			s, err := krew.Open(dir)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || s.Version != tt.want {
				t.Fatalf("version %q, %v, want %q", s.Version, err, tt.want)
			}
			file := filepath.Base(s.Path("windows", "arm64"))
			uri, sum, err := s.Locate(file)
			if err != nil || uri != krew.Downloads+tt.want+"/"+file || sum != krew.Hash([]byte(file)) {
				t.Errorf("%s is at %s with %s, %v", file, uri, sum, err)
			}
		})
	}
	if _, err := krew.Open(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a folder that does not exist was opened")
	}
}

func TestChecksums(t *testing.T) {
	hash := krew.Hash([]byte("x"))
	sum, err := krew.Checksums([]byte(hash + "  x_1.0.0.zip\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sum("https://example.com/v1.0.0/x_1.0.0.zip"); err != nil || got != hash {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := sum("https://example.com/v1.0.0/y.zip"); err == nil {
		t.Error("a file without a checksum has one")
	}
	if _, err := krew.Checksums([]byte("<html>\n")); err == nil {
		t.Error("a page of HTML was read as checksums")
	}
}

func TestHomeListsFilesButNotIndexes(t *testing.T) {
	dir := t.TempDir()
	h, err := krew.NewHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"krew/index/local/.git/HEAD", "krew/receipts/grpclb.yaml", "krew/index.txt", "tmp/krew-downloads1/x"} {
		f = filepath.Join(dir, filepath.FromSlash(f))
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := h.Files()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"krew/index.txt", "krew/receipts/grpclb.yaml", "tmp/krew-downloads1/x"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := krew.NewHome(dir); err == nil {
		t.Error("a home that exists already was taken for a clean one")
	}
}
