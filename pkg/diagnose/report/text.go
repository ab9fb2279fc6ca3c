package report

import (
	"io"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Text writes the report for a person: for each Service one line that answers "is my load balanced?", the Service in
// a few facts, its pods, the findings with evidence and fixes, and what was not looked at.
func Text(w io.Writer, r diagnose.Report, o TextOptions) error { return nil }

// SpreadTable writes who is connected to whom: the pods of a Service with connections, bytes per second and CPU, then
// the client x pod matrix.
func SpreadTable(w io.Writer, r diagnose.ServiceReport, o TextOptions) error { return nil }

// ProbeTable writes where the probe's own calls landed, one table for each way of dialling.
func ProbeTable(w io.Writer, r diagnose.ServiceReport, o TextOptions) error { return nil }

// DNSTable writes what each DNS pod says of the Service against its endpoints: rcode, TTL, transport, size, the
// predicted loss over UDP, and every disagreement.
func DNSTable(w io.Writer, v *diagnose.View, o TextOptions) error { return nil }
