package dns

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// confFile is a resolv.conf that is read again when it changed. Kubelet writes
// it once; node agents and tests replace it.
type confFile struct {
	path string
	info fs.FileInfo // of the version that was read; nil before
	conf dnsprobe.ResolvConf
}

// load brings conf up to date and reports whether names would be looked up
// elsewhere than before. When the file cannot be read the last version goes on
// to count; an error means that there never was one.
func (f *confFile) load() (moved bool, err error) {
	info, err := os.Stat(f.path)
	if err == nil && f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
		return false, nil
	}
	var conf dnsprobe.ResolvConf
	if err == nil {
		conf, err = readConf(f.path)
	}
	switch {
	case err != nil && f.info == nil:
		return false, fmt.Errorf("read the DNS configuration: %w", err)
	case err != nil:
		return false, nil
	}
	before := f.conf
	first := f.info == nil
	f.info, f.conf = info, conf
	return !first && (!slices.Equal(before.Search, conf.Search) || before.Ndots != conf.Ndots), nil
}

func readConf(path string) (dnsprobe.ResolvConf, error) {
	file, err := os.Open(path)
	if err != nil {
		return dnsprobe.ResolvConf{}, err
	}
	defer file.Close()
	return dnsprobe.ParseResolvConf(file)
}

// serversOf lists the servers of a resolv.conf; without one glibc asks the local
// host (resolv.conf(5)).
func serversOf(conf dnsprobe.ResolvConf) []string {
	if len(conf.Nameservers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	var out []string
	for _, addr := range conf.Nameservers {
		out = append(out, net.JoinHostPort(addr.String(), "53"))
	}
	return out
}
