package diagnose

import (
	"net/netip"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/target"
)

// APIVersion and the kinds of the two documents that this package defines. The schema grows compatibly within a
// version: fields are added, never renamed or given another meaning.
const (
	APIVersion   = "grpclb.dev/v1alpha1"
	SnapshotKind = "Snapshot"
	ReportKind   = "Report"
)

// What the project writes on, and reads from, objects of a cluster.
const (
	// ManagedByLabel with the value ManagedBy marks objects that `fix` made and may replace.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "kubectl-grpclb"
	// IgnoreAnnotation on a Service holds "check-id: reason" entries, one a line or separated by commas.
	IgnoreAnnotation = "grpclb.dev/ignore"
)

// Key names a namespaced object.
type Key struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String returns "namespace/name".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k Key) Compare(o Key) int {
	if c := compareStrings(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return compareStrings(k.Name, o.Name)
}

// Snapshot is everything a diagnosis may use, collected once. It is an allow-list projection: only the fields below
// are ever kept from a cluster's objects. It serialises to JSON and YAML without loss.
type Snapshot struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Tool       string    `json:"tool,omitempty"` // version of the program that collected it
	TakenAt    time.Time `json:"takenAt"`
	Cluster    Cluster   `json:"cluster"`
	Targets    []Key     `json:"targets"` // the Services to diagnose, each present in Services
	Depth      string    `json:"depth"`   // static, observe, sockets or probe
	AssumeGRPC bool      `json:"assumeGRPC,omitempty"`
	Redacted   bool      `json:"redacted,omitempty"`

	Services   Fact[[]Service]     `json:"services,omitzero"`
	Slices     Fact[[]Slice]       `json:"endpointSlices,omitzero"`
	Pods       Fact[[]Pod]         `json:"pods,omitzero"`
	Nodes      Fact[[]Node]        `json:"nodes,omitzero"`
	Workloads  Fact[[]Workload]    `json:"workloads,omitzero"`
	ConfigMaps Fact[[]Key]         `json:"configMaps,omitzero"` // those read; their target tokens are in Workloads
	Metrics    Fact[[]PodMetrics]  `json:"metrics,omitzero"`
	DNS        Fact[[]DNSAnswer]   `json:"dns,omitzero"`
	Ports      Fact[[]PortProbe]   `json:"ports,omitzero"`
	Sockets    Fact[[]SocketTable] `json:"sockets,omitzero"`
	Probes     Fact[[]ProbeRun]    `json:"probes,omitzero"`

	Cost Cost `json:"cost,omitzero"`
	// Gaps are things inside a known group that could not be seen: one DNS pod of three, one ConfigMap, one kind of
	// workload. They make a report partial without hiding what was learned.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Gap is one thing that could not be seen though its group of facts is known.
type Gap struct {
	Fact    FactName `json:"fact"`
	Subject string   `json:"subject"` // "pod kube-system/coredns-1", "configmap default/app"
	Status
}

// Cluster says which cluster was looked at, without its address.
type Cluster struct {
	Context string `json:"context,omitempty"` // kubeconfig context name
	Version string `json:"version,omitempty"` // of the API server, "v1.36.3"; empty when not asked
	Domain  string `json:"domain,omitempty"`  // DNS domain, "cluster.local"
	// DomainFrom says how the domain is known: given, dns or assumed. Empty in snapshots of builds that did not look.
	DomainFrom DomainSource `json:"domainFrom,omitempty"`
}

// DomainSource says how a cluster's DNS domain is known. The API does not tell it: it is a setting of each kubelet.
type DomainSource string

// How a domain can be known.
const (
	DomainGiven   DomainSource = "given"   // by the user
	DomainFromDNS DomainSource = "dns"     // the cluster's DNS serves its names there
	DomainAssumed DomainSource = "assumed" // it is the default of every distribution
)

// Cost is what a run asked of the API server.
type Cost struct {
	Lists   int `json:"lists"`   // list requests, pages included
	Gets    int `json:"gets"`    // get requests, discovery included
	Writes  int `json:"writes"`  // creates, patches, deletes (only at depth sockets and probe)
	Streams int `json:"streams"` // port-forward and exec streams opened
}

// Service is the projection of a core/v1 Service.
type Service struct {
	Key
	UID             string            `json:"uid,omitempty"`
	Created         time.Time         `json:"created,omitzero"`
	Type            string            `json:"type,omitempty"`       // ClusterIP, NodePort, LoadBalancer, ExternalName
	ClusterIPs      []string          `json:"clusterIPs,omitempty"` // ["None"] when headless
	ExternalName    string            `json:"externalName,omitempty"`
	Selector        map[string]string `json:"selector,omitempty"`
	Ports           []ServicePort     `json:"ports,omitempty"`
	SessionAffinity string            `json:"sessionAffinity,omitempty"` // None or ClientIP
	AffinitySeconds int32             `json:"affinitySeconds,omitempty"`
	PublishNotReady bool              `json:"publishNotReadyAddresses,omitempty"`
	IPFamilies      []string          `json:"ipFamilies,omitempty"` // IPv4, IPv6
	// Terminating is true when the object is being deleted and a finalizer still holds it.
	Terminating bool `json:"terminating,omitempty"`
	// Ours is true when the object carries this project's managed-by label, so that `fix` may replace it.
	Ours bool `json:"ours,omitempty"`
	// Ignore maps a check ID to the reason given in the annotation grpclb.dev/ignore.
	Ignore map[string]string `json:"ignore,omitempty"`
}

// Headless reports whether the Service has no cluster IP on purpose.
func (s Service) Headless() bool { return len(s.ClusterIPs) > 0 && s.ClusterIPs[0] == "None" }

// DeletionCaveat is what every change to a Service that is being deleted has to say first; empty for any other.
func (s Service) DeletionCaveat() string {
	if !s.Terminating {
		return ""
	}
	return "svc/" + s.Name + " is being deleted, and only a finalizer still holds it: what is changed on it, or relies on it, ends when it goes."
}

// ServicePort is one port of a Service. TargetPort is a number or a container port's name, as written.
type ServicePort struct {
	Name        string `json:"name,omitempty"`
	Protocol    string `json:"protocol,omitempty"` // TCP, UDP, SCTP
	Port        int32  `json:"port"`
	TargetPort  string `json:"targetPort,omitempty"`
	AppProtocol string `json:"appProtocol,omitempty"`
}

// Slice is the projection of a discovery/v1 EndpointSlice. One slice is never the whole Service: use View.Endpoints.
type Slice struct {
	Key
	Service     string          `json:"service"`     // name of the Service, same namespace
	AddressType string          `json:"addressType"` // IPv4, IPv6, FQDN
	Ports       []SlicePort     `json:"ports,omitempty"`
	Endpoints   []SliceEndpoint `json:"endpoints,omitempty"`
}

// SlicePort is a port as the pods serve it. Port 0 means that the slice names no number ("all ports").
type SlicePort struct {
	Name     string `json:"name,omitempty"`
	Port     int32  `json:"port,omitempty"`
	Protocol string `json:"protocol,omitempty"`
}

// SliceEndpoint is one endpoint with the API's defaults applied: an unset ready or serving is true, an unset
// terminating is false (discovery/v1 EndpointConditions).
type SliceEndpoint struct {
	Addresses   []string `json:"addresses"`
	Ready       bool     `json:"ready"`
	Serving     bool     `json:"serving"`
	Terminating bool     `json:"terminating,omitempty"`
	Hostname    string   `json:"hostname,omitempty"`
	Node        string   `json:"node,omitempty"`
	Zone        string   `json:"zone,omitempty"`
	Pod         Key      `json:"pod,omitzero"` // zero for hand-made endpoints
}

// Pod is the projection of a core/v1 Pod.
type Pod struct {
	Key
	UID string `json:"uid,omitempty"`
	// Labels holds only the keys that some Service of the snapshot selects by.
	Labels      map[string]string `json:"labels,omitempty"`
	Owner       Owner             `json:"owner,omitzero"`
	Node        string            `json:"node,omitempty"`
	IPs         []string          `json:"ips,omitempty"`
	HostNetwork bool              `json:"hostNetwork,omitempty"`
	DNSPolicy   string            `json:"dnsPolicy,omitempty"`
	Phase       string            `json:"phase,omitempty"`
	Ready       bool              `json:"ready,omitempty"`
	ReadySince  time.Time         `json:"readySince,omitzero"` // last change of the Ready condition
	Created     time.Time         `json:"created,omitzero"`
	Started     time.Time         `json:"started,omitzero"`
	Terminating bool              `json:"terminating,omitempty"`
	// Trouble is the API's reason word for why the pod is not ready (CrashLoopBackOff, ContainersNotReady), never a message.
	Trouble    string      `json:"trouble,omitempty"`
	Containers []Container `json:"containers,omitempty"`
	Mesh       Mesh        `json:"mesh,omitzero"`
}

// Owner is the workload that a pod belongs to, a ReplicaSet already resolved to its Deployment.
type Owner struct {
	Kind string `json:"kind,omitempty"` // Deployment, StatefulSet, DaemonSet, Job, ReplicaSet, ...; Pod for a bare pod
	Name string `json:"name,omitempty"`
}

// Container is one container of a pod; Init is true for init containers (Sidecar: an init container that keeps running).
type Container struct {
	Name      string          `json:"name"`
	Image     string          `json:"image,omitempty"`
	Init      bool            `json:"init,omitempty"`
	Sidecar   bool            `json:"sidecar,omitempty"`
	Ready     bool            `json:"ready,omitempty"`
	Restarts  int32           `json:"restarts,omitempty"`
	Ports     []ContainerPort `json:"ports,omitempty"`
	Readiness *Probe          `json:"readiness,omitempty"`
	Liveness  *Probe          `json:"liveness,omitempty"`
	Startup   *Probe          `json:"startup,omitempty"`
	CPUMilli  int64           `json:"cpuRequestMilli,omitempty"`
	// Hints are signs of gRPC in names only, from a fixed vocabulary: "env GRPC_PORT", "arg --grpc-port".
	Hints []string `json:"hints,omitempty"`
}

// ContainerPort is a declared container port.
type ContainerPort struct {
	Name     string `json:"name,omitempty"`
	Port     int32  `json:"port"`
	Protocol string `json:"protocol,omitempty"`
}

// Probe is the kind of a probe: grpc, http, tcp or exec. Port is a number or a name; empty for exec.
type Probe struct {
	Kind string `json:"kind"`
	Port string `json:"port,omitempty"`
}

// Mesh says which mesh handles a pod's traffic; the zero value means none was seen.
type Mesh struct {
	Kind string `json:"kind,omitempty"` // linkerd or istio
	// Mode is sidecar, native-sidecar or ambient.
	Mode string `json:"mode,omitempty"`
	// SkipOutbound and Opaque list ports (numbers or ranges, as written) that the mesh does not balance per request.
	SkipOutbound []string `json:"skipOutbound,omitempty"`
	Opaque       []string `json:"opaque,omitempty"`
}

// In reports whether a mesh handles the traffic.
func (m Mesh) In() bool { return m.Kind != "" }

// Node is the projection of a core/v1 Node.
type Node struct {
	Name  string   `json:"name"`
	Zone  string   `json:"zone,omitempty"`
	IPs   []string `json:"ips,omitempty"`
	CIDRs []string `json:"podCIDRs,omitempty"`
	// Kubelet is the kubelet's version, "v1.36.3"; empty when it has another form.
	Kubelet string `json:"kubelet,omitempty"`
	// Unschedulable is true when no new pod may go there.
	Unschedulable bool `json:"unschedulable,omitempty"`
}

// Workload is something that runs client code: a Deployment, StatefulSet, DaemonSet, CronJob, Job or a bare Pod.
type Workload struct {
	Kind string `json:"kind"`
	Key
	Replicas int32    `json:"replicas"`
	Mesh     Mesh     `json:"mesh,omitzero"` // as its pods have it; from the template when it has none
	Targets  []Target `json:"targets,omitempty"`
	// Sidecar is what the pod template has of an injected refresher; nil when it has nothing.
	Sidecar *Sidecar `json:"sidecar,omitempty"`
}

// Ref returns the workload as kubectl takes it: "deploy/aggregator-app".
func (w Workload) Ref() string { return ShortKind(w.Kind) + "/" + w.Name }

// Target is one place in a workload that names where gRPC (or something else) is dialled.
type Target struct {
	Container string `json:"container"`
	// Source is env, arg or configmap; Name the variable's, flag's or key's name; ConfigMap the object's name if any.
	Source    string `json:"source"`
	Name      string `json:"name,omitempty"`
	ConfigMap string `json:"configMap,omitempty"`
	// ConfigMapKey is the key of that ConfigMap which holds the value; it differs from Name for variables taken from one.
	ConfigMapKey string `json:"configMapKey,omitempty"`
	// PortName is the variable that holds the port when host and port are written apart; Token is the host alone then.
	PortName string `json:"portName,omitempty"`
	// Part is true for a variable that cannot be set to another target as it is: its value holds more than Token, is put together from
	// other variables, or is a part of another one's.
	Part bool `json:"part,omitempty"`
	// Token is the target as written, and nothing around it: no user info, query or fragment.
	Token  string `json:"token"`
	Scheme string `json:"scheme,omitempty"` // dns, static, http, ...; empty when none was written
	Host   string `json:"host"`
	Port   int32  `json:"port,omitempty"` // 0 when none was written
	// Kind is service (Host names the Service in Service), ip (Host is the address of the Service or pod in Service or
	// Pod), or missing (Host has the form of a Service's name and none exists).
	Kind    string `json:"kind"`
	Service Key    `json:"service,omitzero"`
	Pod     Key    `json:"pod,omitzero"`
	// Policy is a load-balancing policy named beside the target (round_robin, pick_first), empty when none was seen.
	Policy string `json:"policy,omitempty"`
	// GRPC is true when the name or scheme of the target says that gRPC is spoken.
	GRPC bool `json:"grpc,omitempty"`
	// Sidecar is true when hostAliases of the pod lead the name to the injected refresher, not to the Service.
	Sidecar bool `json:"sidecar,omitempty"`
}

// MayBeGRPC reports whether a gRPC client may dial this. Schemes of other protocols rule it out (postgres://, redis://); an http or
// https URL counts only where its name says gRPC, as .NET's clients write their targets.
func (t Target) MayBeGRPC() bool {
	switch t.Scheme {
	case "":
		return true
	case "http", "https":
		return t.GRPC || strings.Contains(strings.ToLower(t.Name), "grpc")
	}
	return target.GRPCScheme(t.Scheme)
}

// EffectivePort is the port that is dialled: the one written, or the scheme's own; 0 when neither is known.
func (t Target) EffectivePort() int32 {
	switch {
	case t.Port != 0:
		return t.Port
	case t.Scheme == "http":
		return 80
	case t.Scheme == "https":
		return 443
	}
	return 0
}

// The kinds of a Target.
const (
	TargetService = "service"
	TargetIP      = "ip"
	TargetMissing = "missing"
)

// PodMetrics is one sample of metrics.k8s.io for a pod, mesh proxies not counted.
type PodMetrics struct {
	Key
	At            time.Time `json:"at,omitzero"`
	WindowSeconds float64   `json:"windowSeconds,omitempty"`
	CPUMilli      int64     `json:"cpuMilli"`
}

// DNSAnswer is what one DNS pod said to one question.
type DNSAnswer struct {
	Server    Key      `json:"server"`
	Name      string   `json:"name"` // fully qualified, with the final dot
	Type      string   `json:"type"` // A, AAAA, SRV
	Round     int      `json:"round"`
	Rcode     string   `json:"rcode,omitempty"`     // NOERROR, NXDOMAIN, ...
	Addresses []string `json:"addresses,omitempty"` // of A/AAAA records, sorted
	SRV       []SRV    `json:"srv,omitempty"`
	TTL       uint32   `json:"ttl,omitempty"`       // seconds, smallest of the answer
	Transport string   `json:"transport,omitempty"` // tcp or udp
	Size      int      `json:"size,omitempty"`      // bytes on the wire
	Truncated bool     `json:"truncated,omitempty"`
	RTTMicros int64    `json:"rttMicros,omitempty"`
	// Predicted says what a UDP client would have got of this answer.
	Predicted []Truncation `json:"predicted,omitempty"`
	Error     string       `json:"error,omitempty"`
}

// SRV is one SRV record (RFC 2782).
type SRV struct {
	Target string `json:"target"`
	Port   int32  `json:"port"`
}

// Truncation predicts a UDP answer for one EDNS0 size (512: a client without EDNS0; RFC 6891).
type Truncation struct {
	UDPSize   int  `json:"udpSize"`
	Truncated bool `json:"truncated"`
	Fits      int  `json:"fits"` // addresses that survive
}

// PortProbe is what was heard on one port of one pod.
type PortProbe struct {
	Pod  Key   `json:"pod"`
	Port int32 `json:"port"`
	// Proto is grpc, h2c (HTTP/2, not proved to be gRPC), http1, tls (handshake done, not proved further), closed,
	// silent or other.
	Proto                string   `json:"proto"`
	TLS                  *TLSInfo `json:"tls,omitempty"`
	MaxConcurrentStreams *uint32  `json:"maxConcurrentStreams,omitempty"` // nil: the server sets no limit
	Health               string   `json:"health,omitempty"`               // SERVING, NOT_SERVING, UNIMPLEMENTED, ...
	RTTMicros            int64    `json:"rttMicros,omitempty"`
	Evidence             []string `json:"evidence,omitempty"`
	Error                string   `json:"error,omitempty"`
}

// TLSInfo is what a TLS handshake showed.
type TLSInfo struct {
	ALPN       string   `json:"alpn,omitempty"`
	DNSNames   []string `json:"dnsNames,omitempty"`
	ClientCert bool     `json:"clientCertRequested,omitempty"`
}

// SocketTable is the TCP connections of one server pod on the diagnosed Service's ports.
type SocketTable struct {
	Pod Key       `json:"pod"`
	At  time.Time `json:"at,omitzero"`
	// Source is inet_diag (rates known) or proc (connections only).
	Source          string   `json:"source"`
	IntervalSeconds float64  `json:"intervalSeconds,omitempty"`
	Sockets         []Socket `json:"sockets,omitempty"`
	Error           string   `json:"error,omitempty"`
}

// Socket is one TCP socket as the server pod sees it: Local is the pod's side.
type Socket struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	State  string         `json:"state"` // ESTABLISHED, LISTEN, ...
	// RxRate and TxRate are bytes per second over the interval; nil when not measured.
	RxRate *float64 `json:"rxRate,omitempty"`
	TxRate *float64 `json:"txRate,omitempty"`
}

// ProbeRun is a set of channels opened from one place to one kind of target.
type ProbeRun struct {
	From     Key            `json:"from"` // the pod that called
	FromIP   string         `json:"fromIP,omitempty"`
	Via      string         `json:"via"` // clusterip, headless or pods
	Target   string         `json:"target"`
	Channels []ProbeChannel `json:"channels,omitempty"`
	Error    string         `json:"error,omitempty"`
}

// ProbeChannel is one connection of a probe's channel and the calls made over it.
type ProbeChannel struct {
	// Channel numbers the channel that the connection belongs to: 0, 1, ...
	Channel   int            `json:"channel"`
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	Calls     int            `json:"calls"`
	Failed    int            `json:"failed,omitempty"` // calls without a gRPC status from the server
	Codes     map[string]int `json:"codes,omitempty"`
	P50Micros int64          `json:"p50Micros,omitempty"`
	Error     string         `json:"error,omitempty"`
}
