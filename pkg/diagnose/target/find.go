package target

import (
	"slices"
	"strconv"
	"strings"
)

// Container is what one container of a workload was configured with.
type Container struct {
	Env   []Var    // in the order of the pod spec; a later variable of the same name wins
	Args  []string // command and arguments
	Files []File   // mounted from ConfigMaps
	// Aliases are names that the pod's hosts file maps (hostAliases): they may exist without a Service.
	Aliases []string
	// OwnDNS is true when the pod does not use the cluster's DNS as it is (dnsPolicy, dnsConfig): no name counts as missing then.
	OwnDNS bool
}

// Var is an environment variable; ConfigMap and Key name the object that its value came from, if any.
type Var struct{ Name, Value, ConfigMap, Key string }

// File is one key of a ConfigMap that is mounted.
type File struct{ ConfigMap, Key, Text string }

// Sources of a Found.
const (
	SourceEnv       = "env"
	SourceArg       = "arg"
	SourceConfigMap = "configmap"
)

// Found is one target in a container's configuration.
type Found struct {
	Target
	Match
	// Source is env, arg or configmap; Name is the variable's or flag's name, or the key of the ConfigMap.
	Source, Name, ConfigMap string
	// Key is the key of the ConfigMap.
	Key string
	// PortName is the variable or flag that Port came from when host and port are written apart.
	PortName string
	// Part is true when the variable cannot be set to another target as it is: its value holds more, is put together from other
	// variables (its port's, too, when that is written apart), or is a part of another one's.
	Part bool
	// Policy is a load-balancing policy written nearby, in gRPC's spelling.
	Policy string
	// GRPC is true when the scheme, or the name, says that gRPC is spoken.
	GRPC bool
}

// maxFound bounds what one container yields.
const maxFound = 200

// Find returns the targets in a container of a workload in the namespace, without repeats, in the order of env, arguments, files.
func (x *Index) Find(namespace string, c Container) []Found {
	f := finder{x: x, namespace: namespace, c: c}
	f.env()
	f.groups = append(f.groups, f.args(c.Args))
	for _, file := range c.Files {
		f.groups = append(f.groups, textEntries(SourceConfigMap, file.Key, file.ConfigMap, file.Text))
	}
	var out []Found
	for _, g := range f.groups {
		out = append(out, f.group(g)...)
	}
	out = unique(out)
	return out[:min(len(out), maxFound)]
}

func unique(in []Found) []Found {
	seen := map[Found]bool{}
	return slices.DeleteFunc(in, func(f Found) bool {
		f.Policy = ""
		if seen[f] {
			return true
		}
		seen[f] = true
		return false
	})
}

// entry is one place where a target may stand.
type entry struct {
	source, name, configMap string
	mapKey                  string // of the ConfigMap
	key                     string // the full name for guessing: a variable, a flag, a path of keys
	value                   string // expanded
	written                 string // before expansion, when that matters
	whole                   bool   // false: a word out of a longer text, which needs a scheme or a port
}

type finder struct {
	x         *Index
	namespace string
	c         Container
	groups    [][]entry // entries that stand near each other
	vars      map[string]string
	used      map[string]bool // variables that others are composed of
}

// env expands the variables the way the kubelet does: $(NAME) of variables that stand earlier, or that Kubernetes injects.
func (f *finder) env() {
	f.vars, f.used = map[string]string{}, map[string]bool{}
	var g []entry
	for _, v := range f.c.Env {
		value := f.expand(v.Value)
		f.vars[v.Name] = value
		e := entry{source: SourceEnv, name: v.Name, configMap: v.ConfigMap, mapKey: v.Key, key: v.Name, value: value, written: v.Value, whole: true}
		g = slices.DeleteFunc(g, func(o entry) bool { return o.name == v.Name })
		g = append(g, e)
	}
	for _, e := range slices.Clone(g) {
		if Parse(e.value) == nil && strings.ContainsAny(e.value, " \n{[;,=") {
			for _, t := range textEntries(SourceEnv, e.name, e.configMap, e.value) {
				t.key, t.mapKey = e.name+"."+t.key, e.mapKey
				g = append(g, t)
			}
		}
	}
	f.groups = append(f.groups, g)
}

