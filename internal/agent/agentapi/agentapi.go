// Package agentapi is the contract between the in-pod agent (grpclb-refresher sockets, grpclb-refresher probe) and whoever reads
// its output, in practice the plugin by way of a container's log.
//
// It holds types and their encoding only: it opens no socket, reads no clock and links neither Kubernetes clients nor grpc-go,
// so both ends may import it.
//
// # Wire form
//
// A report is written as lines of JSON, each at most [MaxLine] bytes, and ends with a line that carries the number of lines
// and items before it:
//
//	{"version":"grpclb.dev/agent/v1","kind":"SocketReport","head":{...everything but the lists...}}
//	{"version":"grpclb.dev/agent/v1","kind":"SocketReport","sockets":[...]}
//	{"version":"grpclb.dev/agent/v1","kind":"SocketReport","end":{"lines":2,"items":17}}
//
// Lines are short because container runtimes split what a container prints at 16 KiB and may put a line of the other stream
// between the pieces; the end line exists because a log can be cut anywhere, by a rotation or by a dropped connection, and half a
// socket table must not pass for a whole one.
package agentapi

import (
	"net/netip"
	"strconv"
	"time"
)

// Version names this revision of the contract. Readers refuse any other.
const Version = "grpclb.dev/agent/v1"

// Kinds of report.
const (
	KindSockets = "SocketReport"
	KindProbe   = "ProbeReport"
)

// SocketReport is what `grpclb-refresher sockets` saw: the TCP sockets of one network namespace (of one pod), and how fast their
// byte counters moved.
type SocketReport struct {
	// Version is always [Version].
	Version string `json:"version"`
	// At is when the last table was read, by the agent's clock.
	At time.Time `json:"at"`
	// Host is the host name the agent saw: the pod's name, or the node's for a pod on the host network.
	Host string `json:"host,omitempty"`
	// Interval is the measured time between the first and the last table, in seconds; 0 when only one was read.
	Interval float64 `json:"interval"`
	// Samples is the number of tables that were read.
	Samples int `json:"samples"`
	// Closed counts sockets (within the asked ports and states) seen in an earlier table and gone from the last.
	Closed int `json:"closed,omitempty"`
	// Omitted counts sockets left out because the report reached its limit.
	Omitted int `json:"omitted,omitempty"`
	// Interrupted is true when a signal ended the run before all tables were read.
	Interrupted bool `json:"interrupted,omitempty"`
	// Sockets is sorted by local, then remote address. Empty means that none matched, unless Errors says otherwise.
	Sockets []Socket `json:"sockets,omitempty"`
	// Errors are plain sentences, one per thing that could not be read.
	Errors []string `json:"errors,omitempty"`
}

// Socket is one TCP socket. Addresses of IPv4 peers are plain IPv4, whether the socket was AF_INET or AF_INET6.
type Socket struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// State is the kernel's name: "ESTABLISHED", "LISTEN", "TIME_WAIT" … see [TCPState].
	State string `json:"state"`
	// RxBytes and TxBytes count payload received and payload acknowledged by the peer since the connection was made
	// (tcpi_bytes_received, tcpi_bytes_acked; RFC 4898). Nil where the source does not tell: LISTEN, TIME_WAIT, /proc/net/tcp and
	// kernels before 4.1.
	RxBytes *uint64 `json:"rxBytes,omitempty"`
	TxBytes *uint64 `json:"txBytes,omitempty"`
	// RxRate and TxRate are the growth of these counters in bytes per second over the report's interval; nil for a socket
	// that was not in at least two tables.
	RxRate *float64 `json:"rxRate,omitempty"`
	TxRate *float64 `json:"txRate,omitempty"`
	// SegsIn is the number of segments received, nil where unknown (kernels before 4.2).
	SegsIn *uint32 `json:"segsIn,omitempty"`
	// RTTMicros is the kernel's smoothed round-trip time in microseconds, nil where unknown. Delayed acknowledgements inflate it.
	RTTMicros *uint32 `json:"rttMicros,omitempty"`
	// UID is the owner of the socket. Inode identifies it within the node; 0 for sockets without a file (TIME_WAIT, SYN_RECV).
	UID   uint32 `json:"uid"`
	Inode uint64 `json:"inode,omitempty"`
}

