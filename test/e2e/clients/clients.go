// Package clients makes gRPC clients of other languages ready to run in pods of the lab: stock libraries from the languages' own
// registries, at versions and with checksums that are written down in the folders beside this file.
//
// No image is built. The lab's nodes are on this machine, so a pod mounts the machine's own interpreters, read-only, and the folder that
// [Client.Prepare] filled. It needs what [Client.Needs] lists, which test/run installs where it may.
//
// Each client calls the square example's findSquareUnary, one call after the other at the rate that it is told (Node.js does not wait for
// the answer before the next), with a deadline that a stalled machine does not miss, no retries of its own and its library's default policy.
// Once a second it prints a [Line].
package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Line is what a client prints, all since its start.
type Line struct {
	Calls, Failed int
	// Hosts counts the answers by the pod that gave them, Errors the failures by their text.
	Hosts, Errors map[string]int
}

// Client is one of them.
type Client struct {
	// Name is for people and for names of pods.
	Name string
	// Needs are the programs without which it cannot be prepared.
	Needs []string

	folder  string // its sources, below this one
	runtime string // of Needs, the program that runs it and has to be in the pod
	prepare func(ctx context.Context, src, dir string) error
	command func(program, dir string) []string
}

// All lists the clients.
func All() []Client {
	java := func(transport string) Client {
		return Client{
			Name: "java-" + transport, Needs: []string{"java", "javac", "mvn"}, folder: "java", runtime: "java", prepare: prepareJava,
			command: func(program, dir string) []string {
				return []string{program, "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", dir + "/lib/*:" + dir + "/classes", "Client", transport}
			},
		}
	}
	return []Client{
		{
			Name: "python", Needs: []string{"python3", "pip3"}, folder: "python", runtime: "python3", prepare: preparePython,
			command: func(program, dir string) []string {
				// The path is set in the program because a pod's environment belongs to the test.
				run := "import runpy, sys; sys.path.insert(0, '" + dir + "/lib'); runpy.run_path('" + dir + "/client.py', run_name='__main__')"
				return []string{program, "-B", "-c", run}
			},
		},
		java("netty"), java("okhttp"),
		{
			Name: "node", Needs: []string{"node", "npm"}, folder: "node", runtime: "node", prepare: prepareNode,
			command: func(program, dir string) []string {
				return []string{program, "--max-old-space-size=96", dir + "/client.js"}
			},
		},
		{
			// grpc_cpp_plugin stands for gRPC's headers: it is of the same source package.
			Name: "cpp", Needs: []string{"g++", "pkg-config", "grpc_cpp_plugin"}, folder: "cpp", prepare: prepareCpp,
			command: func(_, dir string) []string { return []string{dir + "/client"} },
		},
	}
}

// Missing lists what Needs names and this machine lacks. What runs in a pod has to be below /usr, which the pod mounts.
func (c Client) Missing() []string {
	var out []string
	for _, p := range c.Needs {
		if _, err := find(p, p == c.runtime); err != nil {
			out = append(out, p)
		}
	}
	return out
}

// find looks a program up; one for a pod where distributions put it, since what a user's version manager puts in front is elsewhere.
func find(program string, forPod bool) (string, error) {
	if !forPod {
		return exec.LookPath(program)
	}
	for _, dir := range []string{"/usr/bin", "/usr/local/bin"} {
		if found, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s: %w below /usr", program, exec.ErrNotFound)
}

// Ready is a client that a pod can run.
type Ready struct {
	// Command starts it; the target and the calls a second follow.
	Command []string
	// Mounts are the machine's folders that the pod needs at the same paths, read-only.
	Mounts []string
}

var preparing sync.Mutex // one at a time: each uses what cores there are

// Prepare fetches and compiles what is not there from an earlier time, which takes some seconds for each. src is this package's folder.
func (c Client) Prepare(ctx context.Context, src string) (Ready, error) {
	preparing.Lock()
	defer preparing.Unlock()
	program := ""
	if c.runtime != "" {
		var err error
		if program, err = find(c.runtime, true); err != nil {
			return Ready{}, err
		}
	}
	src, err := filepath.Abs(filepath.Join(src, c.folder))
	if err != nil {
		return Ready{}, err
	}
	dir, err := c.dir(ctx, src, program)
	if err != nil {
		return Ready{}, fmt.Errorf("client %s: %w", c.Name, err)
	}
	return Ready{Command: c.command(program, dir), Mounts: append(system(), dir)}, nil
}

// dir returns the client's folder in the cache and makes it when it is not there. Its name is a digest of all that goes into it.
func (c Client) dir(ctx context.Context, src, program string) (string, error) {
	key, err := digest(ctx, src, program)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "kubectl-grpclb-clients")
	dir := filepath.Join(cache, c.folder+"-"+key)
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	making, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(making) // nothing to remove after the rename
	// The pod's user is nobody in particular.
	if err := os.Chmod(making, 0o755); err != nil {
		return "", err
	}
	if err := c.prepare(ctx, src, making); err != nil {
		return "", err
	}
	return dir, os.Rename(making, dir)
}

