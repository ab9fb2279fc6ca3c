// Package network builds the lab's network: a namespace for the control plane
// with a bridge in it, and one for each node joined to that bridge.
//
// None of them has a link to the machine's own network: whatever runs in the
// lab can reach the lab only. What crosses is a connection that a process
// outside opens by entering a namespace for a moment ([Do]).
package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/grpclb/kubectl-grpclb/test/lab/internal/topology"
)

// namedDir is where named network namespaces are bound, as ip-netns(8) has it.
const namedDir = "/run/netns"

// nodeLink is a node's interface to the bridge, seen from the node.
const nodeLink = "eth0"

// Do runs f in the named network namespace and waits for it. A process that f
// starts lives there. The thread is given up afterwards rather than moved
// back, so that a failure to move it cannot leak into other goroutines.
func Do(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			ns, err := netns.GetFromName(name)
			if err != nil {
				return fmt.Errorf("open network namespace %s: %w", name, err)
			}
			defer ns.Close()
			if err := netns.Set(ns); err != nil {
				return fmt.Errorf("enter network namespace %s: %w", name, err)
			}
			return f()
		}()
	}()
	return <-done
}

// DoScratch runs f in a network namespace of its own that ends with it.
func DoScratch(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Setup makes all namespaces, links, addresses and routes. It expects none of
// them to exist; see [Teardown].
func Setup(nodes []topology.Node) error {
	if err := create(topology.ControlNetns); err != nil {
		return err
	}
	if err := Do(topology.ControlNetns, controlSide); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := create(n.Netns); err != nil {
			return err
		}
		if err := joinBridge(n); err != nil {
			return fmt.Errorf("join node %s to the bridge: %w", n.Name, err)
		}
		if err := Do(n.Netns, func() error { return nodeSide(n, nodes) }); err != nil {
			return fmt.Errorf("network of node %s: %w", n.Name, err)
		}
	}
	// The API server dials pods of aggregated APIs and webhooks directly.
	return Do(topology.ControlNetns, func() error { return podRoutes(nodes, "") })
}

// create makes a named network namespace.
func create(name string) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.NewNamed(name)
		if err == nil {
			err = ns.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return nil
}

// controlSide sets up the control plane's namespace, from inside.
func controlSide() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: topology.Bridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make a bridge: %w", err)
	}
	if err := addAddress(bridge, topology.ControlAddr()); err != nil {
		return err
	}
	return sysctl("net/ipv4/ip_forward", "1")
}

// joinBridge makes a node's pair of interfaces, one end on the bridge.
func joinBridge(n topology.Node) error {
	ns, err := netns.GetFromName(n.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	return Do(topology.ControlNetns, func() error {
		pair := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: n.Veth}, PeerName: nodeLink, PeerNamespace: netlink.NsFd(ns),
		}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("make a veth pair: %w", err)
		}
		bridge, err := netlink.LinkByName(topology.Bridge)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(pair, bridge); err != nil {
			return err
		}
		return netlink.LinkSetUp(pair)
	})
}

// nodeSide sets up a node's namespace, from inside.
func nodeSide(n topology.Node, all []topology.Node) error {
	if err := loopbackUp(); err != nil {
		return err
	}
	link, err := netlink.LinkByName(nodeLink)
	if err != nil {
		return err
	}
	if err := addAddress(link, n.Addr); err != nil {
		return err
	}
	// A way out for everything else, to be refused there at once: a call to an
	// outside address then fails in a moment instead of hanging.
	err = netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(topology.ControlIP)})
	if err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	if err := podRoutes(all, n.Name); err != nil {
		return err
	}
	// kube-proxy rewrites packets between two pods of one node only if bridged
	// traffic passes the packet filter.
	for _, key := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"} {
		if err := sysctl(key, "1"); err != nil {
			return err
		}
	}
	return nil
}

// podRoutes leads each node's pod range to that node, except for self's own.
func podRoutes(nodes []topology.Node, self string) error {
	for _, n := range nodes {
		if n.Name == self {
			continue
		}
		_, cidr, err := net.ParseCIDR(n.PodCIDR)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: cidr, Gw: net.ParseIP(n.IP)}); err != nil {
			return fmt.Errorf("route to %s: %w", n.PodCIDR, err)
		}
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func addAddress(link netlink.Link, cidr string) error {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, cidr, err)
	}
	return netlink.LinkSetUp(link)
}

// sysctl sets a value of the network namespace that the calling thread is in.
func sysctl(key, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
}

// SetLink takes a node's link to the bridge down or up, at the bridge's side:
// the node notices nothing but silence, as with a cable cut behind a switch.
func SetLink(n topology.Node, up bool) error {
	return Do(topology.ControlNetns, func() error {
		link, err := netlink.LinkByName(n.Veth)
		if err != nil {
			return fmt.Errorf("find the link of node %s: %w", n.Name, err)
		}
		bridge, err := netlink.LinkByName(topology.Bridge)
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetMaster(link, bridge)
		}
		return netlink.LinkSetNoMaster(link)
	})
}

// Namespaces returns the names of the lab's network namespaces that exist,
// half-made ones included.
func Namespaces() ([]string, error) {
	entries, err := os.ReadDir(namedDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), topology.NetnsPrefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Inodes returns the inode numbers of the lab's network namespaces, by which
// /proc tells who is in them.
func Inodes() (map[uint64]bool, error) {
	names, err := Namespaces()
	if err != nil {
		return nil, err
	}
	inodes := map[uint64]bool{}
	for _, name := range names {
		var fsStat unix.Statfs_t
		var st unix.Stat_t
		path := filepath.Join(namedDir, name)
		if unix.Statfs(path, &fsStat) != nil || unix.Stat(path, &st) != nil {
			continue
		}
		// A file left by a kill between its making and the bind mount is not a namespace.
		if fsStat.Type == unix.NSFS_MAGIC {
			inodes[st.Ino] = true
		}
	}
	return inodes, nil
}

// Teardown removes every network namespace of the lab. It is not an error
// when there is none. Processes in them must have ended.
func Teardown() error {
	names, err := Namespaces()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		path := filepath.Join(namedDir, name)
		// EINVAL: not a mount point, so half-made. More than one mount on it is
		// possible too, hence the loop.
		for err = nil; err == nil; {
			err = unix.Unmount(path, unix.MNT_DETACH)
		}
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
