package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Graceful is how long a program has to end by itself after an interrupt. The
// plugin deletes its pod then, the lab takes down what it had started.
const Graceful = time.Minute

// Bed is a cluster and the way to it. Its programs run in Root with the
// cluster's kubectl and the plugin's folder in front of PATH.
type Bed struct {
	// Root is the repository's folder.
	Root string
	// Context is the kubeconfig context that was named; empty for the lab.
	Context string
	// Kubeconfig is the lab's file; empty for a context that was named, which is
	// looked up as kubectl does.
	Kubeconfig string
	// Audit is the API server's audit log, one JSON event a line; empty when the
	// cluster keeps none within reach.
	Audit string
	// Path lists the folders that stand in front of PATH, first the foremost.
	Path []string
}

// Lab reports whether the cluster is the project's own.
func (b *Bed) Lab() bool { return b.Context == "" }

// UnfitError says in one sentence why this machine cannot run the lab.
type UnfitError struct{ Reason string }

// Error returns the sentence.
func (e *UnfitError) Error() string { return e.Reason }

// LabStatus is what the lab says of itself.
type LabStatus struct {
	State      string `json:"state"` // up, degraded, partial or down
	Kubeconfig string `json:"kubeconfig"`
	Bin        string `json:"bin"`
	AuditLog   string `json:"auditLog"`
}

// Up reports whether somebody started the lab; one that was left half started
// does not count.
func (s LabStatus) Up() bool { return s.State == "up" || s.State == "degraded" }

// LabCommand returns the command line of one of the lab's commands.
func LabCommand(args ...string) []string {
	return append([]string{"go", "-C", "test/lab", "run", "."}, args...)
}

// FindRoot returns the repository's folder: the nearest one upwards from the
// working directory with the project's Makefile.
func FindRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "Makefile")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no Makefile in %s or above: start it inside the repository", start)
		}
	}
}

// Named returns the cluster of a kubeconfig context. It does not look whether
// the context exists: the first command will tell.
func Named(root, context string) (*Bed, error) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		return nil, errors.New("kubectl is missing: install it from https://kubernetes.io/docs/tasks/tools/")
	}
	return &Bed{Root: root, Context: context}, nil
}

// Lab returns the lab, whatever its state, and that state. It starts nothing.
// The error is an UnfitError where the lab cannot run.
func Lab(ctx context.Context, root string) (*Bed, LabStatus, error) {
	bed := &Bed{Root: root}
	var s LabStatus
	if err := bed.check(ctx, ableUser()); err != nil {
		return nil, s, err
	}
	out, err := bed.output(ctx, LabCommand("status", "-o", "json")...)
	if err != nil {
		return nil, s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return nil, s, fmt.Errorf("read the lab's status: %w", err)
	}
	bed.Kubeconfig, bed.Audit = s.Kubeconfig, s.AuditLog
	bed.Path = []string{s.Bin}
	return bed, s, nil
}

// check lets the lab judge the machine where that costs nothing. What root on
// Linux still may lack, a kernel module say, `up` tells in the same words after
// it has installed what can be installed.
func (b *Bed) check(ctx context.Context, able bool) error {
	if able {
		return nil
	}
	cmd := b.Command(ctx, LabCommand("check")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	for line := range strings.Lines(stderr.String()) {
		if reason, ok := strings.CutPrefix(strings.TrimSpace(line), "lab: "); ok {
			return &UnfitError{reason}
		}
	}
	return fmt.Errorf("ask the lab whether it can run here: %w: %s", err, strings.TrimSpace(stderr.String()))
}

// Environ is the environment of every program: the process's own, with the
// cluster's kubeconfig and PATH.
func (b *Bed) Environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		// make passes its own flags and variables down; they are not for a make that is started here.
		return slices.Contains([]string{"PATH", "KUBECONFIG", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}, name) &&
			(name != "KUBECONFIG" || b.Kubeconfig != "")
	})
	if b.Kubeconfig != "" {
		env = append(env, "KUBECONFIG="+b.Kubeconfig)
	}
	path := append(slices.Clone(b.Path), os.Getenv("PATH"))
	return append(env, "PATH="+strings.Join(path, string(os.PathListSeparator)))
}

// Command returns a program that is ready to start. When ctx ends, it and all
// that it started get an interrupt, and after Graceful it is killed.
func (b *Bed) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.lookUp(argv[0]), argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Dir = b.Root
	// PWD is how the lab knows the folder that relative paths start from, past "go -C".
	cmd.Env = append(b.Environ(), "PWD="+b.Root)
	cmd.WaitDelay = Graceful
	ownGroup(cmd)
	return cmd
}

// lookUp finds a program in Path, since a command is looked up by this
// process's PATH and not by the one it gets.
func (b *Bed) lookUp(name string) string {
	if strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	for _, dir := range b.Path {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found
		}
	}
	return name
}

// Kubectl returns the command line of a kubectl command on this cluster.
func (b *Bed) Kubectl(args ...string) []string {
	argv := append([]string{"kubectl"}, args...)
	if b.Context != "" {
		argv = append(argv, "--context", b.Context)
	}
	return argv
}

func (b *Bed) output(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := b.Command(ctx, argv...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