// digest is of the sources and of what the interpreter says about its version.
func digest(ctx context.Context, src, program string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(src, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		fmt.Fprintf(h, "%s %d\n%s", d.Name(), len(text), text)
		return err
	})
	if err != nil {
		return "", err
	}
	if program != "" {
		argv := []string{"--version"}
		if filepath.Base(program) == "java" {
			argv[0] = "-version"
		}
		out, err := exec.CommandContext(ctx, program, argv...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", program, argv[0], err)
		}
		_, _ = h.Write(out) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// system lists the machine's folders with interpreters and their libraries.
func system() []string {
	out := []string{"/usr"}
	for _, dir := range []string{"/lib", "/lib64", "/etc/alternatives"} {
		if _, err := os.Stat(dir); err == nil {
			out = append(out, dir)
		}
	}
	java, err := filepath.Glob("/etc/java-*") // Debian's JDK has links to its configuration
	if err != nil {
		return out
	}
	return append(out, java...)
}

// preparePython lets pip choose the wheel for the interpreter that will run it, which need not be pip's own.
func preparePython(ctx context.Context, src, dir string) error {
	python, err := find("python3", true)
	if err != nil {
		return err
	}
	version, err := exec.CommandContext(ctx, python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", python, err)
	}
	err = run(ctx, dir, "pip3", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", strings.TrimSpace(string(version)),
		"--require-hashes", "--requirement", filepath.Join(src, "requirements.txt"), "--target", filepath.Join(dir, "lib"))
	return errors.Join(err, copyFile(src, dir, "client.py"))
}

// prepareNode lets npm take what the lock file names, whose digests it checks.
func prepareNode(ctx context.Context, src, dir string) error {
	for _, name := range []string{"client.js", "package.json", "package-lock.json"} {
		if err := copyFile(src, dir, name); err != nil {
			return err
		}
	}
	return run(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
}

// prepareJava holds what Maven fetched against the checksums, and compiles.
func prepareJava(ctx context.Context, src, dir string) error {
	if err := copyFile(src, dir, "pom.xml"); err != nil {
		return err
	}
	if err := run(ctx, dir, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib", "-DincludeScope=runtime"); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(src, "jars.sha256"))
	if err != nil {
		return err
	}
	if err := checkSums(filepath.Join(dir, "lib"), string(sums)); err != nil {
		return err
	}
	return run(ctx, dir, "javac", "-Xlint:all", "-cp", filepath.Join(dir, "lib", "*"), "-d", "classes", filepath.Join(src, "Client.java"))
}

func prepareCpp(ctx context.Context, src, dir string) error {
	flags, err := exec.CommandContext(ctx, "pkg-config", "--cflags", "--libs", "grpc++").Output()
	if err != nil {
		return fmt.Errorf("pkg-config grpc++: %w", err)
	}
	return run(ctx, dir, append([]string{"g++", "-O1", "-std=c++17", "-Wall", "-o", "client", filepath.Join(src, "client.cc")}, strings.Fields(string(flags))...)...)
}

// checkSums holds every file of a folder against lines as sha256sum writes them: no other file, none that differs.
func checkSums(dir, sums string) error {
	want := map[string]string{}
	for line := range strings.Lines(sums) {
		if f := strings.Fields(line); len(f) == 2 {
			want[f[1]] = f[0]
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(text); want[f.Name()] != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("%s is not the file that was looked at: its sha256 is %x", f.Name(), sum)
		}
		delete(want, f.Name())
	}
	if len(want) > 0 {
		return fmt.Errorf("%d files that have a checksum are missing in %s", len(want), dir)
	}
	return nil
}

func copyFile(src, dir, name string) error {
	in, err := os.Open(filepath.Join(src, name))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// run runs a program whose output matters only when it fails.
func run(ctx context.Context, dir string, argv ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out.String())
	}
	return nil
}
