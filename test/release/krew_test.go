//go:build release

package release_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/release/krew"
)

// TestKrew hands the manifest and a snapshot's archives to krew itself: to the
// validator that guards its index, and to the krew that users have.
func TestKrew(t *testing.T) {
	k := newKrewBench(t)
	var err error
	if k.tools, err = krew.Build(t.Context(), k.root, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Run("the validator", k.testValidator)
	t.Run("installs", k.testInstalls)
	t.Run("refuses", k.testRefusals)
	t.Run("the index's own check", k.testIndexCheck)
}

// krewBench is krew with something to install.
type krewBench struct {
	root     string     // the repository's folder
	manifest []byte     // krew-manifest.yaml as it is
	tools    krew.Tools // built by TestKrew only
	snapshot krew.Snapshot
}

func newKrewBench(t *testing.T) *krewBench {
	t.Helper()
	root, err := filepath.Abs(filepath.FromSlash("../.."))
	if err != nil {
		t.Fatal(err)
	}
	k := &krewBench{root: root}
	if k.manifest, err = os.ReadFile(filepath.Join(root, "krew-manifest.yaml")); err != nil {
		t.Fatal(err)
	}
	dist := os.Getenv("GRPCLB_DIST")
	if dist == "" {
		dist = filepath.Join(root, "dist")
	}
	if k.snapshot, err = krew.Open(dist); err != nil {
		t.Fatalf("%v; make a snapshot first, or name its folder in GRPCLB_DIST", err)
	}
	return k
}

// write saves a manifest under the name that krew demands and returns its path.
func (k *krewBench) write(t *testing.T, manifest []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), krew.Name+".yaml")
	if err := os.WriteFile(name, manifest, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// pointed is the manifest with the snapshot's version and hashes.
func (k *krewBench) pointed(t *testing.T) []byte {
	t.Helper()
	text, err := krew.Point(k.manifest, k.snapshot.Version, k.snapshot.Locate)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// change replaces text that must be there.
func change(t *testing.T, text []byte, from, to string) []byte {
	t.Helper()
	if !bytes.Contains(text, []byte(from)) {
		t.Fatalf("the manifest has no %q", from)
	}
	return bytes.ReplaceAll(text, []byte(from), []byte(to))
}

// start runs a program of krew's and returns what it said and whether it failed.
func start(ctx context.Context, env []string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// wantRefusal fails unless a program failed by itself and said why.
func wantRefusal(t *testing.T, out string, err error, why string) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(out, why) {
		t.Errorf("it ends with %v, want a refusal that says %q:\n%s", err, why, out)
	}
}

// testValidator runs validate-krew-manifest without installing, as one does
// before a release, and shows that it judges.
func (k *krewBench) testValidator(t *testing.T) {
	validate := func(name string) (string, error) {
		return start(t.Context(), nil, k.tools.Validate, "-skip-install", "-manifest", name)
	}
	for name, text := range map[string][]byte{"as it is": k.manifest, "of the snapshot": k.pointed(t)} {
		out, err := validate(k.write(t, text))
		if err != nil || !strings.Contains(out, "structural validation OK") || !strings.Contains(out, "no overlapping") {
			t.Errorf("the manifest %s: %v\n%s", name, err, out)
		}
	}
	out, err := validate(filepath.Join(k.root, "krew-manifest.yaml"))
	wantRefusal(t, out, err, `plugin should be named "krew-manifest"`)

	for name, tt := range map[string]struct{ from, to, why string }{
		"zeros without quotes":  {krew.Scalar(krew.NotReleased), krew.NotReleased, "`sha256` value 0 is not valid"},
		"a version without v":   {"version: v", "version: ", "not starting with 'v'"},
		"overlapping platforms": {"        arch: arm64\n", "", "overlapping platform selectors"},
		"an unknown platform":   {"arch: arm64", "arch: riscv64", "doesn't match any supported platforms"},
		"no program":            {"    bin: kubectl-grpclb\n", "", "`bin` has to be set"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := validate(k.write(t, change(t, k.manifest, tt.from, tt.to)))
			wantRefusal(t, out, err, tt.why)
		})
	}
}

// install runs "krew install" from a local archive into a new home.
func (k *krewBench) install(t *testing.T, manifest []byte, archive, goos, goarch string) (krew.Home, string, error) {
	t.Helper()
	home, err := krew.NewHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := start(t.Context(), home.Environ(goos, goarch), k.tools.Krew, "install", "--manifest", k.write(t, manifest), "--archive", archive)
	return home, out, err
}

// testInstalls installs every platform of the manifest from its archive.
func (k *krewBench) testInstalls(t *testing.T) {
	text := k.pointed(t)
	m, err := krew.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Spec.Platforms) != 6 {
		t.Errorf("%d platforms, want 6", len(m.Spec.Platforms))
	}
	for _, p := range m.Spec.Platforms {
		t.Run(p.String(), func(t *testing.T) {
			home, out, err := k.install(t, text, k.snapshot.Path(p.OS(), p.Arch()), p.OS(), p.Arch())
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			link := "krew/bin/kubectl-grpclb" + strings.TrimPrefix(p.Program(), krew.Binary)
			store := path.Join("krew/store/grpclb", k.snapshot.Version)
			files, err := home.Files()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{link, "krew/receipts/grpclb.yaml", store + "/LICENSE", store + "/THIRD_PARTY_LICENSES.txt", store + "/" + p.Program()}, files); diff != "" {
				t.Errorf("installed files (-want +got):\n%s", diff)
			}
			k.wantLicenses(t, filepath.Join(home.Root, "store", krew.Name, k.snapshot.Version))
			k.wantProgram(t, filepath.Join(home.Bin(), path.Base(link)), p)
			if !strings.Contains(out, "completion install") || !strings.Contains(out, krew.Homepage) {
				t.Errorf("krew does not show caveats and homepage:\n%s", out)
			}
		})
	}
}

