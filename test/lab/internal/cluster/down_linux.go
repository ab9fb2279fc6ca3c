package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/cgroup"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/network"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/preflight"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/proc"
	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// downTimeout bounds the end of a cluster, which takes about a second.
const downTimeout = 30 * time.Second

// Down takes the cluster down and leaves no process, mount, cgroup or
// namespace of it. It is not an error when there is none.
func (l *Lab) Down(ctx context.Context) error {
	if err := preflight.Root(); err != nil {
		return err
	}
	unlock, err := l.lock(ctx, "down")
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.onlyLab(); err != nil {
		return err
	}
	host, err := detectCgroups()
	if err != nil {
		// Without cgroups there can be none to remove; the rest can.
		l.Log.Note("%v", err)
	}
	found, err := l.Remains(host)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		l.Log.Note("the lab is down")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	return l.clear(ctx, host, "down")
}

func detectCgroups() (*cgroup.Host, error) {
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer info.Close()
	return cgroup.Detect(info)
}

// Remains lists, in words, what there is of a cluster on the machine: nothing
// after a Down. The host may be nil.
func (l *Lab) Remains(host *cgroup.Host) ([]string, error) {
	var found []string
	pids, err := l.finder(host)()
	if err != nil {
		return nil, err
	}
	if len(pids) > 0 {
		found = append(found, fmt.Sprintf("%d processes", len(pids)))
	}
	names, err := network.Namespaces()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		found = append(found, "network namespace "+n)
	}
	if host != nil && host.Exists(topology.CgroupBase) {
		found = append(found, "cgroup "+topology.CgroupBase)
	}
	mounts, err := l.mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		found = append(found, "mount "+m)
	}
	for _, path := range []string{l.Dir.Run(), l.Dir.Kubeconfig()} {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	return found, nil
}

// clear removes everything of a cluster, reported as a step when there is any.
func (l *Lab) clear(ctx context.Context, host *cgroup.Host, name string) error {
	found, err := l.Remains(host)
	if err != nil || len(found) == 0 {
		return err
	}
	step := l.Log.Begin(name)
	return step.End(l.remove(ctx, host), "removed "+summary(found))
}

// summary shortens a list of remains to a line.
func summary(found []string) string {
	const most = 3
	if len(found) <= most {
		return strings.Join(found, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(found[:most], ", "), len(found)-most)
}

// remove ends the processes first: they hold everything else.
func (l *Lab) remove(ctx context.Context, host *cgroup.Host) error {
	if err := proc.EndAll(ctx, l.finder(host)); err != nil {
		return err
	}
	if err := network.Teardown(); err != nil {
		return err
	}
	if host != nil {
		if err := host.Remove(ctx, topology.CgroupBase); err != nil {
			return err
		}
	}
	mounts, err := l.mounts()
	if err != nil {
		return err
	}
	// Inner mounts come later in the list.
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	if err := os.Remove(l.Dir.Kubeconfig()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(l.Dir.Run())
}

// mounts lists the mount points below the cluster's directory. There are none
// unless somebody else made one: nodes have mount namespaces of their own.
func (l *Lab) mounts() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return mountsBelow(string(b), l.Dir.Run()), nil
}

// mountsBelow returns the mount points at or below dir in a mountinfo text.
func mountsBelow(mountinfo, dir string) []string {
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	return found
}
