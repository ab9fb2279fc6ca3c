package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// JSON writes the report as one indented JSON document (docs/schema/report.v1alpha1.schema.json). What a terminal may
// act on is written as \u escapes; invalid UTF-8 becomes U+FFFD.
func JSON(w io.Writer, r diagnose.Report) error {
	b, err := quote.JSON(r)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return write(w, b)
}

// YAML writes the report as one YAML document: the same data as JSON.
func YAML(w io.Writer, r diagnose.Report) error {
	b, err := quote.YAML(r)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return write(w, b)
}

// Name writes service/NAME for each Service with a finding at or above the report's threshold, one a line, as
// kubectl -o name does: what a loop over "those that need work" takes.
func Name(w io.Writer, r diagnose.Report) error {
	var b bytes.Buffer
	for _, s := range r.Services {
		if worst(s) >= cmp.Or(r.FailOn, diagnose.High) {
			fmt.Fprintf(&b, "service/%s\n", quote.Visible(s.Name))
		}
	}
	return write(w, b.Bytes())
}

// worst is the severity of the worst finding; zero when there is none.
func worst(s diagnose.ServiceReport) diagnose.Severity {
	var out diagnose.Severity
	for _, f := range s.Findings {
		out = max(out, f.Severity)
	}
	return out
}

func write(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// Manifest returns an object as one YAML document, safe to show and fit to apply.
func Manifest(content map[string]any) (string, error) {
	b, err := quote.YAML(content)
	return string(b), err
}
