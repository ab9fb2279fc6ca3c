package diagnose

import (
	"errors"
	"fmt"
	"regexp"
)

// Severity orders findings by what they do to traffic.
type Severity int

// The severities, from "worth knowing" to "traffic fails or sits on one pod".
const (
	Info Severity = iota + 1
	Low
	Medium
	High
	Critical
)

var severityNames = map[Severity]string{Info: "info", Low: "low", Medium: "medium", High: "high", Critical: "critical"}

// String returns the lower-case word of the severity.
func (s Severity) String() string {
	if n, ok := severityNames[s]; ok {
		return n
	}
	return fmt.Sprintf("severity(%d)", int(s))
}

// MarshalText encodes the severity as its word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText decodes a severity's word; anything else is an error.
func (s *Severity) UnmarshalText(b []byte) error {
	v, err := ParseSeverity(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// ParseSeverity decodes info, low, medium, high or critical.
func ParseSeverity(word string) (Severity, error) {
	for s, n := range severityNames {
		if n == word {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown severity %q (want info, low, medium, high or critical)", word)
}

// Confidence says where a finding's evidence comes from.
type Confidence string

// The confidence words, strongest first.
const (
	Observed   Confidence = "observed"   // seen on the wire or in a socket table
	Configured Confidence = "configured" // read from an object
	Inferred   Confidence = "inferred"   // follows from the above and a stated assumption
)

// Check is one failure mode: a value, not an interface, so that a check is one file and nothing else.
type Check struct {
	ID       string   // slug, never reused or renumbered
	Title    string   // the failure in one line, no final dot
	Severity Severity // default of its findings; a finding may be milder
	Doc      string   // markdown page: what, why, how it shows, how to fix, what may fool it
	Since    string   // first release that has it
	// Needs lists the groups of facts without which the check cannot say anything. Facts that only sharpen the
	// answer are looked at through View and need not be listed.
	Needs []FactName
	// DependsOn lists checks whose findings make this one noise; they must stand earlier in the list.
	DependsOn []string
	// GRPCOnly checks run only for Services judged to speak gRPC: others never get a gRPC alarm.
	GRPCOnly bool
	// Run judges one Service. It must not change the view, and gets neither context, client, clock nor logger.
	Run func(*View) []Finding
}

var slug = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// Validate reports every mistake in a list of checks: bad or repeated IDs, missing parts, unknown facts, and
// dependencies that are unknown or do not stand earlier.
func Validate(checks []Check) error {
	var errs []error
	seen := map[string]bool{}
	for _, c := range checks {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("check %q: "+format, append([]any{c.ID}, args...)...))
		}
		if !slug.MatchString(c.ID) {
			bad("the ID is no slug")
		}
		if seen[c.ID] {
			bad("the ID is used twice")
		}
		if c.Title == "" || c.Doc == "" || c.Since == "" || c.Run == nil {
			bad("needs a title, a doc, a since and a run function")
		}
		if _, ok := severityNames[c.Severity]; !ok {
			bad("has no severity")
		}
		for _, n := range c.Needs {
			if (&Snapshot{}).Status(n).Reason != "" {
				bad("needs the unknown fact %q", n)
			}
		}
		for _, d := range c.DependsOn {
			if !seen[d] {
				bad("depends on %q, which does not stand earlier", d)
			}
		}
		seen[c.ID] = true
	}
	return errors.Join(errs...)
}
