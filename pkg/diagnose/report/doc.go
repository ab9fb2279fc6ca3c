// Package report writes a [diagnose.Report] for people and for programs.
//
//	err := report.Text(os.Stdout, r, report.TextOptions{Color: true, Width: 100})
//
// [Text] is what a person reads at a terminal; [JSON] and [YAML] hold everything, in a documented schema; [Name] prints
// what another command can take. [SpreadTable], [DNSTable] and [ProbeTable] are the answers of the plugin's narrower
// commands.
//
// # What it refuses to do
//
// A reporter sees the report only: it judges nothing, asks nothing, and knows no terminal (the caller says whether
// colour, which width and which characters are wanted). No string of a cluster reaches the writer as it came: see
// package quote.
package report
