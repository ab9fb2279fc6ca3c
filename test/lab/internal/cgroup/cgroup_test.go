package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	v1Info = `24 22 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:22 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
26 24 0:23 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
27 24 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 24 0:25 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
29 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
28 24 0:25 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
`
	v2Info = `22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
35 24 0:29 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
`
)

func TestDetect(t *testing.T) {
	for name, tc := range map[string]struct {
		info    string
		version int
		paths   []string
		bad     string
	}{
		"v2": {info: v2Info, version: 2, paths: []string{"/sys/fs/cgroup/lab"}},
		"v1 with an empty v2 beside it": {info: v1Info, version: 1, paths: []string{
			"/sys/fs/cgroup/cpu,cpuacct/lab", "/sys/fs/cgroup/cpuset/lab", "/sys/fs/cgroup/memory/lab", "/sys/fs/cgroup/pids/lab",
		}},
		"v1 without pids": {info: strings.ReplaceAll(v1Info, "rw,pids", "rw,blkio"), bad: `"pids" is not mounted`},
		"none":            {info: "22 1 254:0 / / rw - ext4 /dev/vda rw\n", bad: "no cgroup file system"},
		"empty":           {info: "", bad: "no cgroup file system"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := Detect(strings.NewReader(tc.info))
			if tc.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tc.bad) {
					t.Fatalf("error %v, want one with %q", err, tc.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Version != tc.version {
				t.Errorf("version %d, want %d", h.Version, tc.version)
			}
			if d := cmp.Diff(tc.paths, h.Paths("lab")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDelegation(t *testing.T) {
	for in, want := range map[string]string{
		"cpuset cpu io memory hugetlb pids rdma misc\n": "+cpuset +cpu +io +memory +hugetlb +pids",
		"cpu memory\n": "+cpu +memory",
		"":             "",
	} {
		if got := Delegation(in); got != want {
			t.Errorf("Delegation(%q) = %q, want %q", in, got, want)
		}
	}
}

// fakeV2 is a directory that looks like a v2 hierarchy. New groups in a real
// one are born with their files; here they are prepared for the named groups.
func fakeV2(t *testing.T, controllers string, groups ...string) *Host {
	t.Helper()
	root := t.TempDir()
	for _, g := range append([]string{""}, groups...) {
		dir := filepath.Join(root, g)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"cgroup.controllers", "cgroup.subtree_control", "cgroup.procs"} {
			content := ""
			if f == "cgroup.controllers" {
				content = controllers
			}
			if err := os.WriteFile(filepath.Join(dir, f), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &Host{Version: 2, hierarchies: []string{root}}
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestV2LeafHasProcessesAndItsAncestorsControllers(t *testing.T) {
	h := fakeV2(t, "cpuset cpu memory pids\n", "lab", "lab/n1", "lab/n1/system")
	if err := h.CreateLeaf("lab/n1/system"); err != nil {
		t.Fatal(err)
	}
	root := h.hierarchies[0]
	for _, g := range []string{"", "lab", "lab/n1"} {
		if got := read(t, root, g, "cgroup.subtree_control"); got != "+cpuset +cpu +memory +pids" {
			t.Errorf("%q delegates %q", g, got)
		}
	}
	if got := read(t, root, "lab/n1/system", "cgroup.subtree_control"); got != "" {
		t.Errorf("the leaf delegates %q: no process could join it", got)
	}
	if err := h.Join("lab/n1/system", 4711); err != nil {
		t.Fatal(err)
	}
	pids, err := h.PIDs("lab")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int{4711}, pids); d != "" {
		t.Error(d)
	}
}

func TestV2MissingControllerIsNamed(t *testing.T) {
	h := fakeV2(t, "cpu memory pids\n", "lab")
	if err := h.Create("lab"); err == nil || !strings.Contains(err.Error(), "no cpuset controller") {
		t.Errorf("error %v", err)
	}
}

func TestContainerWithProcessesInItsRootIsRefused(t *testing.T) {
	h := fakeV2(t, "cpuset cpu memory pids\n")
	if err := h.Usable(); err != nil {
		t.Errorf("the machine's own root: %v", err)
	}
	root := h.hierarchies[0]
	if err := os.WriteFile(filepath.Join(root, "cgroup.type"), []byte("domain\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.Usable(); err != nil {
		t.Errorf("a container with an empty root: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.Usable(); err == nil || !strings.Contains(err.Error(), "--cgroupns=host") {
		t.Errorf("error %v", err)
	}
}

func TestV1CpusetIsInherited(t *testing.T) {
	root := t.TempDir()
	h := &Host{Version: 1, hierarchies: []string{filepath.Join(root, "cpuset"), filepath.Join(root, "pids")}}
	h.cpusets = h.hierarchies[0]
	for _, dir := range h.hierarchies {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for f, v := range map[string]string{"cpuset.cpus": "0-1", "cpuset.mems": "0"} {
		if err := os.WriteFile(filepath.Join(h.cpusets, f), []byte(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.CreateLeaf("lab/n1"); err != nil {
		t.Fatal(err)
	}
	for _, g := range []string{"lab", "lab/n1"} {
		if got := read(t, h.cpusets, g, "cpuset.cpus"); got != "0-1" {
			t.Errorf("%s has cpus %q", g, got)
		}
		if _, err := os.Stat(filepath.Join(h.hierarchies[1], g)); err != nil {
			t.Error(err)
		}
	}
}

func TestRemoveTakesWholeTreeAndIsIdempotent(t *testing.T) {
	root := t.TempDir()
	h := &Host{Version: 1, hierarchies: []string{root}}
	if err := os.MkdirAll(filepath.Join(root, "lab", "n1", "kubepods", "pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for range 2 {
		if err := h.Remove(ctx, "lab"); err != nil {
			t.Fatal(err)
		}
		if h.Exists("lab") {
			t.Fatal("it is still there")
		}
	}
}

func TestGroupsInAHierarchyBesidesAreFoundAndRemoved(t *testing.T) {
	h, err := Detect(strings.NewReader(v1Info))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/sys/fs/cgroup/unified"}, h.besides); d != "" {
		t.Error(d)
	}
	h = &Host{Version: 1, hierarchies: []string{t.TempDir()}, besides: []string{t.TempDir()}}
	dir := filepath.Join(h.besides[0], "lab", "n1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if !h.Exists("lab") {
		t.Error("it was not found")
	}
	if err := h.Remove(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestRemoveGivesUpWithTheReason(t *testing.T) {
	root := t.TempDir()
	h := &Host{Version: 1, hierarchies: []string{root}}
	dir := filepath.Join(root, "lab")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// A file keeps the directory from going, as a process does with a real group.
	if err := os.WriteFile(filepath.Join(dir, "busy"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*removePoll)
	defer cancel()
	if err := h.Remove(ctx, "lab"); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("error %v", err)
	}
}
