package main

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/grpclb/kubectl-grpclb/internal/release/image"
)

// fixture is a release whose program is a script, with its index in dir.
type fixture struct {
	release
	binary string
}

func newFixture(t *testing.T, repository string) fixture {
	t.Helper()
	f := fixture{release: release{version: "v1.2.3", commit: "cafe", date: time.Unix(1_800_000_000, 0), dir: t.TempDir()}}
	f.binary = filepath.Join(t.TempDir(), program)
	if err := os.WriteFile(f.binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("../..") // as goreleaser calls it: the licence is there
	var members []image.Member
	for _, arch := range architectures {
		spec := f.spec(arch, f.binary)
		img, err := spec.Build()
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, image.Member{Image: img, Platform: spec.Platform()})
	}
	if _, err := writeIndex(f.dir, repository, members); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fixture) archives(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, arch := range architectures {
		file := filepath.Join(t.TempDir(), arch+".tar")
		if err := archive(f.release, arch, f.binary, file); err != nil {
			t.Fatal(err)
		}
		out = append(out, file)
	}
	return out
}

// listen starts a registry that keeps everything in memory and returns its
// address.
func listen(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func TestWhatIsPushedIsWhatWasStamped(t *testing.T) {
	repository := listen(t) + "/grpclb/" + program
	f := newFixture(t, repository)
	ref, err := push(f.dir, "v1.2.3", f.archives(t))
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := os.ReadFile(filepath.Join(f.dir, refFile))
	if err != nil {
		t.Fatal(err)
	}
	if ref != strings.TrimSpace(string(stamp)) {
		t.Errorf("pushed %s, stamped %s", ref, stamp)
	}
	byDigest, err := name.NewDigest(ref)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(byDigest)
	if err != nil {
		t.Fatalf("pull by the stamped digest: %v", err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	tagged, err := remote.Head(byDigest.Context().Tag("v1.2.3"))
	if err != nil || tagged.Digest.String() != byDigest.DigestStr() {
		t.Errorf("the tag leads to %v, %v", tagged, err)
	}
	// What a node of each kind gets.
	for _, arch := range architectures {
		img, err := remote.Image(byDigest, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Architecture != arch || cfg.Config.User != "65532:65532" || cfg.Config.Labels["org.opencontainers.image.revision"] != "cafe" {
			t.Errorf("%s: %+v", arch, cfg)
		}
		if diff := cmp.Diff([]string{"/" + program}, cfg.Config.Entrypoint); diff != "" {
			t.Errorf("%s: entrypoint (-want +got):\n%s", arch, diff)
		}
	}
}

func TestPushRefusesOtherImages(t *testing.T) {
	host := listen(t)
	f := newFixture(t, host+"/x")
	archives := f.archives(t)
	tests := map[string]struct {
		archives []string
		want     string
	}{
		"one platform is missing": {archives[:1], "stamped with sha256:"},
		"one platform twice":      {[]string{archives[0], archives[0]}, "twice"},
		"none":                    {nil, "want -tag"},
		"no archive":              {[]string{f.binary}, f.binary},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := push(f.dir, "v1", tt.archives); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
	repo, err := name.NewRepository(host + "/x")
	if err != nil {
		t.Fatal(err)
	}
	if tags, err := remote.List(repo); err == nil {
		t.Errorf("something was pushed all the same: %v", tags)
	}
	if _, err := push(t.TempDir(), "v1", archives); err == nil || !strings.Contains(err.Error(), "command images") {
		t.Errorf("without a stamp: %v", err)
	}
}

func TestArchiveRefusesAnotherProgram(t *testing.T) {
	f := newFixture(t, Repository)
	if err := os.WriteFile(f.binary, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := archive(f.release, "amd64", f.binary, file); err == nil || !strings.Contains(err.Error(), "not in the index") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the archive was written all the same")
	}
}

func TestWrongCalls(t *testing.T) {
	for _, args := range [][]string{
		nil, {"publish"}, {"images"}, {"images", "-version", "v1", "-commit", "x", "-date", "yesterday"}, {"archive"}, {"sbom"},
		{"sbom", "-o", filepath.Join(t.TempDir(), "x"), "push_test.go"}, {"push"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out); err == nil {
			t.Errorf("%q: no error, output %q", args, out.String())
		}
	}
}
