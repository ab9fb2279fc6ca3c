// Package machine describes the computer that a measurement ran on, since a number without it says nothing.
//
// It names the kind of machine, never the machine: no host name, no address, no user.
package machine

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what a reader needs to know to compare numbers. Fields that the system does not tell are empty or zero.
type Machine struct {
	CPU    string // model name
	Cores  int    // that the Go runtime may use
	Memory int64  // bytes
	Kernel string // release, without what a distributor appends
	OS     string // GOOS/GOARCH
	Go     string
}

// Describe looks at this machine.
func Describe() Machine {
	m := Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	m.CPU = field("/proc/cpuinfo", "model name")
	if kib, _, ok := strings.Cut(field("/proc/meminfo", "MemTotal"), " "); ok {
		n, _ := strconv.ParseInt(kib, 10, 64) // zero says unknown
		m.Memory = n << 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(release)), "-")
	}
	return m
}

// String is one line, for the head of a table.
func (m Machine) String() string {
	parts := []string{cmp.Or(m.CPU, "unknown CPU"), fmt.Sprintf("%d cores", m.Cores)}
	if m.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%.0f GiB", float64(m.Memory)/(1<<30)))
	}
	parts = append(parts, m.OS)
	if m.Kernel != "" {
		parts = append(parts, "kernel "+m.Kernel)
	}
	return strings.Join(append(parts, m.Go), ", ")
}

// Load is the load average of the last minute: how many processes wanted a core. False where the system does not say.
func Load() (float64, bool) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, err := strconv.ParseFloat(first, 64)
	return v, err == nil
}

// field is the value of the first "key: value" line of a file in /proc; empty without one.
func field(path, key string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
