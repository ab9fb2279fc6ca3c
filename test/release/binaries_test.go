//go:build release

package release_test

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// machine tells by its header for which system and processor a program is.
func machine(program []byte) string {
	r := bytes.NewReader(program)
	if f, err := elf.NewFile(r); err == nil {
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				return "linux, dynamically linked"
			}
		}
		return map[elf.Machine]string{elf.EM_X86_64: "linux/amd64", elf.EM_AARCH64: "linux/arm64"}[f.Machine]
	}
	if f, err := macho.NewFile(r); err == nil {
		return map[macho.Cpu]string{macho.CpuAmd64: "darwin/amd64", macho.CpuArm64: "darwin/arm64"}[f.Cpu]
	}
	if f, err := pe.NewFile(r); err == nil {
		return map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "windows/amd64", pe.IMAGE_FILE_MACHINE_ARM64: "windows/arm64"}[f.Machine]
	}
	return "neither ELF nor Mach-O nor PE"
}

func TestBinariesAreForTheirPlatforms(t *testing.T) {
	s := openSnapshot(t)
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	folders := []string{s.root, filepath.Join(home, "go"), strings.TrimSpace(string(goroot))}
	for _, a := range s.archives() {
		t.Run(a.name, func(t *testing.T) {
			program := s.program(t, a)
			if got := machine(program); got != a.goos+"/"+a.goarch {
				t.Errorf("the header says %s", got)
			}
			info, err := buildinfo.Read(bytes.NewReader(program))
			if err != nil {
				t.Fatal(err)
			}
			settings := map[string]string{}
			for _, set := range info.Settings {
				settings[set.Key] = set.Value
			}
			for key, want := range map[string]string{
				"GOOS": a.goos, "GOARCH": a.goarch, "CGO_ENABLED": "0", "-trimpath": "true",
				"vcs.revision": s.commit, "vcs.time": s.date.UTC().Format(time.RFC3339),
			} {
				if settings[key] != want {
					t.Errorf("built with %s=%q, want %q", key, settings[key], want)
				}
			}
			if info.GoVersion != runtime.Version() {
				t.Errorf("built by %s, this is %s", info.GoVersion, runtime.Version())
			}
			for _, folder := range folders {
				if bytes.Contains(program, []byte(folder+"/")) {
					t.Errorf("%s is in the program", folder)
				}
			}
		})
	}
}

// stamp is what the command version tells.
type stamp struct {
	Version, Commit, Date, Image, Platform string
}

func askVersion(t *testing.T, program string) stamp {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "version", "-o", "json").Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	var v stamp
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return v
}

func TestStamp(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("both programs are for Linux only")
	}
	s := openSnapshot(t)
	semver := regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)
	if !semver.MatchString(s.version) {
		t.Errorf("%q is no semantic version", s.version)
	}
	want := stamp{
		Version: "v" + s.version, Commit: s.commit, Date: s.date.UTC().Format(time.RFC3339), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	for _, a := range s.archives() {
		if a.goos != runtime.GOOS || a.goarch != runtime.GOARCH {
			continue
		}
		program := filepath.Join(t.TempDir(), a.program)
		if err := os.WriteFile(program, s.program(t, a), 0o755); err != nil {
			t.Fatal(err)
		}
		if a.program == "grpclb-refresher" {
			out, err := exec.CommandContext(t.Context(), program, "version").Output()
			if err != nil || !strings.Contains(string(out), want.Version) {
				t.Errorf("%s version: %v\n%s", a.program, err, out)
			}
			continue
		}
		got := askVersion(t, program)
		if !regexp.MustCompile(`^ghcr\.io/grpclb/grpclb-refresher@sha256:[0-9a-f]{64}$`).MatchString(got.Image) {
			t.Errorf("image %q, want one by digest", got.Image)
		}
		wantDefaultImage(t, program, got.Image)
		got.Image = ""
		if got != want {
			t.Errorf("%s is stamped with %+v, want %+v", a.name, got, want)
		}
	}
}

// A build that was not released must not name an image that was not pushed.
func TestUnstampedBuildKeepsItsImage(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kubectl-grpclb")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/kubectl-grpclb")
	build.Dir = filepath.FromSlash("../..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const unreleased = "grpclb.dev/grpclb-refresher:dev"
	if got := askVersion(t, program); got.Image != unreleased {
		t.Errorf("image %q in a build without a stamp, want %s", got.Image, unreleased)
	}
	wantDefaultImage(t, program, unreleased)
}

func wantDefaultImage(t *testing.T, program, image string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "diagnose", "--help").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `(default "`+image+`")`) {
		t.Errorf("diagnose --help: %v, want the default image %s in\n%s", err, image, out)
	}
}
