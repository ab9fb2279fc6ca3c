package settings

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// Explain says for people what the settings of a file mean.
func (s Settings) Explain(name string) string {
	var b strings.Builder
	noun := "targets"
	if len(s.Targets) == 1 {
		noun = "target"
	}
	fmt.Fprintf(&b, "%s: valid, %d %s\n", name, len(s.Targets), noun)
	for _, t := range s.Targets {
		listen := make([]string, len(t.Listen))
		for i, l := range t.Listen {
			listen[i] = l.String()
		}
		fmt.Fprintf(&b, "\n%s\n  calls to   %s\n  go to      %s\n", t.Name, strings.Join(listen, ", "), t.meaning())
		if parsed, err := sidecar.ParseTarget(t.Target); err == nil && !parsed.IsIP() {
			by := "the DNS servers of /etc/resolv.conf"
			if parsed.Server != "" {
				by = "the DNS server " + parsed.Server
			}
			fmt.Fprintf(&b, "  looked up  every %s, by %s\n", short(t.Policy.Refresh.Interval), by)
		}
		fmt.Fprintf(&b, "  chosen by  %s\n", strings.TrimPrefix(t.Policy.Policy, policyPrefix))
	}
	where := func(a netip.AddrPort) string {
		if !a.IsValid() {
			return off
		}
		return a.String()
	}
	fmt.Fprintf(&b, "\nhealth and metrics at %s, pools page at %s; drains for %s at the end\n",
		where(s.Admin.Listen), where(s.Admin.Debug), short(s.DrainDelay+s.DrainTimeout))
	return b.String()
}

// meaning says which pods a target means.
func (t Target) meaning() string {
	parsed, err := sidecar.ParseTarget(t.Target)
	if err != nil { // it was parsed before
		return t.Target
	}
	port := cmp.Or(parsed.PortName, fmt.Sprint(parsed.Port))
	switch {
	case parsed.IsIP():
		return fmt.Sprintf("%s, one address, port %s", parsed.Host, port)
	case parsed.PortName != "":
		port = fmt.Sprintf("port %q of each (SRV records)", port)
	default:
		port = fmt.Sprintf("port %s of each (A or AAAA records)", port)
	}
	service, _, _ := strings.Cut(parsed.Host, ".")
	twin := ""
	if t.Policy.Refresh.FollowHeadlessTwin && !strings.HasSuffix(service, "-headless") {
		twin = fmt.Sprintf(", or of %s-headless where %s has a cluster IP", service, service)
	}
	return fmt.Sprintf("the pods of %s%s, %s", parsed.Host, twin, port)
}
