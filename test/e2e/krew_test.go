//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/release/krew"
)

// TestKrew is the life of an installation: the real kubectl starts the real
// krew, which installs the plugin from a snapshot's archives by an index of our
// own, upgrades it, and removes it without a trace. In between the plugin does
// its work.
func TestKrew(t *testing.T) {
	dist := os.Getenv("GRPCLB_DIST")
	switch {
	case dist == "" && os.Getenv("CI") == "true":
		t.Fatal("GRPCLB_DIST does not name the folder of a snapshot: run the step release first")
	case dist == "":
		t.Skip("GRPCLB_DIST does not name the folder of a snapshot")
	}
	k := &krewUser{space: withCaller(t)}
	k.prepare(dist)
	k.reviewed()
	k.installs()
	k.works()
	k.completes()
	k.keepsWhatItHas()
	k.upgrades()
	k.completes()
	k.uninstalls()
}

// newer is a release that is newer than any snapshot.
const newer = "v999.0.0"

// krewUser is somebody with kubectl and krew and nothing else.
type krewUser struct {
	*space
	tools    krew.Tools
	home     krew.Home
	index    krew.Index
	snapshot krew.Snapshot
	next     krew.Snapshot // the newer release, for this machine alone
	manifest []byte        // krew-manifest.yaml as it is
	releases string        // URL of all releases, instead of GitHub's
}

// prepare builds krew, makes the newer release, serves both releases and takes
// the plugin that the other tests use off PATH.
func (k *krewUser) prepare(dist string) {
	k.Helper()
	var err error
	if k.manifest, err = os.ReadFile(filepath.Join(k.bed.Root, "krew-manifest.yaml")); err != nil {
		k.Fatal(err)
	}
	if k.snapshot, err = krew.Open(dist); err != nil {
		k.Fatal(err)
	}
	if k.tools, err = krew.Build(k.ctx, k.bed.Root, k.TempDir()); err != nil {
		k.Fatal(err)
	}
	if k.home, err = krew.NewHome(k.TempDir()); err != nil {
		k.Fatal(err)
	}
	if k.index, err = krew.NewIndex(k.ctx, k.TempDir()); err != nil {
		k.Fatal(err)
	}
	k.next = k.release(newer)

	mux := http.NewServeMux()
	for _, s := range []krew.Snapshot{k.snapshot, k.next} {
		mux.Handle("/"+s.Version+"/", http.StripPrefix("/"+s.Version, http.FileServer(http.Dir(s.Dir))))
	}
	server := httptest.NewServer(mux)
	k.Cleanup(server.Close)
	k.releases = server.URL + "/"

	own, bed := *k.cluster, *k.bed
	rest := slices.DeleteFunc(slices.Clone(bed.Path), func(dir string) bool { return dir == filepath.Dir(own.plugin) })
	bed.Path = append([]string{k.home.Bin(), k.tools.Dir}, rest...)
	own.bed, own.plugin = &bed, ""
	k.cluster = &own
}

// release builds and packs the plugin for this machine under a version.
func (k *krewUser) release(version string) krew.Snapshot {
	k.Helper()
	s := krew.Snapshot{Dir: k.TempDir(), Version: version}
	program := filepath.Join(k.TempDir(), krew.Binary)
	build := k.bed.Command(k.ctx, "go", "build", "-trimpath", "-o", program,
		"-ldflags", "-s -w -X github.com/grpclb/kubectl-grpclb/internal/version.Version="+version, "./cmd/kubectl-grpclb")
	build.Env = append(build.Env, "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		k.Fatalf("build %s: %v\n%s", version, err, out)
	}
	var packed bytes.Buffer
	zw, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		k.Fatal(err)
	}
	tw := tar.NewWriter(zw)
	files := []string{program}
	for _, name := range krew.Licenses {
		files = append(files, filepath.Join(k.bed.Root, name))
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			k.Fatal(err)
		}
		header := &tar.Header{Name: filepath.Base(name), Mode: 0o755, Size: int64(len(data))}
		if err := tw.WriteHeader(header); err != nil {
			k.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			k.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close(), os.WriteFile(s.Path(runtime.GOOS, runtime.GOARCH), packed.Bytes(), 0o644)); err != nil {
		k.Fatal(err)
	}
	return s
}

// served is the manifest of a release, with addresses of the local server. What
// the release has no archive for keeps a hash that nothing has.
func (k *krewUser) served(s krew.Snapshot) []byte {
	k.Helper()
	text, err := krew.Point(k.manifest, s.Version, func(file string) (string, string, error) {
		_, sum, err := s.Locate(file)
		if errors.Is(err, os.ErrNotExist) {
			sum, err = krew.NotReleased, nil
		}
		return k.releases + s.Version + "/" + file, sum, err
	})
	if err != nil {
		k.Fatal(err)
	}
	return text
}

func (k *krewUser) publish(manifest []byte, subject string) {
	k.Helper()
	if err := k.index.Publish(k.ctx, manifest, subject); err != nil {
		k.Fatal(err)
	}
}

