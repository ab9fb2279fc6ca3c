package aggregator

import (
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/examples/internal/channel"
)

func TestParseTarget(t *testing.T) {
	const headless = "dns:///square-service-headless.default.svc.cluster.local:6565"
	cases := map[string]struct {
		address, policy string
		want            Target
	}{
		"static":                   {"static://square-service:6565", "", Target{"passthrough:///square-service:6565", channel.PickFirst}},
		"static, IPv6":             {"static://[fd00::1]:6565", "", Target{"passthrough:///[fd00::1]:6565", channel.PickFirst}},
		"static, round robin":      {"static://a:1", "round_robin", Target{"passthrough:///a:1", channel.RoundRobin}},
		"dns spreads by default":   {headless, "", Target{headless, channel.RoundRobin}},
		"dns, pick first":          {headless, "pick_first", Target{headless, channel.PickFirst}},
		"dns, a server of its own": {"dns://10.96.0.10/a:1", "", Target{"dns://10.96.0.10/a:1", channel.RoundRobin}},
		"dns, absolute name":       {"dns:///a.b.:1", "", Target{"dns:///a.b.:1", channel.RoundRobin}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseTarget(c.address, c.policy)
			if err != nil || got != c.want {
				t.Errorf("ParseTarget(%q, %q) = %+v, %v; want %+v", c.address, c.policy, got, err, c.want)
			}
		})
	}
}

func TestParseTargetRefuses(t *testing.T) {
	cases := map[string]struct {
		address, policy string
		// says is a part of the message that names the mistake.
		says string
	}{
		"no scheme":        {"square-service:6565", "", "no scheme"},
		"discovery":        {"discovery:///square", "", `"discovery"`},
		"no port":          {"dns:///square-service", "", "missing port"},
		"port 0":           {"static://square-service:0", "", "not a port"},
		"named port":       {"static://square-service:grpc", "", "not a port"},
		"no host":          {"static://:6565", "", "names no host"},
		"several":          {"static://a:1,b:2", "", "too many colons"},
		"two slashes":      {"dns://square-service:6565", "", "dns:///square-service:6565"},
		"unknown policy":   {"static://a:1", "least_request", "least_request"},
		"empty after dns:": {"dns:///", "", "missing port"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseTarget(c.address, c.policy)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("ParseTarget(%q, %q) = %+v, %v; want an error that says %s", c.address, c.policy, got, err, c.says)
			}
		})
	}
}
