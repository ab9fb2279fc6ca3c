package checks_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
)

const catalogueFile = "../../../docs/checks.md"

// TestCatalogueIsFresh compares docs/checks.md with the checks; -update (or go generate) writes it.
func TestCatalogueIsFresh(t *testing.T) {
	golden.Text(t, catalogueFile, string(catalogue(checks.All())))
}

// catalogue renders every check: a table, then the pages with their headings one level down.
func catalogue(all []diagnose.Check) []byte {
	var b bytes.Buffer
	b.WriteString(`<!-- Generated from pkg/diagnose/checks by go generate; edit the pages there. -->

# Checks

What ` + "`kubectl grpclb diagnose`" + ` looks for. The level is the default of a check's findings; a finding may be milder, and its page says
when. Each finding says how it is known: *observed* (seen on the wire or in a socket table), *configured* (read from an object) or
*inferred* (follows from those and a stated assumption). A check that lacks a fact it needs is skipped, with the reason; it never
counts as passed. "gRPC only" checks run for Services that are judged to speak gRPC.

| check | level | what is wrong | needs | gRPC only | silent when this fires | since |
|-|-|-|-|-|-|-|
`)
	for _, c := range all {
		needs := make([]string, len(c.Needs))
		for i, n := range c.Needs {
			needs[i] = string(n)
		}
		yes := ""
		if c.GRPCOnly {
			yes = "yes"
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s | %s | %s |\n", c.ID, c.ID, c.Severity, c.Title, strings.Join(needs, ", "), yes,
			strings.Join(c.DependsOn, ", "), c.Since)
	}
	for _, c := range all {
		b.WriteString("\n")
		for line := range strings.Lines(c.Doc) {
			if strings.HasPrefix(line, "#") {
				line = "#" + line
			}
			b.WriteString(line)
		}
	}
	return b.Bytes()
}
