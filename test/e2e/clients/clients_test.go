package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckSums(t *testing.T) {
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	dir := t.TempDir()
	for _, name := range []string{"a.jar", "b.jar"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct{ sums, want string }{
		"all there":      {empty + "  a.jar\n" + empty + "  b.jar\n", ""},
		"one unknown":    {empty + "  a.jar\n", "b.jar is not the file"},
		"one differs":    {empty + "  a.jar\n" + strings.Repeat("0", 64) + "  b.jar\n", "b.jar is not the file"},
		"one is missing": {empty + "  a.jar\n" + empty + "  b.jar\n" + empty + "  c.jar\n", "1 files that have a checksum are missing"},
	} {
		err := checkSums(dir, tt.sums)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestPinned: every client names versions and digests of what it fetches.
func TestPinned(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	requirements := read("python/requirements.txt")
	if strings.Count(requirements, "==") != 2 || strings.Count(requirements, "--hash=sha256:") < 2 {
		t.Errorf("python/requirements.txt:\n%s", requirements)
	}
	lock := read("node/package-lock.json")
	packages := strings.Count(lock, `"node_modules/`)
	if integrity := strings.Count(lock, `"integrity": "sha512-`); packages == 0 || integrity != packages {
		t.Errorf("node/package-lock.json: %d packages, %d digests", packages, integrity)
	}
	if n := strings.Count(read("java/jars.sha256"), ".jar\n"); n < 10 {
		t.Errorf("java/jars.sha256 has %d files", n)
	}
}

func TestMissing(t *testing.T) {
	c := Client{Needs: []string{"no-such-program", "sh"}, runtime: "sh"}
	if got := c.Missing(); len(got) != 1 || got[0] != "no-such-program" {
		t.Errorf("missing %v", got)
	}
}