// ProbeReport is what `grpclb-refresher probe` did: calls over its own connections, counted by the connection they ran on.
type ProbeReport struct {
	// Version is always [Version].
	Version string `json:"version"`
	// At is when the last call ended, by the agent's clock.
	At time.Time `json:"at"`
	// Host is the host name the agent saw (see SocketReport).
	Host string `json:"host,omitempty"`
	// Method is the full gRPC method that was called, "/package.Service/Method".
	Method string `json:"method"`
	// Elapsed is the time from the first dial to the last answer, in seconds.
	Elapsed float64 `json:"elapsed"`
	// HoldSeconds is how long the connections stay open after this report was printed.
	HoldSeconds float64 `json:"holdSeconds,omitempty"`
	// Interrupted is true when a signal ended the run before all calls were made.
	Interrupted bool `json:"interrupted,omitempty"`
	// Targets has one entry per --target, in the order of the command line.
	Targets []Target `json:"targets,omitempty"`
	// Channels has one entry per connection made or tried, in the order of targets and channels.
	Channels []Channel `json:"channels,omitempty"`
	// Errors are plain sentences, one per thing that could not be done.
	Errors []string `json:"errors,omitempty"`
}

// Target is one --target of a probe.
type Target struct {
	// Name is the label given before the equals sign ("clusterip", "headless"), or the target itself.
	Name string `json:"name"`
	// Target is as given: "host:port" or "dns:///host:port".
	Target string `json:"target"`
	// Resolved is the number of addresses found for the name when the probe began, after removal of doubles.
	Resolved int `json:"resolved"`
	// Error says why the name gave no address; empty otherwise.
	Error string `json:"error,omitempty"`
}

// Channel is one connection of a probe. A gRPC channel to a dns:/// target has one for each address; to a plain
// host:port it has one at a time. A connection that broke and was made again gives another entry.
type Channel struct {
	// Name and Target repeat those of the Target that the connection belongs to.
	Name   string `json:"name"`
	Target string `json:"target"`
	// Index tells the channels of one target apart: 0 … K-1.
	Index int `json:"index"`
	// Local and Remote are the connection's ends as the agent sees them. Behind a ClusterIP, Remote is the virtual address
	// and Local is what the server's socket table shows as its peer. Local is absent when no connection came about.
	Local  netip.AddrPort `json:"local,omitzero"`
	Remote netip.AddrPort `json:"remote,omitzero"`
	// TLS tells whether the connection was encrypted.
	TLS bool `json:"tls,omitempty"`
	// Calls is the number of calls that ended, Failed those among them that got no gRPC status from the server.
	Calls  int `json:"calls"`
	Failed int `json:"failed"`
	// Codes counts the calls by canonical gRPC code name ("OK", "UNIMPLEMENTED" …); for failed calls it is the code that
	// a gRPC client would report. The values add up to Calls.
	Codes map[string]int `json:"codes,omitempty"`
	// Latency is over the calls that the server answered; nil when there was none.
	Latency *Latency `json:"latency,omitempty"`
	// Settings is what the server announced; nil when it never did.
	Settings *Settings `json:"settings,omitempty"`
	// StartError says why the connection could not be made.
	StartError string `json:"startError,omitempty"`
	// EndError says what ended the connection before the probe did (GOAWAY, reset …).
	EndError string `json:"endError,omitempty"`
}

// Latency holds quantiles in microseconds and the number of calls they were computed from: all, or a uniform choice of them.
type Latency struct {
	P50     uint32 `json:"p50"`
	P90     uint32 `json:"p90"`
	P99     uint32 `json:"p99"`
	Samples int    `json:"samples"`
}

// Settings are the values of a server's SETTINGS frames (RFC 9113 section 6.5.2). Nil means that the server did not send the
// setting, so that the protocol's default holds; for MaxConcurrentStreams that default is "no limit".
type Settings struct {
	HeaderTableSize      *uint32 `json:"headerTableSize,omitempty"`
	MaxConcurrentStreams *uint32 `json:"maxConcurrentStreams,omitempty"`
	InitialWindowSize    *uint32 `json:"initialWindowSize,omitempty"`
	MaxFrameSize         *uint32 `json:"maxFrameSize,omitempty"`
	MaxHeaderListSize    *uint32 `json:"maxHeaderListSize,omitempty"`
}

// Names of TCP states, as the kernel numbers them (include/net/tcp_states.h).
const (
	StateEstablished = "ESTABLISHED"
	StateListen      = "LISTEN"
	StateTimeWait    = "TIME_WAIT"
)

// TCPState names a state number of INET_DIAG and /proc/net/tcp. A number it does not know is given as "STATE_n".
func TCPState(n uint8) string {
	names := [...]string{
		1: StateEstablished, 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: StateTimeWait,
		7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: StateListen, 11: "CLOSING", 12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE",
	}
	if n == 0 || int(n) >= len(names) {
		return "STATE_" + strconv.Itoa(int(n))
	}
	return names[n]
}
