package diagnose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// GRPCLevel says how sure it is that something speaks gRPC.
type GRPCLevel string

// The levels of a judgement.
const (
	GRPCYes     GRPCLevel = "yes"     // proved on the wire, declared by the Service, or assumed on request
	GRPCLikely  GRPCLevel = "likely"  // names, probes or clients say so
	GRPCUnknown GRPCLevel = "unknown" // nothing says yes or no
	GRPCNo      GRPCLevel = "no"      // declared or proved to be something else
)

var levelRank = map[GRPCLevel]int{GRPCNo: 0, GRPCUnknown: 1, GRPCLikely: 2, GRPCYes: 3}

// GRPCVerdict is the judgement of a Service: the best of its ports.
type GRPCVerdict struct {
	Level   GRPCLevel       `json:"level"`
	Because []string        `json:"because,omitempty"` // most telling first
	Ports   []PortJudgement `json:"ports,omitempty"`
}

// Yes reports whether gRPC findings may be raised.
func (g GRPCVerdict) Yes() bool { return g.Level == GRPCYes || g.Level == GRPCLikely }

// PortJudgement is the judgement of one port of a Service.
type PortJudgement struct {
	Port    ServicePort `json:"port"`
	Level   GRPCLevel   `json:"level"`
	Because []string    `json:"because,omitempty"`
}

// GRPC judges whether the Service speaks gRPC, from (strongest first) what was heard on its pods' ports, its declared
// protocol, port names, gRPC probes, and names in containers and clients.
func (v *View) GRPC() GRPCVerdict {
	out := GRPCVerdict{Level: GRPCUnknown}
	if len(v.Service.Ports) > 0 {
		out.Level = GRPCNo
	}
	for _, p := range v.Service.Ports {
		j := v.judge(p, true)
		out.Ports = append(out.Ports, j)
		if levelRank[j.Level] > levelRank[out.Level] || len(out.Because) == 0 {
			out.Level, out.Because = j.Level, j.Because
		}
	}
	return out
}

// GRPCPorts returns the ports judged yes or likely.
func (v *View) GRPCPorts() []ServicePort {
	var out []ServicePort
	for _, j := range v.GRPC().Ports {
		if j.Level == GRPCYes || j.Level == GRPCLikely {
			out = append(out, j.Port)
		}
	}
	return out
}

// judge weighs one port; withClients is false where the client look-up itself asks, to end the recursion. A declared protocol outweighs
// every sign; a port name that only says how the world calls it (https) gives way to signs of gRPC in pods and clients.
func (v *View) judge(p ServicePort, withClients bool) PortJudgement {
	j := PortJudgement{Port: p, Level: GRPCUnknown}
	if p.Protocol != "" && p.Protocol != "TCP" {
		return j.say(GRPCNo, "port %d is %s", p.Port, p.Protocol)
	}
	if lvl, why := v.heard(p); lvl != GRPCUnknown {
		return j.say(lvl, "%s", why)
	}
	if v.AssumeGRPC {
		return j.say(GRPCYes, "assumed on request (--assume-grpc)")
	}
	if lvl, why := declared(p); lvl != GRPCUnknown {
		return j.say(lvl, "%s", why)
	}
	for _, why := range v.podSigns(p) {
		j = j.say(GRPCLikely, "%s", why)
	}
	if withClients {
		for _, why := range v.clientSigns(p) {
			j = j.say(GRPCLikely, "%s", why)
		}
	}
	if j.Level != GRPCUnknown {
		return j
	}
	if why := weaklyNamed(p); why != "" {
		return j.say(GRPCNo, "%s", why)
	}
	if what, ok := otherProtocols[p.Port]; ok {
		return j.say(GRPCNo, "port %d is %s by convention", p.Port, what)
	}
	return j.say(GRPCUnknown, "nothing about port %d says gRPC or anything else", p.Port)
}

func (j PortJudgement) say(l GRPCLevel, format string, args ...any) PortJudgement {
	j.Level = l
	j.Because = append(j.Because, fmt.Sprintf(format, args...))
	return j
}

// heard uses the answers of the pods' ports: one pod that proves gRPC is enough, as is one that proves HTTP/1.
func (v *View) heard(p ServicePort) (GRPCLevel, string) {
	nums := v.PodPorts(p)
	grpc, http1, total := 0, 0, 0
	for _, pp := range v.Ports.Value {
		if !slices.Contains(nums, pp.Port) || !v.isEndpoint(pp.Pod) {
			continue
		}
		total++
		switch pp.Proto {
		case "grpc":
			grpc++
		case "http1":
			http1++
		}
	}
	switch {
	case grpc > 0:
		return GRPCYes, fmt.Sprintf("port %d answered as gRPC on %d of %d pods asked", p.Port, grpc, total)
	case http1 > 0 && !v.AssumeGRPC:
		if lvl, why := declared(p); lvl == GRPCYes {
			return lvl, why // declared gRPC and speaking HTTP/1 is a finding, not a reason to look away
		}
		return GRPCNo, fmt.Sprintf("port %d answered as HTTP/1 on %d of %d pods asked", p.Port, http1, total)
	}
	return GRPCUnknown, ""
}

