// Package cgroup makes and removes the lab's control groups on hosts of both
// kinds: with one unified hierarchy (cgroup v2) and with one a controller (v1).
//
// It makes groups, puts processes into them, lists and removes them. Limits
// are the kubelet's and runc's business, not this package's. A group is named
// by its path from the root of the hierarchies ("grpclb-lab/n1").
//
// Rules implemented: the kernel's Documentation/admin-guide/cgroup-v2.rst (a
// group has processes or enables controllers for its children, never both)
// and cgroup-v1/cpusets.rst (a cpuset takes a process only once it has cpus
// and memory nodes).
package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wanted are the controllers that a kubelet asks of its root group, where the
// host has them, and io, which cAdvisor reads.
var wanted = []string{"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}

// required are those without which a kubelet does not start.
var required = []string{"cpu", "cpuset", "memory", "pids"}

// removePoll is the pause between two attempts to remove a group that was
// just emptied.
const removePoll = 10 * time.Millisecond

// Host is the cgroup file systems of a machine. Make one with [Detect].
type Host struct {
	// Version is 1 or 2.
	Version int
	// hierarchies are the mount points: one on v2, one a controller (or pair
	// of controllers) on v1.
	hierarchies []string
	// cpusets is the one of them with the cpuset controller, on v1.
	cpusets string
	// besides are v2 hierarchies without controllers on a v1 host. Programs make
	// groups there too, which this package lists and removes.
	besides []string
}

// Detect reads the machine's cgroup file systems from the text of
// /proc/self/mountinfo (proc(5)). A host that has both kinds, as some have
// while they move from one to the other, counts as v1: that is where its
// controllers are.
func Detect(mountinfo io.Reader) (*Host, error) {
	v1 := &Host{Version: 1}
	v2 := &Host{Version: 2}
	var controllers []string
	sc := bufio.NewScanner(mountinfo)
	for sc.Scan() {
		point, fstype, options, ok := parseMount(sc.Text())
		if !ok {
			continue
		}
		switch {
		case fstype == "cgroup2" && point == "/sys/fs/cgroup":
			v2.hierarchies = []string{point}
		case fstype == "cgroup2":
			v1.besides = append(v1.besides, point)
		case fstype == "cgroup" && !slices.Contains(v1.hierarchies, point):
			names := strings.Split(options, ",")
			v1.hierarchies = append(v1.hierarchies, point)
			controllers = append(controllers, names...)
			if slices.Contains(names, "cpuset") {
				v1.cpusets = point
			}
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(v2.hierarchies) > 0 {
		return v2, nil
	}
	if len(v1.hierarchies) == 0 {
		return nil, errors.New("no cgroup file system is mounted below /sys/fs/cgroup")
	}
	for _, c := range required {
		if !slices.Contains(controllers, c) {
			return nil, fmt.Errorf("the kernel's cgroup controller %q is not mounted", c)
		}
	}
	return v1, nil
}

// parseMount takes one line of mountinfo apart. Spaces in a mount point are
// written \040 there.
func parseMount(line string) (point, fstype, superOptions string, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !found || len(left) < 5 || len(right) < 3 {
		return "", "", "", false
	}
	return strings.ReplaceAll(left[4], `\040`, " "), right[0], right[2], true
}

// Usable reports why groups cannot be made, when that can be told beforehand:
// in a container with a v2 hierarchy of its own, whose root is an inner group
// of the machine's and therefore, with processes in it, has no children with
// controllers.
func (h *Host) Usable() error {
	if h.Version != 2 {
		return nil
	}
	root := h.hierarchies[0]
	// The machine's own root, which is free of that rule, has no type.
	if _, err := os.Stat(filepath.Join(root, "cgroup.type")); err != nil {
		return nil
	}
	procs, err := os.ReadFile(filepath.Join(root, "cgroup.procs"))
	if err != nil {
		return err
	}
	if len(procs) > 0 {
		return errors.New("this is a container whose processes are in the root of its cgroups: run it with --cgroupns=host, or the lab outside of it")
	}
	return nil
}

// Paths returns the directories of a group, one a hierarchy.
func (h *Host) Paths(group string) []string { return below(h.hierarchies, group) }

// everywhere is Paths and the hierarchies besides.
func (h *Host) everywhere(group string) []string {
	return append(h.Paths(group), below(h.besides, group)...)
}

func below(roots []string, group string) []string {
	paths := make([]string, len(roots))
	for i, root := range roots {
		paths[i] = filepath.Join(root, group)
	}
	return paths
}

// Create makes a group and its ancestors, fit to hold child groups with every
// controller a kubelet asks for. It is not an error when they are there.
func (h *Host) Create(group string) error {
	for _, root := range h.hierarchies {
		at := root
		if h.Version == 2 {
			if err := enable(at); err != nil {
				return err
			}
		}
		for part := range strings.SplitSeq(group, "/") {
			parent := at
			at = filepath.Join(at, part)
			if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			var err error
			switch {
			case h.Version == 2:
				err = enable(at)
			case root == h.cpusets:
				err = inheritCPUSet(parent, at)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// CreateLeaf makes a group for processes: its ancestors as [Host.Create]
// does, itself without controllers for children, which on v2 would bar
// processes from it.
func (h *Host) CreateLeaf(group string) error {
	if err := h.Create(filepath.Dir(group)); err != nil {
		return err
	}
	for i, path := range h.Paths(group) {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if h.Version == 1 && h.hierarchies[i] == h.cpusets {
			if err := inheritCPUSet(filepath.Dir(path), path); err != nil {
				return err
			}
		}
	}
	return nil
}

// enable gives the children of a v2 group the controllers that it has and
// that are wanted.
func enable(dir string) error {
	has, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	change := Delegation(string(has))
	for _, c := range required {
		if !strings.Contains(change+" ", "+"+c+" ") {
			return fmt.Errorf("cgroup %s has no %s controller: it is off in the kernel or not delegated", dir, c)
		}
	}
	err = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(change), 0o644)
	if err != nil {
		return fmt.Errorf("hand the controllers of cgroup %s to its children (%s): %w", dir, change, err)
	}
	return nil
}

// Delegation returns what to write into cgroup.subtree_control given the
// content of cgroup.controllers: "+cpu +memory".
func Delegation(controllers string) string {
	var on []string
	for c := range strings.FieldsSeq(controllers) {
		if slices.Contains(wanted, c) {
			on = append(on, "+"+c)
		}
	}
	return strings.Join(on, " ")
}

// inheritCPUSet gives a new v1 cpuset its parent's cpus and memory nodes.
func inheritCPUSet(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(child, file), value, 0o644); err != nil {
			return fmt.Errorf("set %s of cgroup %s: %w", file, child, err)
		}
	}
	return nil
}

// Join moves a process into a group; pid 0 is the caller.
func (h *Host) Join(group string, pid int) error {
	for _, dir := range h.Paths(group) {
		err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
		if err != nil {
			return fmt.Errorf("put process %d into cgroup %s: %w", pid, dir, err)
		}
	}
	return nil
}

// PIDs returns the processes in a group and in all groups below it; none when
// the group is not there.
func (h *Host) PIDs(group string) ([]int, error) {
	found := map[int]bool{}
	for _, dir := range h.everywhere(group) {
		err := walk(dir, func(path string) error {
			b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			if err != nil {
				return err
			}
			for field := range strings.FieldsSeq(string(b)) {
				// A process outside of our pid namespace shows as 0.
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					found[pid] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	pids := make([]int, 0, len(found))
	for pid := range found {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids, nil
}

// Exists says whether any hierarchy has the group.
func (h *Host) Exists(group string) bool {
	return slices.ContainsFunc(h.everywhere(group), func(dir string) bool {
		_, err := os.Stat(dir)
		return err == nil
	})
}

// Remove removes a group and all groups below it, which must hold no live
// process. The kernel lets go of a dead process's group a little later than of
// the process, so it tries until ctx ends.
func (h *Host) Remove(ctx context.Context, group string) error {
	for {
		var last error
		for _, dir := range h.everywhere(group) {
			last = errors.Join(last, walk(dir, os.Remove))
		}
		if last == nil && !h.Exists(group) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("remove cgroup %s: %w", group, ctx.Err()), last)
		case <-time.After(removePoll):
		}
	}
}

// walk calls f for dir and every directory below it, children first. A
// directory that vanishes meanwhile is no error.
func walk(dir string, f func(path string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(dir, e.Name()), f); err != nil {
				return err
			}
		}
	}
	if err := f(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
