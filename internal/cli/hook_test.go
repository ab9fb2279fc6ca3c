package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestHookOnWindows: kubectl looks the name up with the extensions of PATHEXT, and a batch file must not run a program that lies in the
// folder where the user stands.
func TestHookOnWindows(t *testing.T) {
	h := hookFor("windows")
	if h.file != "kubectl_complete-grpclb.cmd" {
		t.Errorf("the file is called %s", h.file)
	}
	lines := strings.Split(h.content, "\r\n")
	at := func(want string) int {
		for i, l := range lines {
			if l == want {
				return i
			}
		}
		return -1
	}
	call := at("kubectl-grpclb __complete %*")
	if guard := at("set NoDefaultCurrentDirectoryInExePath=1"); call < 0 || guard < 0 || guard > call || lines[0] != "@echo off" {
		t.Errorf("the file holds\n%s", h.content)
	}
	if strings.Contains(strings.ReplaceAll(h.content, "\r\n", ""), "\n") {
		t.Error("a line ends in a bare line feed")
	}
}

// TestHookGoesWhereItMay: the plugin's folder first, then PATH in order; relative folders never.
func TestHookGoesWhereItMay(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		root := t.TempDir()
		blocked := filepath.Join(root, "blocked") // a file where a folder should be: nobody may write below it, not even root
		if err := os.WriteFile(blocked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		open := filepath.Join(root, "open")
		if err := os.Mkdir(open, 0o700); err != nil {
			t.Fatal(err)
		}
		p := searchPath{hook: hookFor(goos), dirs: []string{".", "", filepath.Join(blocked, "x"), open}, plugin: filepath.Join(blocked, binary)}
		dirs, err := p.candidates(hookFlags{})
		if err != nil {
			t.Fatal(err)
		}
		path, done, err := p.write(dirs, false)
		if want := filepath.Join(open, p.file); err != nil || path != want || done != "wrote" {
			t.Fatalf("%s: %s %q, %v; want %s", goos, done, path, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o755 {
			t.Errorf("%s: mode %v, %v", goos, info.Mode(), err)
		}
		left, err := os.ReadDir(open)
		if err != nil || len(left) != 1 {
			t.Errorf("%s: the folder holds %v, %v", goos, left, err)
		}

		p.dirs = p.dirs[:3]
		if dirs, err = p.candidates(hookFlags{}); err != nil {
			t.Fatal(err)
		}
		_, _, err = p.write(dirs, false)
		if err == nil || !strings.Contains(err.Error(), "no folder of PATH may be written to") {
			t.Errorf("%s: nowhere to write: %v", goos, err)
		}
	}
}

// TestValuesHaveCompletion: each flag with a value either completes it or says that it is no file.
func TestValuesHaveCompletion(t *testing.T) {
	a := &app{config: configFlags()}
	n := 0
	for _, c := range a.root().Commands() {
		for _, name := range []string{"client", "from", "probe-from", "dns-namespace", "timeout", "image", "interval", "calls", "name", "selector", "cluster-domain"} {
			if c.Flags().Lookup(name) == nil || name == "from" && c.Name() != "probe" {
				continue
			}
			n++
			if _, ok := c.GetFlagCompletionFunc(name); !ok {
				t.Errorf("%s --%s completes file names", c.Name(), name)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d flags were looked at", n)
	}
}
