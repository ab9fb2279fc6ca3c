package diagnose

import "time"

// Report is the outcome of a diagnosis. Its JSON form is deterministic for one snapshot.
type Report struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Tool       string          `json:"tool,omitempty"`
	TakenAt    time.Time       `json:"takenAt"`
	Cluster    Cluster         `json:"cluster"`
	Depth      string          `json:"depth,omitempty"`
	Status     ReportStatus    `json:"status"`
	FailOn     Severity        `json:"failOn,omitempty"`
	Services   []ServiceReport `json:"services"`
	Gaps       []Gap           `json:"gaps,omitempty"`
	Cost       Cost            `json:"cost,omitzero"`
}

// ReportStatus is the outcome in one word; it decides the exit code.
type ReportStatus string

// The statuses of a report.
const (
	StatusOK       ReportStatus = "ok"       // nothing at or above the threshold
	StatusFindings ReportStatus = "findings" // at least one finding at or above the threshold
	StatusPartial  ReportStatus = "partial"  // a check at or above the threshold could not look
)

// ServiceReport is the outcome for one Service.
type ServiceReport struct {
	Key
	Verdict  Verdict     `json:"verdict"`
	GRPC     GRPCVerdict `json:"grpc"`
	Summary  Summary     `json:"summary"`
	Clients  []ClientRef `json:"clients,omitempty"`
	Spread   Spread      `json:"spread"`
	Findings []Finding   `json:"findings"`
	Passed   []string    `json:"passed,omitempty"`
	Skipped  []Skip      `json:"skipped,omitempty"`
}

// Verdict answers "is my load balanced?".
type Verdict struct {
	State    VerdictState `json:"state"`
	Headline string       `json:"headline"` // in words, lower case, no final dot
}

// VerdictState is the verdict in one word.
type VerdictState string

// The verdicts.
const (
	VerdictOK      VerdictState = "ok"
	VerdictPinned  VerdictState = "pinned"
	VerdictUneven  VerdictState = "uneven"
	VerdictBroken  VerdictState = "broken"
	VerdictSuspect VerdictState = "suspect" // findings, but traffic itself was not seen to be wrong
	VerdictUnknown VerdictState = "unknown"
	VerdictNotGRPC VerdictState = "not-grpc"
)

// Summary is the Service in a few facts for the second line of the output.
type Summary struct {
	Type      string `json:"type"` // ClusterIP, headless, NodePort, LoadBalancer, ExternalName
	ClusterIP string `json:"clusterIP,omitempty"`
	// ExternalName is the name that an ExternalName Service stands for; it has no endpoints.
	ExternalName string        `json:"externalName,omitempty"`
	Ports        []SummaryPort `json:"ports,omitempty"`
	Terminating  bool          `json:"terminating,omitempty"` // it is being deleted
	Ready        *int          `json:"ready,omitempty"`       // nil when the slices are unknown, and for an ExternalName
	NotReady     int           `json:"notReady,omitempty"`
	Published    int           `json:"notReadyPublished,omitempty"` // those of NotReady that get calls all the same (publishNotReadyAddresses)
	Nodes        int           `json:"nodes,omitempty"`
	Zones        int           `json:"zones,omitempty"`
	Mesh         string        `json:"mesh,omitempty"` // linkerd, istio; empty: none seen, when pods are known
}

// SummaryPort is one port and where it leads.
type SummaryPort struct {
	Name    string  `json:"name,omitempty"`
	Port    int32   `json:"port"`
	Targets []int32 `json:"targets,omitempty"`
	GRPC    bool    `json:"grpc,omitempty"`
}

// ClientRef is a client workload in reach.
type ClientRef struct {
	Namespace string   `json:"namespace"`
	Workload  string   `json:"workload"` // "deploy/aggregator-app"
	Targets   []string `json:"targets"`
	Mesh      string   `json:"mesh,omitempty"`
}

// SkipKind says why a check did not run.
type SkipKind string

// The kinds of a skip.
const (
	SkipNoFact     SkipKind = "no-fact"    // denied or failed: could not look
	SkipNotAsked   SkipKind = "not-asked"  // a deeper look would tell
	SkipMuted      SkipKind = "muted"      // the cause is reported by another check
	SkipSuppressed SkipKind = "suppressed" // --skip or the Service's annotation
	SkipNotGRPC    SkipKind = "not-grpc"   // a gRPC check for something that is not judged gRPC
)

// Skip is a check that did not run, with the reason in one clause.
type Skip struct {
	Check    string   `json:"check"`
	Kind     SkipKind `json:"kind"`
	Severity Severity `json:"severity"`
	Reason   string   `json:"reason"`
	Hint     string   `json:"hint,omitempty"`
}