func (v *View) isEndpoint(k Key) bool {
	return slices.ContainsFunc(v.endpoints, func(e Endpoint) bool { return e.Pod == k })
}

// declared reads the port's appProtocol (KEP-1507, KEP-3726) and its name (the convention of Istio and others:
// name = protocol[-suffix]).
func declared(p ServicePort) (GRPCLevel, string) {
	switch strings.ToLower(p.AppProtocol) {
	case "":
	case "grpc", "grpcs", "grpc-web":
		return GRPCYes, fmt.Sprintf("port %d has appProtocol %s", p.Port, p.AppProtocol)
	case "kubernetes.io/h2c", "http2", "h2c":
		return GRPCLikely, fmt.Sprintf("port %d has appProtocol %s", p.Port, p.AppProtocol)
	default:
		return GRPCNo, fmt.Sprintf("port %d has appProtocol %s", p.Port, p.AppProtocol)
	}
	words := nameWords(p)
	for _, w := range words {
		if strings.HasPrefix(w, "grpc") {
			return GRPCYes, fmt.Sprintf("port %d is named %s", p.Port, p.Name)
		}
	}
	for _, w := range words {
		if slices.Contains(otherNames, w) {
			return GRPCNo, fmt.Sprintf("port %d is named %s", p.Port, p.Name)
		}
	}
	if slices.Contains(words, "h2c") || slices.Contains(words, "http2") {
		return GRPCLikely, fmt.Sprintf("port %d is named %s", p.Port, p.Name)
	}
	return GRPCUnknown, ""
}

func nameWords(p ServicePort) []string {
	return strings.FieldsFunc(strings.ToLower(p.Name), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
}

// weaklyNamed words a port name that makes plain HTTP likely where nothing speaks for gRPC: gRPC over TLS often runs on a port called
// https.
func weaklyNamed(p ServicePort) string {
	for _, w := range nameWords(p) {
		if slices.Contains(weakNames, w) {
			return fmt.Sprintf("port %d is named %s", p.Port, p.Name)
		}
	}
	return ""
}

// weakNames are port-name words that declare HTTP of no particular version.
var weakNames = []string{"http", "https", "web"}

// otherNames are port-name words that declare another protocol.
var otherNames = []string{
	"http1", "metrics", "prometheus", "dns", "mysql", "postgres", "postgresql", "pgsql", "redis",
	"mongo", "mongodb", "amqp", "kafka", "memcached", "ldap", "smtp", "ssh", "ws", "wss", "nats", "cql", "zookeeper",
}

// otherProtocols are port numbers that by convention belong to something else; a sign of gRPC outweighs them.
var otherProtocols = map[int32]string{
	22: "SSH", 25: "SMTP", 53: "DNS", 389: "LDAP", 1433: "SQL Server", 1521: "Oracle", 2181: "ZooKeeper", 3306: "MySQL",
	4222: "NATS", 5432: "PostgreSQL", 5672: "AMQP", 6379: "Redis", 9042: "Cassandra", 9092: "Kafka", 9200: "Elasticsearch",
	11211: "memcached", 27017: "MongoDB",
}

// podSigns looks at the containers that serve the port: its name, gRPC probes on it, and hints in env and args.
func (v *View) podSigns(p ServicePort) []string {
	nums := v.PodPorts(p)
	var out []string
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, pod := range v.Selected() {
		for _, c := range pod.Containers {
			mine := false
			for _, cp := range c.Ports {
				if !slices.Contains(nums, cp.Port) && cp.Name != p.TargetPort {
					continue
				}
				mine = true
				if strings.Contains(strings.ToLower(cp.Name), "grpc") {
					add(fmt.Sprintf("container port %d is named %s", cp.Port, cp.Name))
				}
			}
			for _, pr := range []*Probe{c.Readiness, c.Liveness, c.Startup} {
				if pr != nil && pr.Kind == "grpc" && portIs(pr.Port, nums) {
					mine = true
					add(fmt.Sprintf("container %s has a gRPC probe on port %s", c.Name, pr.Port))
				}
			}
			if mine || len(v.Service.Ports) == 1 && len(pod.Containers) == 1 {
				for _, h := range c.Hints {
					add(fmt.Sprintf("container %s has %s", c.Name, h))
				}
			}
		}
	}
	return out
}

func portIs(port string, nums []int32) bool {
	n, err := strconv.ParseInt(port, 10, 32)
	return err == nil && slices.Contains(nums, int32(n))
}

// clientSigns looks at the targets of workloads that name the Service (or a sibling) with this port.
func (v *View) clientSigns(p ServicePort) []string {
	var out []string
	nums := v.PodPorts(p) // a headless Service is dialled on the pods' port
	for _, w := range v.Workloads.Value {
		for _, t := range w.Targets {
			if t.GRPC && t.Service == v.Service.Key && (t.Port == 0 || t.Port == p.Port || slices.Contains(nums, t.Port)) {
				s := fmt.Sprintf("%s dials it as gRPC (%s %s)", w.Ref(), t.Source, t.Name)
				if !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
		}
	}
	return out
}
