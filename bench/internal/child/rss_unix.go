//go:build unix

package child

import (
	"os"
	"runtime"
	"syscall"
)

// maxRSS reads ru_maxrss, which getrusage(2) gives in kilobytes, but in bytes on macOS.
func maxRSS(p *os.ProcessState) int64 {
	u, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	unit := int64(1 << 10)
	if runtime.GOOS == "darwin" {
		unit = 1
	}
	return int64(u.Maxrss) * unit
}
