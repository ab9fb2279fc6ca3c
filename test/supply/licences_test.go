//go:build supply

package supply

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReportNamesWhatBinariesHold asks the binaries themselves, which carry the
// list of their modules, instead of the go command that the report was made with.
func TestReportNamesWhatBinariesHold(t *testing.T) {
	report, err := os.ReadFile(filepath.Join("..", "..", "THIRD_PARTY_LICENSES.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ program, goos string }{
		{"kubectl-grpclb", "linux"}, {"grpclb-refresher", "linux"},
	} {
		t.Run(tt.program, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), tt.program)
			build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "./cmd/"+tt.program)
			build.Dir = filepath.Join("..", "..")
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+tt.goos)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			info, err := buildinfo.ReadFile(binary)
			if err != nil {
				t.Fatal(err)
			}
			if len(info.Deps) == 0 {
				t.Fatal("the binary names no module: the test reads the wrong thing")
			}
			for _, dep := range info.Deps {
				if dep.Replace != nil {
					t.Errorf("%s is replaced by %s: what is shipped has to be what its path says", dep.Path, dep.Replace.Path)
				}
				if !strings.Contains(string(report), "\n"+dep.Path+" "+dep.Version+": ") {
					t.Errorf("%s %s is linked and not in THIRD_PARTY_LICENSES.txt: run make generate", dep.Path, dep.Version)
				}
			}
		})
	}
}
