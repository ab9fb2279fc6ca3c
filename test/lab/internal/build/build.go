package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/release/image"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/addons"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/node"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/state"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/steps"
)

// BusyBoxImage is an image with a shell and the usual tools, for pods that look
// around. It is loaded into every cluster.
const BusyBoxImage = "lab.grpclb.dev/busybox:dev"

// busyBox is where Debian's busybox-static puts it.
const busyBox = "/bin/busybox"

// applets are the links to BusyBox in that image.
var applets = []string{
	"cat", "date", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ls", "mkdir",
	"mount", "nc", "netstat", "nslookup", "ping", "ps", "pwd", "rm", "sed", "seq", "sh", "sleep", "sort", "stat",
	"tail", "tee", "telnet", "test", "time", "timeout", "top", "touch", "true", "uniq", "vi", "wc", "wget", "xargs",
}

// partial marks the directory of a build under way.
const partial = ".partial-"

// stopDelay is how long an interrupted go command may take to end.
const stopDelay = 10 * time.Second

// goModule is one `go build` in one module.
type goModule struct {
	dir string
	// out is where its programs go, below the build's bin directory.
	out  string
	cgo  bool
	args []string
	// packages to build, "./x" or import paths.
	packages []string
}

const (
	containerd = "github.com/containerd/containerd/v2/cmd/"
	cniPlugins = "github.com/containernetworking/plugins/plugins/"
)

// modules are what a build compiles, of components in the given versions.
func modules(components []Component) ([]goModule, error) {
	version := map[string]string{}
	for _, c := range components {
		version[c.Name] = c.Version
	}
	// Without a stamp Kubernetes calls itself v0.0.0, and kubelets refuse to
	// talk to an API server that old.
	parts := strings.SplitN(strings.TrimPrefix(version["kubernetes"], "v"), ".", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("%q is no version of Kubernetes", version["kubernetes"])
	}
	ldflags := "-s -w -X github.com/containerd/containerd/v2/version.Version=" + version["containerd"]
	for _, kv := range []string{
		"gitVersion=" + version["kubernetes"], "gitMajor=" + parts[0], "gitMinor=" + parts[1], "gitTreeState=clean",
	} {
		ldflags += " -X k8s.io/component-base/version." + kv
	}
	stripped := []string{"-ldflags", "-s -w"}
	return []goModule{
		{dir: "cluster", args: []string{"-ldflags", ldflags}, packages: []string{
			"./kube", "./coredns", "sigs.k8s.io/metrics-server/cmd/metrics-server",
			containerd + "containerd", containerd + "containerd-shim-runc-v2", containerd + "ctr",
		}},
		// runc joins namespaces in C, before Go starts its threads.
		{dir: "runtime", cgo: true, args: append([]string{"-tags", "seccomp"}, stripped...), packages: []string{
			"github.com/opencontainers/runc",
		}},
		{dir: "runtime", out: "cni", args: stripped, packages: []string{
			cniPlugins + "main/bridge", cniPlugins + "main/loopback", cniPlugins + "ipam/host-local", cniPlugins + "meta/portmap",
		}},
	}, nil
}

// links are further names of the kube binary.
var links = []string{"kubectl", "kubelet", "kube-proxy"}

// Images are the archives of a build that every node gets, by file name.
func Images(dir state.Dir, key string) []string {
	var files []string
	for _, name := range []string{"pause", "coredns", "metrics-server", "busybox"} {
		files = append(files, filepath.Join(dir.Build(key), "images", name+".tar"))
	}
	return files
}

// Kept says whether the build of a key is there, whole.
func Kept(dir state.Dir, key string) bool {
	_, err := os.Stat(dir.Build(key))
	return err == nil
}

// Ensure returns the key of the sources' build after making it if it is not
// kept. It removes builds that neither it nor keep (a key or "") needs.
func Ensure(ctx context.Context, src Sources, dir state.Dir, keep string, log *steps.Log) (string, error) {
	key, err := src.Key()
	if err != nil {
		return "", err
	}
	if !Kept(dir, key) {
		if err := Packages(ctx, ForBuilding, log); err != nil {
			return "", err
		}
		if err := assemble(ctx, src, dir, key, log); err != nil {
			return "", err
		}
	}
	prune(dir, key, keep)
	return key, nil
}

