package collect

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// serverVars and serverFlags are names by which servers are told where to speak gRPC. Only these words reach a snapshot: a name like
// ACME_GRPC_PORT is kept as *_GRPC_PORT.
var (
	serverVars = []string{
		"GRPC_PORT", "GRPC_SERVER_PORT", "GRPC_LISTEN_PORT", "GRPC_ADDR", "GRPC_ADDRESS", "GRPC_LISTEN_ADDR", "GRPC_LISTEN_ADDRESS",
		"GRPC_BIND_ADDR", "GRPC_BIND_ADDRESS", "GRPC_SERVER_ADDR", "GRPC_SERVER_ADDRESS", "GRPC_ENDPOINT", "GRPC_ENABLED",
		"GRPC_SERVER_ENABLED", "GRPC_REFLECTION", "GRPC_SERVER_REFLECTION_ENABLED", "GRPC_MAX_CONNECTION_AGE",
	}
	serverFlags = []string{
		"grpc", "grpc-port", "grpc-server-port", "grpc-listen-port", "grpc-addr", "grpc-address", "grpc-listen-addr",
		"grpc-listen-address", "grpc-bind", "grpc-bind-address", "grpc-server-address", "grpc-enabled", "enable-grpc", "grpc-reflection",
		"grpc-max-connection-age",
	}
	healthProbes = []string{"grpc_health_probe", "grpc-health-probe"}
)

// hints are signs that a container serves gRPC. A name whose value is the address of something else is a client's, and no sign.
func hints(c *corev1.Container) []string {
	var out []string
	add := func(h string) {
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	for _, e := range c.Env {
		if w := vocabulary(e.Name, serverVars, "_"); w != "" && e.ValueFrom == nil && listens(e.Value) {
			add("env " + w)
		}
	}
	args := slices.Concat(c.Command, c.Args)
	for i, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !strings.HasPrefix(name, "-") {
			continue
		}
		if !ok && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			value = args[i+1]
		}
		flag := strings.NewReplacer(".", "-", "_", "-").Replace(strings.ToLower(strings.TrimLeft(name, "-")))
		if slices.Contains(serverFlags, flag) && listens(value) {
			add("arg --" + flag)
		}
	}
	for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
		if p == nil || p.Exec == nil {
			continue
		}
		for _, w := range p.Exec.Command {
			for _, f := range strings.Fields(w) {
				if slices.Contains(healthProbes, path.Base(f)) {
					add("exec probe grpc_health_probe")
				}
			}
		}
	}
	return out
}

func vocabulary(name string, words []string, sep string) string {
	name = strings.ToUpper(name)
	if slices.Contains(words, name) {
		return name
	}
	for _, w := range words {
		if strings.HasSuffix(name, sep+w) && !strings.Contains(name, "CLIENT") {
			return "*" + sep + w
		}
	}
	return ""
}

// listens: a port, a switch, nothing, or an address of the pod itself.
func listens(v string) bool {
	v = strings.ToLower(strings.Trim(strings.TrimSpace(v), `"'`))
	if slices.Contains([]string{"", "true", "yes", "on", "1", "enabled"}, v) {
		return true
	}
	host := strings.TrimRight(v, "0123456789smh")
	return slices.Contains([]string{"", ":", "0.0.0.0:", "[::]:", "*:", "localhost:", "127.0.0.1:", "[::1]:"}, host)
}
