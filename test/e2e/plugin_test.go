//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// outcome is one run of the plugin.
type outcome struct {
	code           int
	stdout, stderr string
	args           []string
}

// grpclb runs the plugin in the namespace. Most tests start the binary itself;
// those of the user's stories go through kubectl.
func (s *space) grpclb(args ...string) outcome {
	s.Helper()
	return s.finish(s.command(args...), args)
}

// grpclbByKubectl runs the plugin the way a user does: kubectl finds it on the PATH.
func (s *space) grpclbByKubectl(args ...string) outcome {
	s.Helper()
	argv := s.bed.Kubectl(append(append([]string{"grpclb"}, args...), "-n", s.ns)...)
	return s.finish(s.bed.Command(s.ctx, argv...), args)
}

// command is the plugin's binary, ready to start in the namespace.
func (s *space) command(args ...string) *exec.Cmd {
	argv := append([]string{s.plugin}, args...)
	argv = append(argv, "-n", s.ns)
	if s.bed.Context != "" {
		argv = append(argv, "--context", s.bed.Context)
	}
	return s.bed.Command(s.ctx, argv...)
}

func (s *space) finish(cmd *exec.Cmd, args []string) outcome {
	s.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o := outcome{stdout: stdout.String(), stderr: stderr.String(), args: args}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		o.code = exit.ExitCode()
	case err != nil:
		s.Fatalf("start the plugin: %v", err)
	}
	if strings.Contains(o.stderr, "panic:") || strings.Contains(o.stderr, "goroutine ") || o.code < 0 {
		s.Fatalf("the plugin crashed: %s", o)
	}
	return o
}

// String shows a run for a failed test.
func (o outcome) String() string {
	var b strings.Builder
	b.WriteString("kubectl grpclb " + strings.Join(o.args, " "))
	b.WriteString("\nexit code ")
	b.WriteString(jsonText(o.code))
	b.WriteString("\n--- stdout\n" + shorten(o.stdout) + "\n--- stderr\n" + o.stderr)
	return b.String()
}

// shorten leaves out the code snippets and most of the spread of a JSON report,
// which fill pages.
func shorten(stdout string) string {
	var r diagnose.Report
	if json.Unmarshal([]byte(stdout), &r) != nil || r.Kind != diagnose.ReportKind {
		return stdout
	}
	var b strings.Builder
	for _, s := range r.Services {
		b.WriteString(s.Name + ": " + string(s.Verdict.State) + ": " + s.Verdict.Headline + "\ngRPC " + jsonText(s.GRPC) + "\nspread " + jsonText(s.Spread) + "\n")
		for _, f := range s.Findings {
			f.Fixes = nil
			b.WriteString(jsonText(f) + "\n")
		}
		b.WriteString("skipped " + jsonText(s.Skipped) + "\n")
	}
	b.WriteString("gaps " + jsonText(r.Gaps) + "\ncost " + jsonText(r.Cost))
	return b.String()
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// report reads the JSON report of a run.
func (s *space) report(o outcome) diagnose.Report {
	s.Helper()
	var r diagnose.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		s.Fatalf("no report: %v\n%s", err, o)
	}
	return r
}

// diagnose runs diagnose -o json about one Service and returns its part of the report.
func (s *space) diagnose(service string, args ...string) (diagnose.ServiceReport, outcome) {
	s.Helper()
	o := s.grpclb(append([]string{"diagnose", "svc/" + service, "-o", "json"}, args...)...)
	r := s.report(o)
	if len(r.Services) != 1 {
		s.Fatalf("a report of %d services: %s", len(r.Services), o)
	}
	return r.Services[0], o
}

// finding is what a test expects to be told.
type finding struct {
	severity   diagnose.Severity
	confidence diagnose.Confidence
	subject    string
	says       []string // parts of the summary and the evidence
	fix        string   // part of a fix's title; empty when the test does not care
}

// differs says how a found finding is not the expected one; empty when it is.
func (f finding) differs(got diagnose.Finding) string {
	var out []string
	if got.Severity != f.severity || got.Confidence != f.confidence || got.Subject != f.subject {
		out = append(out, "it is "+got.Severity.String()+", "+string(got.Confidence)+", about "+got.Subject+"; want "+
			f.severity.String()+", "+string(f.confidence)+", "+f.subject)
	}
	text := got.Summary + "\n" + strings.Join(got.Evidence, "\n")
	for _, part := range f.says {
		if !strings.Contains(text, part) {
			out = append(out, "it does not say "+part)
		}
	}
	if f.fix != "" && !slices.ContainsFunc(got.Fixes, func(x diagnose.Fix) bool { return strings.Contains(x.Title, f.fix) }) {
		out = append(out, "no fix would "+f.fix)
	}
	if len(out) > 0 {
		out = append(out, "it says:\n"+text)
	}
	return strings.Join(out, "\n")
}

// findings returns a report's findings of one check.
func findings(r diagnose.ServiceReport, check string) []diagnose.Finding {
	var out []diagnose.Finding
	for _, f := range r.Findings {
		if f.Check == check {
			out = append(out, f)
		}
	}
	return out
}

// troubles is found without what is the scheduler's choice: all pods of an example may come to lie on one node.
func troubles(r diagnose.ServiceReport) []string {
	return slices.DeleteFunc(found(r), func(check string) bool { return check == "pods-on-one-node" })
}

// found lists the checks that found something, each once, in order.
func found(r diagnose.ServiceReport) []string {
	var out []string
	for _, f := range r.Findings {
		if !slices.Contains(out, f.Check) {
			out = append(out, f.Check)
		}
	}
	return out
}
