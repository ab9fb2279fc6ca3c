package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls are machine-wide values that a kubelet demands and would set. The
// node is shown what it wants to see instead.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mounts arranges the node's view of the file system.
func (m *machine) mounts() error {
	// Nothing mounted from here on may show up outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep the node's mounts to itself: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// Opened first: the state directory may be below what gets covered.
	dir, err := os.Open(string(m.spec.State))
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, cover := range []string{"/run", "/var/lib", "/var/log"} {
		if err := unix.Mount("tmpfs", cover, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("cover %s: %w", cover, err)
		}
	}
	if err := bind(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), inside); err != nil {
		return err
	}
	own := m.spec.seen(m.spec.State.Node(m.spec.Node.Name))
	for _, name := range []string{"kubelet", "containerd"} {
		if err := bind(filepath.Join(own, name), filepath.Join("/var/lib", name)); err != nil {
			return err
		}
	}
	// iptables keeps its lock in /run, CNI its namespaces in /run/netns.
	for _, d := range []string{"/run/netns", "/run/lock", "/var/log/pods", "/var/log/containers"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for key, value := range sysctls {
		if err := cover(filepath.Join("/proc/sys", key), value+"\n"); err != nil {
			return err
		}
	}
	// The machine's resolvers are out of reach: asked for a registry they would
	// cost a minute. Without one, containerd asks loopback and is refused at once.
	if err := cover("/etc/resolv.conf", ""); err != nil {
		return err
	}
	// The kubelet shares volumes with containers through shared mounts.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts with containers: %w", err)
	}
	return nil
}

func bind(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, to, err)
	}
	return nil
}

// cover hides a file behind one with other content. What is not there needs
// no cover: a kernel has not every sysctl.
func cover(target, content string) error {
	if _, err := os.Stat(target); err != nil {
		return nil
	}
	file := filepath.Join("/run/cover", strings.ReplaceAll(target, "/", "."))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover %s: %w", target, err)
	}
	return nil
}
