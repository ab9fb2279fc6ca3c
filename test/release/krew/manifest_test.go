package krew_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/test/release/krew"
)

// After a release:
//
//	go test ./test/release/krew -run Drift -update -tag v1.2.3 -checksums dist/checksums.txt
//
// Without -tag the manifest keeps its version and hashes and takes everything
// else from the template.
var (
	tag       = flag.String("tag", "", "the release to write with -update; with -checksums")
	checksums = flag.String("checksums", "", "the release's `file` of checksums")
)

const (
	manifestFile = "../../../krew-manifest.yaml"
	templateFile = "../../../.krew.yaml"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestManifestDoesNotDriftFromTheTemplate renders the release bot's template for
// the manifest's own version and hashes: the result must be the manifest, byte
// for byte.
func TestManifestDoesNotDriftFromTheTemplate(t *testing.T) {
	text := read(t, manifestFile)
	m, err := krew.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	version, sum := m.Spec.Version, func(uri string) (string, error) {
		for _, p := range m.Spec.Platforms {
			if p.URI == uri {
				return krew.Scalar(p.Sha256), nil
			}
		}
		return "", errors.New("the manifest does not have it")
	}
	if *tag != "" {
		version = *tag
		if sum, err = krew.Checksums(read(t, *checksums)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := krew.Render(read(t, templateFile), version, sum)
	if err != nil {
		t.Fatal(err)
	}
	golden.Text(t, manifestFile, string(got))
}

// TestTemplateDiffersOnlyWhereTheBotFillsIn is the same from the other side: with
// what the bot fills in taken out, the two files are the same lines.
func TestTemplateDiffersOnlyWhereTheBotFillsIn(t *testing.T) {
	strip := func(text string) []string {
		var out []string
		for line := range strings.Lines(text) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch {
			case word == "version:" || word == "uri:" || strings.HasPrefix(word, "{{"):
				out = append(out, word[:1])
			case word != "sha256:":
				out = append(out, line)
			}
		}
		return out
	}
	_, template, ok := strings.Cut(string(read(t, templateFile)), "*/ -}}\n")
	if !ok {
		t.Fatal("the template does not begin with its comment")
	}
	manifest := strings.Join(strip(string(read(t, manifestFile))), "")
	got := strings.ReplaceAll(strings.Join(strip(template), ""), "{", "u")
	if diff := cmp.Diff(manifest, got); diff != "" {
		t.Errorf("(-manifest +template):\n%s", diff)
	}
}

func TestManifestPassesReview(t *testing.T) {
	for _, fault := range krew.Review(read(t, manifestFile)) {
		t.Error(fault)
	}
}

func TestReviewFinds(t *testing.T) {
	good := string(read(t, manifestFile))
	hash := strings.Repeat("ab", 32)
	tests := map[string]struct {
		from, to string // replaced wherever it stands
		want     string
	}{
		"a misspelt field":           {"sha256:", "sha265:", `unknown field`},
		"a second document":          {"kind: Plugin\n", "kind: Plugin\n---\n", "more than one document"},
		"another name":               {"name: grpclb\n", "name: grpc-lb\n", `metadata.name is "grpc-lb"`},
		"a version without v":        {"version: v", "version: ", "no semantic version"},
		"a long tagline":             {"Find out why", "Find out in a few seconds why", "characters, want 1 to 50"},
		"a sentence for a tagline":   {"on one pod\n", "on one pod.\n", "without a full stop"},
		"a redundant word":           {"Find out why gRPC", "Kubernetes gRPC", `says "Kubernetes"`},
		"no word of the policy":      {"deprecated", "late", "does not tell the plugin from"},
		"no caveats":                 {"  caveats: |\n    By default it reads", "  caveats: \"\"\n  description: |\n    By default it reads", "already set"},
		"a wide line":                {"    Headless Services can", "    " + strings.Repeat("wide ", 20) + "can", "columns, want 80"},
		"a platform missing":         {"os: darwin\n        arch: arm64", "os: linux\n        arch: s390x", "platforms are"},
		"a platform twice":           {"os: darwin\n        arch: arm64", "os: darwin\n        arch: amd64", "platforms are"},
		"a selector too wide":        {"        arch: arm64\n", "", "the selector has 1 labels"},
		"another archive":            {"_darwin_arm64.tar.gz", "_darwin_amd64.tar.gz", "darwin/arm64: uri is"},
		"another version's archive":  {"/v0.1.0/", "/v0.0.9/", "uri is"},
		"a hash in capitals":         {"arm64.zip\n    sha256: \"00", "arm64.zip\n    sha256: \"AA", "lower-case"},
		"one platform unreleased":    {"linux_amd64.tar.gz\n    sha256: " + krew.Scalar(krew.NotReleased), "linux_amd64.tar.gz\n    sha256: " + hash, "stands on 5 of 6"},
		"bare zeros, a number":       {krew.Scalar(krew.NotReleased), krew.NotReleased, `sha256 "0" is not 64`},
		"a hash on two platforms":    {"64.zip\n    sha256: " + krew.Scalar(krew.NotReleased), "64.zip\n    sha256: " + hash, "stands on 2 of 6"},
		"a program without .exe":     {"bin: kubectl-grpclb.exe", "bin: kubectl-grpclb", `windows/amd64: bin is "kubectl-grpclb"`},
		"the licence not installed":  {"    - from: LICENSE\n      to: .\n", "", "files are"},
		"others' not installed":      {"    - from: THIRD_PARTY_LICENSES.txt\n      to: .\n", "", "files are"},
		"the licence somewhere else": {"from: LICENSE\n      to: .", "from: LICENSE\n      to: doc", "files are"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, tt.from) {
				t.Fatalf("the manifest has no %q: the case tests nothing", tt.from)
			}
			faults := strings.Join(krew.Review([]byte(strings.ReplaceAll(good, tt.from, tt.to))), "\n")
			if !strings.Contains(faults, tt.want) || faults == "" {
				t.Errorf("the review says %q, want %q", faults, tt.want)
			}
		})
	}
}

func TestPoint(t *testing.T) {
	text := read(t, manifestFile)
	got, err := krew.Point(text, "v7.8.9-rc.1", func(file string) (string, string, error) {
		return "http://127.0.0.1/" + file, krew.Hash([]byte(file)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := krew.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if m.Spec.Version != "v7.8.9-rc.1" || len(m.Spec.Platforms) != 6 {
		t.Errorf("version %s with %d platforms", m.Spec.Version, len(m.Spec.Platforms))
	}
	for _, p := range m.Spec.Platforms {
		file := krew.Archive("7.8.9-rc.1", p.OS(), p.Arch())
		if p.URI != "http://127.0.0.1/"+file || p.Sha256 != krew.Hash([]byte(file)) {
			t.Errorf("%s has %s with %s", p, p.URI, p.Sha256)
		}
	}
	missing := errors.New("no such archive")
	if _, err := krew.Point(text, "v1.0.0", func(string) (string, string, error) { return "", "", missing }); !errors.Is(err, missing) {
		t.Errorf("an archive that is missing: %v", err)
	}
}
