package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// signalPod sends a signal to a program's process in a pod, which the machine sees as any other.
func signalPod(uid, program string, s unix.Signal) error {
	pid, err := findPod(uid, program)
	if err != nil {
		return err
	}
	return unix.Kill(pid, s)
}

func stopPod(uid string) error { return signalPod(uid, "faults", unix.SIGSTOP) }
func contPod(uid string) error { return signalPod(uid, "faults", unix.SIGCONT) }
func killPod(uid string) error { return signalPod(uid, "faults", unix.SIGKILL) }

// killSidecar kills the daemon in a client's pod. The kernel knows a program by the first 15 letters of its name.
func killSidecar(uid string) error { return signalPod(uid, "grpclb-refreshe", unix.SIGKILL) }

// findPod looks for the process by its control group, which has the pod's UID in its name whichever driver made it.
func findPod(uid, program string) (int, error) {
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, file := range groups {
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(strings.ReplaceAll(string(b), "_", "-"), "pod"+uid) {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
		if err != nil || strings.TrimSpace(string(comm)) != program {
			continue // the pause container, or one that has just ended
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(file)))
	}
	return 0, fmt.Errorf("no process %s of pod %s", program, uid)
}

// inNode runs f with the routes of a lab's node.
func inNode(node string, f func(*netlink.Handle) error) (err error) {
	ns, err := netns.GetFromName("grpclb-" + node)
	if err != nil {
		return fmt.Errorf("network namespace of node %s: %w", node, err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("routes of node %s: %w", node, err)
	}
	defer h.Close()
	return f(h)
}

// route leads a range of addresses to a gateway, seen from a node.
func route(node string, dst netip.Prefix, via string) error {
	return inNode(node, func(h *netlink.Handle) error { return h.RouteReplace(routeTo(dst, via)) })
}

func unroute(node string, dst netip.Prefix) error {
	return inNode(node, func(h *netlink.Handle) error {
		err := h.RouteDel(routeTo(dst, ""))
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	})
}

func routeTo(dst netip.Prefix, via string) *netlink.Route {
	return &netlink.Route{
		Dst: &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())}, Gw: net.ParseIP(via),
	}
}

// cpuWeights are where a control group's weight stands, for the two versions of cgroups, and the largest there is.
var cpuWeights = map[string]string{
	"/sys/fs/cgroup/cpu*/grpclb-lab/cpu.shares": "262144",
	"/sys/fs/cgroup/grpclb-lab/cpu.weight":      "10000",
}

// firstInLine lets the lab's processes have the CPUs before all others of the machine, and returns how to undo it.
func firstInLine() (undo func() error, err error) {
	old := map[string][]byte{}
	undo = func() error {
		var errs []error
		for file, weight := range old {
			errs = append(errs, os.WriteFile(file, weight, 0o644))
		}
		return errors.Join(errs...)
	}
	for pattern, weight := range cpuWeights {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return undo, err
		}
		for _, file := range files {
			was, err := os.ReadFile(file)
			if err != nil {
				return undo, err
			}
			old[file] = was
			if err := os.WriteFile(file, []byte(weight), 0o644); err != nil {
				return undo, err
			}
		}
	}
	return undo, nil
}