// run starts a program as this user does. Both streams are returned, since krew
// says everything on standard error.
func (k *krewUser) run(argv ...string) (string, error) {
	cmd := k.bed.Command(k.ctx, argv...)
	cmd.Env = append(cmd.Env, k.home.Environ(runtime.GOOS, runtime.GOARCH)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// does runs kubectl, which has to succeed and to say something.
func (k *krewUser) does(says string, args ...string) string {
	k.Helper()
	out, err := k.run(append([]string{"kubectl"}, args...)...)
	if err != nil || !strings.Contains(out, says) {
		k.Fatalf("kubectl %s: %v, want %q:\n%s", strings.Join(args, " "), err, says, out)
	}
	return out
}

// wantFiles compares what krew keeps, except its indexes, and that it left
// nothing where it unpacks.
func (k *krewUser) wantFiles(want ...string) {
	k.Helper()
	got, err := k.home.Files()
	if err != nil {
		k.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		k.Errorf("krew's files (-want +got):\n%s", diff)
	}
}

func (k *krewUser) wantVersion(version string) {
	k.Helper()
	out := k.does("", "grpclb", "version", "-o", "json")
	var answer struct{ Version string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.Version != version {
		k.Errorf("the plugin is %s, %v; want %s", out, err, version)
	}
}

// reviewed is what krew's index runs on a change: its validator starts "kubectl
// krew install" for each platform.
func (k *krewUser) reviewed() {
	k.Helper()
	name := filepath.Join(k.TempDir(), krew.Name+".yaml")
	if err := os.WriteFile(name, k.served(k.snapshot), 0o644); err != nil {
		k.Fatal(err)
	}
	out, err := k.run(k.tools.Validate, "-manifest", name)
	if err != nil || !strings.Contains(out, "all 6 spec.platforms installed fine") {
		k.Fatalf("the index's own check: %v\n%s", err, out)
	}
	k.wantFiles()
}

func (k *krewUser) installs() {
	k.Helper()
	k.publish(k.served(k.snapshot), "the snapshot")
	k.does("You have added a new index", "krew", "index", "add", "local", k.index.URL())
	k.does("Installed plugin: grpclb", "krew", "install", "local/grpclb")
	k.wantFiles(k.installed(k.snapshot.Version)...)
	k.wantVersion(k.snapshot.Version)
	k.does(filepath.Join(k.home.Bin(), krew.Binary), "plugin", "list")
}

// installed are krew's files while a version is installed.
func (k *krewUser) installed(version string) []string {
	store := "krew/store/grpclb/" + version + "/"
	return []string{"krew/bin/" + krew.Binary, "krew/receipts/grpclb.yaml", store + "LICENSE", store + "THIRD_PARTY_LICENSES.txt", store + krew.Binary}
}

// works diagnoses a Service whose client is pinned to one pod.
func (k *krewUser) works() {
	k.Helper()
	o := k.grpclbByKubectl("diagnose", "svc/backend", "-o", "json")
	r := k.report(o)
	if o.code != 1 || len(r.Services) != 1 || len(findings(r.Services[0], "clusterip-pinned")) == 0 {
		k.Errorf("diagnosed by the installed plugin: %s", o)
	}
}

// completes installs completion, where that has not been done, and completes a
// Service's name by kubectl.
func (k *krewUser) completes() {
	k.Helper()
	const hook = "kubectl_complete-grpclb"
	if _, err := os.Stat(filepath.Join(k.home.Bin(), hook)); err != nil {
		k.does("wrote "+filepath.Join(k.home.Bin(), hook), "grpclb", "completion", "install")
	}
	args := append([]string{"__complete", "grpclb", "diagnose", "-n", k.ns}, k.bed.Kubectl()[1:]...)
	// TAB waits for the cluster no longer than a person does: on a busy machine somebody presses it again.
	k.eventually("TAB to complete svc/ba", startTime, func() (bool, string) {
		out, err := k.run(append([]string{"kubectl"}, append(args, "svc/ba")...)...)
		return err == nil && strings.Contains(out, "svc/backend"), fmt.Sprintf("%v: %s", err, out)
	})
}

// keepsWhatItHas publishes a release whose archive is not what the manifest
// says: the upgrade is refused and the installed version goes on working.
func (k *krewUser) keepsWhatItHas() {
	k.Helper()
	text := k.served(k.next)
	_, sum, err := k.next.Locate(filepath.Base(k.next.Path(runtime.GOOS, runtime.GOARCH)))
	if err != nil {
		k.Fatal(err)
	}
	k.publish(bytes.ReplaceAll(text, []byte(sum), []byte(krew.Hash(nil))), "a release that was tampered with")
	out, err := k.run("kubectl", "krew", "upgrade", "grpclb")
	if err == nil || !strings.Contains(out, "checksum does not match") {
		k.Errorf("the upgrade ends with %v, want a refusal:\n%s", err, out)
	}
	k.wantFiles(slices.Insert(k.installed(k.snapshot.Version), 1, "krew/bin/kubectl_complete-grpclb")...)
	k.wantVersion(k.snapshot.Version)
}

func (k *krewUser) upgrades() {
	k.Helper()
	k.publish(k.served(k.next), "a newer release")
	k.does("Upgraded plugin: local/grpclb", "krew", "upgrade", "grpclb")
	k.wantFiles(slices.Insert(k.installed(newer), 1, "krew/bin/kubectl_complete-grpclb")...)
	k.wantVersion(newer)
	k.works()
	k.does("Skipping plugin local/grpclb, it is already on the newest version", "krew", "upgrade")
}

func (k *krewUser) uninstalls() {
	k.Helper()
	k.does("removed "+filepath.Join(k.home.Bin(), "kubectl_complete-grpclb"), "grpclb", "completion", "uninstall")
	k.does("Uninstalled plugin: grpclb", "krew", "uninstall", "grpclb")
	k.wantFiles()
	k.does("", "krew", "index", "remove", "local")
	for _, dir := range []string{"index", "store", "bin", "receipts"} {
		if left, err := os.ReadDir(filepath.Join(k.home.Root, dir)); err != nil || len(left) > 0 {
			k.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	if out, err := k.run("kubectl", "grpclb", "version"); err == nil {
		k.Errorf("kubectl still finds the plugin:\n%s", out)
	}
}
