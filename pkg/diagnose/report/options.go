package report

import "github.com/grpclb/kubectl-grpclb/pkg/diagnose"

// TextOptions chooses how text looks. The zero value prints without colour, unwrapped, with Unicode marks.
type TextOptions struct {
	// Wide adds the client x pod matrix, statistics with their sample size, DNS and port facts, caveats of strategies,
	// the names of all checks, and the cost of the run.
	Wide bool
	// Color allows ANSI colours (SGR sequences, no others).
	Color bool
	// ASCII replaces the marks, dots, arrows and bars by ASCII, for terminals that do not show UTF-8.
	ASCII bool
	// Width wraps prose to that many columns; 0 does not wrap. Command lines and tables are never wrapped.
	Width int
	// Namespace is the one that the reader's kubectl uses by default: suggested commands leave -n out for it. Empty
	// puts -n into every suggested command.
	Namespace string
	// Facts is the snapshot that the report was made from; Wide shows its DNS and port facts. May be nil.
	Facts *diagnose.Snapshot
}