// expand replaces $(NAME), and ${NAME} and $NAME_SERVICE_HOST for shells, where the name is known; $$ stands for itself.
func (f *finder) expand(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		name, n := reference(s[i:])
		switch {
		case strings.HasPrefix(s[i:], "$$"):
			b.WriteString("$$")
			i += 2
			continue
		case n == 0:
			b.WriteByte(s[i])
			i++
			continue
		}
		if v, ok := f.lookup(name); ok {
			b.WriteString(v)
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// reference reads $(NAME), ${NAME} or $NAME at the start of s and returns the name and its length with punctuation; 0 for none.
func reference(s string) (name string, n int) {
	if len(s) < 2 || s[0] != '$' {
		return "", 0
	}
	closing := map[byte]byte{'(': ')', '{': '}'}[s[1]]
	if closing != 0 {
		end := strings.IndexByte(s, closing)
		if end < 3 {
			return "", 0
		}
		return s[2:end], end + 1
	}
	for n = 1; n < len(s) && (s[n] == '_' || isLetter(rune(s[n])) || n > 1 && s[n] >= '0' && s[n] <= '9'); n++ {
		continue
	}
	if n == 1 {
		return "", 0
	}
	return s[1:n], n
}

func (f *finder) lookup(name string) (string, bool) {
	if v, ok := f.vars[name]; ok {
		f.used[name] = true
		return v, true
	}
	v, ok := f.x.injected[f.namespace][name]
	return v, ok
}

// group turns the entries of one neighbourhood into targets: ports and policies are looked for within it.
func (f *finder) group(g []entry) []Found {
	ports := map[string]entry{}
	for _, e := range g {
		if _, ok := ports[e.key]; !ok && isPort(strings.TrimSpace(e.value)) {
			ports[e.key] = e
		}
	}
	var out []Found
	var keys []string
	for _, e := range g {
		for _, fd := range f.entry(e, ports) {
			out = append(out, fd)
			keys = append(keys, e.key)
		}
	}
	f.addPolicies(out, keys, g)
	return out
}

func (f *finder) entry(e entry, ports map[string]entry) []Found {
	var out []Found
	s := sense(e.key)
	for _, t := range Parse(e.value) {
		if !e.whole && t.Scheme == "" && t.Port == 0 {
			continue
		}
		fd := Found{Target: t, Source: e.source, Name: e.name, ConfigMap: e.configMap, Key: e.mapKey}
		if t.Port == 0 && t.Scheme == "" && e.source == SourceEnv && f.used[e.name] {
			continue // a part: the target is where it is put together
		}
		if t.Port == 0 && t.Scheme == "" {
			fd.PortName, fd.Port = portBeside(e, ports)
		}
		if strings.Contains(e.written, "_SERVICE_HOST") && strings.Contains(e.written, "$") {
			fd.Token = safeWritten(e.written, t.Token)
		}
		fd.Part = e.source == SourceEnv && f.part(e, fd, ports)
		if !f.accept(&fd, e, s) {
			continue
		}
		fd.GRPC = s.grpc && t.Scheme != "http" && t.Scheme != "https" || GRPCScheme(t.Scheme)
		out = append(out, fd)
	}
	return out
}

// part reports whether a variable is more, or less, than the target that was found in it.
func (f *finder) part(e entry, fd Found, ports map[string]entry) bool {
	if e.written != fd.Token || f.used[e.name] {
		return true
	}
	if fd.PortName == "" {
		return false
	}
	p := ports[fd.PortName]
	return p.written != p.value || p.configMap != e.configMap || f.used[fd.PortName]
}

// safeWritten keeps a reference to an injected variable as it was written, if nothing else stands beside it that could be private.
func safeWritten(written, token string) string {
	rest := written
	for i := strings.IndexByte(rest, '$'); i >= 0; i = strings.IndexByte(rest, '$') {
		name, n := reference(rest[i:])
		if n == 0 || !strings.HasSuffix(name, "_SERVICE_HOST") && !strings.Contains(name, "_SERVICE_PORT") {
			return token
		}
		rest = rest[:i] + "h" + rest[i+n:]
	}
	_, scheme, hostPort := cutScheme(rest)
	if scheme != "" && isScheme(scheme) {
		hostPort = strings.TrimPrefix(hostPort, "/")
	}
	host, port, _ := strings.Cut(hostPort, ":")
	if host == "h" && (port == "" || port == "h" || isPort(port)) {
		return written
	}
	return token
}

// portBeside looks in the neighbourhood for the port of a host that was written without one.
func portBeside(e entry, ports map[string]entry) (name string, port int32) {
	for _, want := range portNames(e.key) {
		o, ok := ports[want]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(o.value), 10, 32)
		if err != nil {
			continue
		}
		if e.source == SourceConfigMap {
			return "", int32(n) // both stand in one file, under one key of the ConfigMap
		}
		return o.name, int32(n)
	}
	return "", 0
}

// accept resolves the host and decides whether the entry may be kept at all.
func (f *finder) accept(fd *Found, e entry, s nameSense) bool {
	if slices.Contains(registrySchemes, fd.Scheme) || s.noProxy {
		return false
	}
	host := fd.Host
	if fd.Rooted {
		host += "."
	}
	m, ok := f.x.Resolve(host, f.namespace)
	if !ok {
		return false
	}
	fd.Match = m
	switch m.Kind {
	case KindIP:
		return !s.other || fd.Scheme != ""
	case KindService:
		return f.dialled(fd, e, s)
	}
	return f.missing(fd, e, s)
}

// dialled: the host names a Service; is the value an address at all? "square" may be the name of a Service and of anything else.
func (f *finder) dialled(fd *Found, e entry, s nameSense) bool {
	switch {
	case fd.Scheme != "":
		return true
	case s.other:
		return false
	case fd.Port != 0, fd.Qualified:
		return true
	case e.source == SourceArg && !strings.HasPrefix(e.name, "-"):
		return false
	}
	return s.lone()
}

// missing: nothing has the name. Few things may be called a missing Service, because everything else that looks like a host would
// land in the snapshot too.
func (f *finder) missing(fd *Found, e entry, s nameSense) bool {
	if f.c.OwnDNS || s.other || slices.Contains(f.c.Aliases, fd.Host) || slices.Contains(notServices, fd.Host) || strings.Contains(fd.Host, "_") {
		return false
	}
	if fd.Qualified {
		return fd.Scheme != "" || fd.Port != 0 || s.address
	}
	switch fd.Scheme {
	case "xds": // names a resource of the control plane
		return false
	case "":
	default:
		return GRPCScheme(fd.Scheme) && e.whole
	}
	if !e.whole || fd.Port == 0 || !s.address || strings.Contains(fd.Host, ".") {
		return false
	}
	return serviceLike(fd.Host) || len(close1(fd.Host, f.x.names[f.namespace])) > 0
}

// notServices are single-label names that resolve without a Service.
var notServices = []string{"localhost", "ip6-localhost", "broadcasthost", "local", "host", "none", "null", "true", "false"}

// close1 returns the names that are a typing mistake away: stricter than Nearest, which also proposes names that contain each other.
func close1(name string, candidates []string) []string {
	limit := max(1, len(name)/5)
	return slices.DeleteFunc(slices.Clone(candidates), func(c string) bool { return distance(name, c, limit) > limit })
}

// addPolicies gives each policy that is mentioned to the targets whose names begin most like its own. One that shares nothing with any
// target counts only when a single host is dialled. A target between two different policies gets none.
func (f *finder) addPolicies(out []Found, keys []string, g []entry) {
	hosts := map[string]bool{}
	for _, fd := range out {
		hosts[fd.Host] = true
	}
	best := make([]int, len(out))
	mentions := 0
	for _, e := range g {
		policy := policyIn(e.key, e.value)
		if policy == "" || len(out) == 0 || mentions == maxFound {
			continue
		}
		mentions++
		most := 0
		for _, k := range keys {
			most = max(most, sharedWords(k, e.key))
		}
		for i := range out {
			n := sharedWords(keys[i], e.key)
			switch {
			case n < most, most == 0 && len(hosts) > 1, n < best[i]:
			case n == best[i] && out[i].Policy != "" && out[i].Policy != policy:
				out[i].Policy = ""
			default:
				best[i], out[i].Policy = n, policy
			}
		}
	}
	for i := range out {
		if out[i].Policy != "" && out[i].Scheme == "" {
			out[i].GRPC = true
		}
	}
}
