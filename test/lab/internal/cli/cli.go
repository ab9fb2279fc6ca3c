// Package cli is the lab's command line.
//
// Output rules: answers go to stdout, progress and errors to stderr; an error
// is one line that starts with "lab:". Exit codes are those of [Main].
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/build"
)

// Streams are the standard streams of a command.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exit codes. ("go run" reports any of them but 0 as 1.)
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// Main runs one command line and returns its exit code: 0 done, 1 failed, 2
// wrong usage, 130 interrupted. kubectl's own code is passed on.
func Main(ctx context.Context, args []string, streams Streams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	// Whatever fails before a command begins is the command line's fault.
	begun := false
	for _, cmd := range root.Commands() {
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			begun = true
			return run(cmd, args)
		}
	}
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(streams.Err, "lab: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(streams.Err, "lab: %v\n", err)
	if !begun {
		return exitUsage
	}
	return exitFailure
}

// exitCode is the exit code of a program that ran in place of the lab; it has
// said itself what there was to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRoot(streams Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "A real Kubernetes cluster on one Linux machine",
		Long: `A real Kubernetes cluster on one Linux machine, built from Go modules: the stock
control plane in one process, and nodes with the stock kubelet, containerd, runc
and kube-proxy, each in namespaces of its own. Nothing in it can reach the
machine's network; the API server is on a loopback port.`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.AddCommand(newImage())
	root.AddCommand(platformCommands(streams)...)
	return root
}

// userDir is the directory that relative paths of the command line refer to.
// "go -C DIR run ." moves to DIR before it starts the lab, while paths are
// typed in the directory before that, which the shell still has in PWD.
func userDir() string {
	cwd, err := os.Getwd()
	if err != nil {
		return "."
	}
	pwd := os.Getenv("PWD")
	src, err := build.FindSources(cwd)
	if err != nil || !sameDir(string(src), cwd) || !filepath.IsAbs(pwd) {
		return cwd
	}
	if info, err := os.Stat(pwd); err != nil || !info.IsDir() {
		return cwd
	}
	return pwd
}

func sameDir(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// resolve makes a path of the command line absolute.
func resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(userDir(), path)
}
