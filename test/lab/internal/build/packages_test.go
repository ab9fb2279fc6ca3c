package build

import (
	"path/filepath"
	"testing"
)

func TestHaveLists(t *testing.T) {
	full := tree(t, map[string]string{"deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4": "x"})
	empty := tree(t, map[string]string{"lock": "", "partial/x_Packages.tmp/keep": ""})
	for dir, want := range map[string]bool{full: true, empty: false, filepath.Join(empty, "none"): false} {
		if got := haveLists(dir); got != want {
			t.Errorf("haveLists(%s) = %v", dir, got)
		}
	}
}

func TestEveryNeedHasAPackageAndAnswers(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range needs {
		if n.pkg == "" || seen[n.pkg] {
			t.Errorf("package %q is unnamed or doubled", n.pkg)
		}
		seen[n.pkg] = true
		n.there()
	}
}

func TestProgramsAreFoundOutsideOfPATH(t *testing.T) {
	dir := tree(t, map[string]string{"nft": ""})
	old := sbin
	t.Cleanup(func() { sbin = old })
	sbin = []string{dir}
	t.Setenv("PATH", "/nowhere")
	if !program("nft")() {
		t.Error("a program in sbin was not found")
	}
	if program("no-such-program")() {
		t.Error("a program that is nowhere was found")
	}
}

func TestTail(t *testing.T) {
	if got := tail("a\nb\nc\n", 2); got != "b\nc" {
		t.Errorf("%q", got)
	}
	if got := tail("a", 2); got != "a" {
		t.Errorf("%q", got)
	}
}
