package version

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	vcs := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
		{Key: "vcs.time", Value: "2026-09-01T10:00:00Z"},
		{Key: "vcs.modified", Value: "true"},
	}
	const revision = "0123456789abcdef0123456789abcdef01234567"
	tests := map[string]struct {
		stamp Info
		build *debug.BuildInfo
		want  Info
	}{
		"a full stamp wins over everything": {
			stamp: Info{Version: "v1.2.3", Commit: "feed", Date: "2026-01-01T00:00:00Z"},
			build: &debug.BuildInfo{Main: debug.Module{Version: "v0.0.1"}, Settings: vcs},
			want:  Info{Version: "v1.2.3", Commit: "feed", Date: "2026-01-01T00:00:00Z"},
		},
		"go install module@version": {
			build: &debug.BuildInfo{Main: debug.Module{Version: "v0.4.0"}},
			want:  Info{Version: "v0.4.0"},
		},
		"go build in a work tree": {
			build: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs},
			want:  Info{Version: Unreleased, Commit: revision, Date: "2026-09-01T10:00:00Z", Modified: true},
		},
		"only the version stamped": {
			stamp: Info{Version: "v9.0.0"},
			build: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs},
			want:  Info{Version: "v9.0.0", Commit: revision, Date: "2026-09-01T10:00:00Z", Modified: true},
		},
		"no build information, no stamp": {want: Info{Version: Unreleased}},
		"no build information, a stamp":  {stamp: Info{Version: "v2.0.0"}, want: Info{Version: "v2.0.0"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, resolve(tt.stamp, tt.build)); diff != "" {
				t.Errorf("resolve (-want +got):\n%s", diff)
			}
		})
	}
}

func TestString(t *testing.T) {
	full := Info{
		Version: "v0.3.1", Commit: "0123456789abcdef0123", Date: "2026-09-01T10:00:00Z",
		Modified: true, GoVersion: "go1.26.8", Platform: "linux/amd64",
	}
	want := "v0.3.1 (commit 0123456789ab, 2026-09-01T10:00:00Z, modified, go1.26.8 linux/amd64)"
	if got := full.String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	bare := Info{Version: Unreleased, Commit: "feed", GoVersion: "go1.26.8", Platform: "darwin/arm64"}
	if got, want := bare.String(), "devel (commit feed, go1.26.8 darwin/arm64)"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

func TestGetNeverLeavesTheEssentialsEmpty(t *testing.T) {
	got := Get()
	if got.Version == "" || got.GoVersion != runtime.Version() || got.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("Get() = %+v", got)
	}
}

// The variable paths are an interface to the Makefile and the release tool: a
// renamed variable would make -X silently do nothing.
func TestLinkerStampReachesTheBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("links a program")
	}
	const path = "github.com/grpclb/kubectl-grpclb/internal/version."
	bin := filepath.Join(t.TempDir(), "stamped")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"-ldflags", "-X "+path+"Version=v7.8.9 -X "+path+"Commit=cafe -X "+path+"Date=2026-02-03T04:05:06Z -X "+path+"Image=example.com/x@sha256:1234",
		"./testdata/stamped")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), bin).Output()
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	var got Info
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("output %q: %v", out, err)
	}
	want := Info{
		Version: "v7.8.9", Commit: "cafe", Date: "2026-02-03T04:05:06Z", Image: "example.com/x@sha256:1234",
		GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stamped binary (-want +got):\n%s", diff)
	}
}