// assemble builds into a directory of its own and renames it when it is whole.
func assemble(ctx context.Context, src Sources, dir state.Dir, key string, log *steps.Log) error {
	tmp := dir.Build(key) + partial + fmt.Sprint(os.Getpid())
	if err := os.MkdirAll(filepath.Join(tmp, "bin", "cni"), 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	components, err := src.Components()
	if err != nil {
		return err
	}
	mods, err := modules(components)
	if err != nil {
		return err
	}
	for _, m := range mods {
		step := log.Begin("build " + m.what())
		if err := step.End(m.build(ctx, src, filepath.Join(tmp, "bin"), step), ""); err != nil {
			return fmt.Errorf("build %s: %w", m.what(), err)
		}
	}
	for _, l := range links {
		if err := os.Symlink("kube", filepath.Join(tmp, "bin", l)); err != nil {
			return err
		}
	}
	step := log.Begin("build images")
	if err := step.End(images(ctx, src, tmp), ""); err != nil {
		return fmt.Errorf("build images: %w", err)
	}
	return os.Rename(tmp, dir.Build(key))
}

func (m goModule) what() string {
	names := make([]string, len(m.packages))
	for i, p := range m.packages {
		names[i] = filepath.Base(p)
	}
	return strings.Join(names, ", ")
}

// build runs go build and shows what it is at.
func (m goModule) build(ctx context.Context, src Sources, bin string, step *steps.Step) error {
	args := append([]string{"build", "-v", "-o", filepath.Join(bin, m.out) + "/"}, m.args...)
	cmd := exec.CommandContext(ctx, "go", append(args, m.packages...)...)
	cmd.Dir = filepath.Join(string(src), m.dir)
	cgo := "CGO_ENABLED=0"
	if m.cgo {
		cgo = "CGO_ENABLED=1"
	}
	// The caller's own flags and workspace are about other code.
	// Asked to stop, go removes its temporary files and waits for its compilers.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopDelay
	cmd.Env = append(os.Environ(), cgo, "GOFLAGS=-mod=readonly -trimpath -buildvcs=false", "GOWORK=off", "GOOS=linux", "PWD="+cmd.Dir)
	return runShown(cmd, step)
}

// runShown runs a go command. Its output is shown as progress, and the end of
// it returned should it fail.
func runShown(cmd *exec.Cmd, step *steps.Step) error {
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	var last []string
	var reading sync.WaitGroup
	reading.Go(func() { last = show(r, step) })
	err := cmd.Run()
	w.Close()
	reading.Wait()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("the go command is not in PATH (under sudo, pass it on: sudo env PATH=\"$PATH\" ...)")
	}
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, strings.Join(last, "\n"))
	}
	return nil
}

// show reads `go build -v` output to its end and returns its last lines, but
// for those that only tell of progress.
func show(r io.Reader, step *steps.Step) []string {
	const keep = 20
	var last []string
	compiled, downloaded := 0, 0
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			downloaded++
			step.Update("%d modules downloaded, now %s", downloaded, strings.TrimPrefix(line, "go: downloading "))
		case isPackage(line):
			compiled++
			step.Update("%d packages compiled, now %s", compiled, line)
		default:
			if last = append(last, line); len(last) > keep {
				last = slices.Delete(last, 0, 1)
			}
		}
	}
	// A line too long for the scanner: take the rest, or go would block on it.
	_, _ = io.Copy(io.Discard, r)
	return last
}

// isPackage says whether a line of `go build -v` is the name of a package.
func isPackage(line string) bool {
	return line != "" && !strings.ContainsAny(line, " :#\t")
}

// images builds pause and packs every image that nodes need.
func images(ctx context.Context, src Sources, build string) error {
	bin := filepath.Join(build, "bin")
	pause := filepath.Join(bin, "pause")
	cc := exec.CommandContext(ctx, "gcc", "-Os", "-static", "-s", "-o", pause, filepath.Join(string(src), "runtime", "pause", "pause.c"))
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("compile pause: %w:\n%s", err, out)
	}
	for file, spec := range nodeImages(bin) {
		if err := spec.Write(filepath.Join(build, "images", file+".tar")); err != nil {
			return fmt.Errorf("image %s: %w", file, err)
		}
	}
	return nil
}

// nodeImages are the images of [Images], from the binaries in a directory.
func nodeImages(bin string) map[string]image.Spec {
	single := func(name, program string) image.Spec {
		return image.Spec{Name: name, Entrypoint: []string{"/" + program},
			Files: []image.File{{Path: "/" + program, Source: filepath.Join(bin, program)}}}
	}
	box := image.Spec{Name: BusyBoxImage, Entrypoint: []string{"/bin/busybox"}, Cmd: []string{"sleep", "2147483647"},
		Files: []image.File{{Path: "/bin/busybox", Source: busyBox}}}
	for _, a := range applets {
		box.Files = append(box.Files, image.File{Path: "/bin/" + a, Link: "busybox"})
	}
	return map[string]image.Spec{
		"pause":          single(node.PauseImage, "pause"),
		"coredns":        single(addons.CoreDNSImage, "coredns"),
		"metrics-server": single(addons.MetricsServerImage, "metrics-server"),
		"busybox":        box,
	}
}

// prune removes builds that are not in use, and what killed builds left.
// Failing to is no reason to stop: it costs disk, no more.
func prune(dir state.Dir, keep ...string) {
	entries, err := os.ReadDir(dir.Builds())
	if err != nil {
		return
	}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			_ = os.RemoveAll(filepath.Join(dir.Builds(), e.Name()))
		}
	}
}

// Use points the bin link at a build.
func Use(dir state.Dir, key string) error {
	target := filepath.Join("builds", key, "bin")
	if old, err := os.Readlink(dir.Bin()); err == nil && old == target {
		return nil
	}
	tmp := fmt.Sprintf("%s.%d", dir.Bin(), os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, dir.Bin())
}