// wantLicenses compares the licences in a folder with the repository's.
func (k *krewBench) wantLicenses(t *testing.T, dir string) {
	t.Helper()
	for _, name := range krew.Licenses {
		want, err := os.ReadFile(filepath.Join(k.root, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the installed %s is not the repository's: %v", name, err)
		}
	}
}

// wantProgram follows krew's link: it must lead to a program for that platform,
// which runs where it can.
func (k *krewBench) wantProgram(t *testing.T, link string, p krew.Platform) {
	t.Helper()
	info, err := os.Stat(link)
	if err != nil || info.Mode()&0o111 == 0 {
		t.Fatalf("%s is not executable: %v", link, err)
	}
	built, err := buildinfo.ReadFile(link)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range built.Settings {
		got[s.Key] = s.Value
	}
	if built.Path != "github.com/grpclb/kubectl-grpclb/cmd/kubectl-grpclb" || got["GOOS"] != p.OS() || got["GOARCH"] != p.Arch() {
		t.Errorf("it is %s for %s/%s", built.Path, got["GOOS"], got["GOARCH"])
	}
	if p.OS() != runtime.GOOS || p.Arch() != runtime.GOARCH {
		return
	}
	out, err := exec.CommandContext(t.Context(), link, "version", "-o", "json").Output()
	var answer struct{ Version, Platform string }
	if err == nil {
		err = json.Unmarshal(out, &answer)
	}
	if err != nil || answer.Version != k.snapshot.Version || answer.Platform != p.String() {
		t.Errorf("version says %s, %v; want %s for %s", out, err, k.snapshot.Version, p)
	}
}

// testRefusals shows that krew installs nothing that differs from what the
// manifest says, and leaves nothing behind.
func (k *krewBench) testRefusals(t *testing.T) {
	good := k.snapshot.Path("linux", "amd64")
	hash := hashOf(t, good)
	tests := map[string]struct {
		manifest []byte
		archive  string
		why      string
	}{
		"a wrong hash":                        {change(t, k.pointed(t), hash, krew.Hash([]byte("something else"))), good, "checksum does not match, want: " + krew.Hash([]byte("something else")) + ", got " + hash},
		"another platform's archive":          {k.pointed(t), k.snapshot.Path("linux", "arm64"), "checksum does not match"},
		"a manifest before the first release": {k.unreleased(t), good, "checksum does not match, want: " + krew.NotReleased},
	}
	for _, missing := range append([]string{krew.Binary}, krew.Licenses...) {
		archive := without(t, good, missing)
		tests["an archive without "+missing] = struct {
			manifest []byte
			archive  string
			why      string
		}{change(t, k.pointed(t), hash, hashOf(t, archive)), archive, "no files in the plugin archive matched the glob pattern=" + missing}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			home, out, err := k.install(t, tt.manifest, tt.archive, "linux", "amd64")
			wantRefusal(t, out, err, tt.why)
			if files, err := home.Files(); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
}

// unreleased is the manifest with zeros for hashes, whatever it has now.
func (k *krewBench) unreleased(t *testing.T) []byte {
	t.Helper()
	text, err := krew.Point(k.manifest, k.snapshot.Version, func(file string) (string, string, error) {
		return krew.Downloads + k.snapshot.Version + "/" + file, krew.NotReleased, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// plainKubectl is as much of kubectl as the validator calls: it starts plugins.
// The end-to-end test repeats the check with the real one.
const plainKubectl = `#!/bin/sh
plugin=$1
shift
exec "kubectl-$plugin" "$@"
`

// testIndexCheck runs the validator the way krew's index does on every change:
// it downloads and installs each platform and looks for the licence.
func (k *krewBench) testIndexCheck(t *testing.T) {
	if err := os.WriteFile(filepath.Join(k.tools.Dir, "kubectl"), []byte(plainKubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(k.snapshot.Dir)))
	t.Cleanup(server.Close)
	text, err := krew.Point(k.manifest, k.snapshot.Version, func(file string) (string, string, error) {
		_, sum, err := k.snapshot.Locate(file)
		return server.URL + "/" + file, sum, err
	})
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + k.tools.Dir + string(os.PathListSeparator) + os.Getenv("PATH")}
	check := func(text []byte) (string, error) {
		return start(t.Context(), env, k.tools.Validate, "-manifest", k.write(t, text))
	}
	if out, err := check(text); err != nil || !strings.Contains(out, "all 6 spec.platforms installed fine") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err := check(change(t, text, "    - from: LICENSE\n      to: .\n", ""))
	wantRefusal(t, out, err, "could not find license file among [THIRD_PARTY_LICENSES.txt, kubectl-grpclb]")
	out, err = check(change(t, text, server.URL, server.URL+"/missing"))
	wantRefusal(t, out, err, "status code 404")
}

func hashOf(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return krew.Hash(data)
}

// without copies a .tar.gz and leaves one file out.
func without(t *testing.T, archive, missing string) string {
	t.Helper()
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	packed, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	in, w := tar.NewReader(unpacked), tar.NewWriter(packed)
	var left []string
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Name == missing {
			continue
		}
		left = append(left, header.Name)
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, in); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(left, missing) || len(left) == 0 {
		t.Fatalf("%v are left", left)
	}
	name := filepath.Join(t.TempDir(), filepath.Base(archive))
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
