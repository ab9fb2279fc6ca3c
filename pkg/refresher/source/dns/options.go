package dns

import (
	"fmt"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

// SourceName is the Source of every Set and event from here.
const SourceName = "dns"

// ednsSize is the UDP payload size that is advertised, and from which on an
// answer counts as large: 1280, IPv6's least MTU, without the headers (DNS Flag
// Day 2020).
const ednsSize = 1232

// Family says which of A and AAAA is asked for first. The other one is asked
// for when the first has no data.
type Family string

// The families.
const (
	// FamilyAuto is that of the first name server: kube-dns has an address of
	// the cluster's primary family, so pods have one of it, too.
	FamilyAuto Family = "auto"
	FamilyIPv4 Family = "ipv4"
	FamilyIPv6 Family = "ipv6"
)

// Config is what may be chosen; [DefaultConfig] says what is chosen otherwise.
type Config struct {
	// Interval is the time from the end of one look to the next, 5 s by
	// default, 1 s at the least: a new pod is found after half of it on average.
	// kubeadm's CoreDNS does not cache the cluster domain, others do for 5 s to
	// 30 s: a shorter interval than the cache finds nothing sooner.
	Interval time.Duration
	// MaxInterval is how far the interval grows, doubling, while answers are
	// large (more than 1232 octets, so that they go over TCP) and unchanged: 30 s
	// by default. 300 endpoints are 13 kB a look.
	MaxInterval time.Duration
	// Jitter is the share by which each wait is made longer or shorter at
	// random, 0.1 by default, from 0 to 0.5: clients that were started together
	// do not stay together.
	Jitter float64
	// RefreshOnTTL waits until the records' TTL is over where that is longer than
	// Interval, but not longer than an hour.
	// Off by default: the TTL says how long others may cache, not how long pods
	// live.
	RefreshOnTTL bool
	// RewalkAfter is for how long the name that was found must not exist
	// (NXDOMAIN) before the search list is walked again, 30 s by default: a
	// Service whose pods are all not ready does not exist for a moment, and a
	// wildcard further down the list must not get its calls. It is half of the
	// time for which the guard does not believe an empty answer, so that a name
	// that moved is found before the pool is empty.
	RewalkAfter time.Duration
	// FollowHeadlessTwin uses the Service NAME+TwinSuffix in place of one with a
	// ClusterIP when it exists and is headless. On by default.
	FollowHeadlessTwin bool
	// TwinSuffix is "-headless" by default, as "kubectl grpclb fix" names them.
	TwinSuffix string
	// Family is [FamilyAuto] by default.
	Family Family
	// ResolvConf is the file to read, /etc/resolv.conf by default.
	ResolvConf string
	// Servers are asked in place of those of ResolvConf, each a host and a port;
	// none by default. The target's authority counts before both.
	Servers []string
	// Dial opens connections to the servers; nil, the default, means a
	// net.Dialer.
	Dial dnsprobe.DialFunc
}

// DefaultConfig is what New starts from.
func DefaultConfig() Config {
	return Config{
		Interval:           5 * time.Second,
		MaxInterval:        30 * time.Second,
		Jitter:             0.1,
		RewalkAfter:        30 * time.Second,
		FollowHeadlessTwin: true,
		TwinSuffix:         "-headless",
		Family:             FamilyAuto,
		ResolvConf:         "/etc/resolv.conf",
	}
}

// MinInterval is the least [Config.Interval].
const MinInterval = time.Second

// Validate says which field has a value that cannot be used, and which can.
func (c Config) Validate() error {
	switch {
	case c.Interval < MinInterval:
		return fmt.Errorf("dns source: Interval is %v: the least is %v, every client asks so often", c.Interval, MinInterval)
	case c.MaxInterval < c.Interval:
		return fmt.Errorf("dns source: MaxInterval is %v: it is at least Interval, %v", c.MaxInterval, c.Interval)
	case !(c.Jitter >= 0 && c.Jitter <= 0.5):
		return fmt.Errorf("dns source: Jitter is %v: it is a share from 0 to 0.5", c.Jitter)
	case c.RewalkAfter < 0:
		return fmt.Errorf("dns source: RewalkAfter is %v: it is 0 or more", c.RewalkAfter)
	case c.Family != FamilyAuto && c.Family != FamilyIPv4 && c.Family != FamilyIPv6:
		return fmt.Errorf("dns source: Family is %q: it is %q, %q or %q", c.Family, FamilyAuto, FamilyIPv4, FamilyIPv6)
	case c.FollowHeadlessTwin && (c.TwinSuffix == "" || strings.ContainsAny(c.TwinSuffix, ". ")):
		return fmt.Errorf("dns source: TwinSuffix is %q: it is the end of a Service's name, such as \"-headless\"", c.TwinSuffix)
	case c.ResolvConf == "" && len(c.Servers) == 0:
		return fmt.Errorf("dns source: ResolvConf is empty: name a file, or Servers")
	}
	return nil
}

// Option changes the Config.
type Option func(*Config)

// WithInterval sets [Config.Interval], and raises MaxInterval to it.
func WithInterval(d time.Duration) Option {
	return func(c *Config) { c.Interval, c.MaxInterval = d, max(c.MaxInterval, d) }
}

// WithMaxInterval sets [Config.MaxInterval].
func WithMaxInterval(d time.Duration) Option { return func(c *Config) { c.MaxInterval = d } }

// WithJitter sets [Config.Jitter].
func WithJitter(share float64) Option { return func(c *Config) { c.Jitter = share } }

// RefreshOnTTL sets [Config.RefreshOnTTL].
func RefreshOnTTL() Option { return func(c *Config) { c.RefreshOnTTL = true } }

// WithRewalkAfter sets [Config.RewalkAfter].
func WithRewalkAfter(d time.Duration) Option { return func(c *Config) { c.RewalkAfter = d } }

// FollowHeadlessTwin sets [Config.FollowHeadlessTwin].
func FollowHeadlessTwin(on bool) Option { return func(c *Config) { c.FollowHeadlessTwin = on } }

// WithTwinSuffix sets [Config.TwinSuffix].
func WithTwinSuffix(s string) Option { return func(c *Config) { c.TwinSuffix = s } }

// WithFamily sets [Config.Family].
func WithFamily(f Family) Option { return func(c *Config) { c.Family = f } }

// WithResolvConf sets [Config.ResolvConf].
func WithResolvConf(path string) Option { return func(c *Config) { c.ResolvConf = path } }

// WithServers sets [Config.Servers].
func WithServers(servers ...string) Option { return func(c *Config) { c.Servers = servers } }

// WithDial sets [Config.Dial].
func WithDial(dial dnsprobe.DialFunc) Option { return func(c *Config) { c.Dial = dial } }
