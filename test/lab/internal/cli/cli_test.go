package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a command line in a fresh state directory.
func run(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	if os.Getenv("GRPCLB_LAB_STATE") == "" {
		t.Setenv("GRPCLB_LAB_STATE", t.TempDir())
	}
	var o, e bytes.Buffer
	code = Main(t.Context(), args, Streams{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func TestHelpListsEveryCommand(t *testing.T) {
	code, out, _ := run(t, "help")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for name, short := range clusterCommands {
		if !strings.Contains(out, name) || !strings.Contains(out, short) {
			t.Errorf("help lacks %s: %s", name, short)
		}
	}
	for _, hidden := range []string{"node-init", "forward"} {
		if strings.Contains(out, hidden) {
			t.Errorf("help shows %s, which nobody is to run", hidden)
		}
	}
}

func TestWrongUsageIsOneLineAndExitCode2(t *testing.T) {
	for _, args := range [][]string{
		{"no-such-command"}, {"image"}, {"image", "--name", "a:b", "x=/x"}, {"image", "--no-such-flag"},
	} {
		code, out, errOut := run(t, args...)
		if code != exitUsage || out != "" || strings.Count(errOut, "\n") != 1 || !strings.HasPrefix(errOut, "lab: ") {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, code, out, errOut)
		}
	}
}

func TestImageWritesAnArchiveWhereTheUserIs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "server"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	code, _, errOut := run(t, "image", "--name", "grpclb.dev/x:dev", "--entrypoint", "/server", "-o", "out.tar", "server=/server")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	if _, err := os.Stat(filepath.Join(dir, "out.tar")); err != nil {
		t.Error(err)
	}
	code, _, errOut = run(t, "image", "--name", "grpclb.dev/x:dev", "--entrypoint", "/server", "-o", "out.tar", "nothing")
	if code != exitFailure || !strings.Contains(errOut, "HOST=PATH") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// "go -C test/lab run ." starts the lab in test/lab, with the shell's own
// directory in PWD.
func TestRelativePathsAreTheShells(t *testing.T) {
	shell := t.TempDir()
	module, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for name, tc := range map[string]struct{ cwd, pwd, want string }{
		"go -C":            {module, shell, shell},
		"in the module":    {module, module, module},
		"PWD is gone":      {module, filepath.Join(shell, "gone"), module},
		"PWD is relative":  {module, ".", module},
		"a stale PWD":      {elsewhere, shell, elsewhere},
		"no PWD, anywhere": {elsewhere, "", elsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(tc.cwd)
			t.Setenv("PWD", tc.pwd)
			if got := resolve("x"); got != filepath.Join(tc.want, "x") {
				t.Errorf("got %s, want it in %s", got, tc.want)
			}
			if got := resolve("/abs"); got != "/abs" {
				t.Errorf("got %s", got)
			}
		})
	}
}
