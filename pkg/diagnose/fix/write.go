package fix

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// WriteManifests writes the plan's objects as YAML documents that `kubectl apply -f -` takes, with everything else of
// the plan as comments: what is left to do and to know first, code last. A plan without objects is comments only, and says so in the first line.
func (p Plan) WriteManifests(w io.Writer) error {
	var out comments
	if nothing := p.Nothing(); nothing != "" {
		out.line("%s.", nothing)
	}
	out.line("%s: %s", p.command(), p.Title)
	if slices.ContainsFunc(p.Objects, func(o Object) bool { return !strings.HasPrefix(o.Ref, "svc/") }) {
		out.line("For kubectl apply -f - (client-side; not for --server-side, which takes a field that is left out for one to be removed).")
	}
	out.list("Know before you apply:", p.Caveats)
	out.list("Not done here:", p.Notes)
	out.commands(p.Commands)
	for _, o := range p.Objects {
		y, err := quote.YAML(o.Content)
		if err != nil {
			return fmt.Errorf("write manifest %s: %w", o.Ref, err)
		}
		out.WriteString("---\n")
		out.line("%s: %s", o.Ref, o.Why)
		out.Write(y)
	}
	if len(p.Objects) == 0 {
		out.patches(slices.DeleteFunc(slices.Clone(p.Patches), p.patchedBy))
	}
	if len(p.Objects) > 0 && len(p.Snippets) > 0 {
		out.WriteString("---\n")
	}
	out.snippets(p)
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	return nil
}

// patchedBy reports whether a command of the plan makes that patch.
func (p Plan) patchedBy(patch diagnose.Patch) bool {
	return slices.ContainsFunc(p.Commands, func(c diagnose.Command) bool {
		return len(c.Args) > 4 && c.Args[1] == "patch" && c.Args[2] == patch.Subject && c.Args[4] == patch.Namespace
	})
}

// command is how the plan was asked for.
func (p Plan) command() string {
	line, ok := quote.CommandLine(diagnose.Command{
		Args: []string{"kubectl", "grpclb", "fix", "svc/" + p.Service.Name, "-n", p.Service.Namespace, "--strategy", string(p.Strategy)},
	})
	if !ok {
		return "kubectl grpclb fix"
	}
	return line
}

// comments builds a YAML stream; each of its methods writes comment lines, one for each line given, whatever is in
// them.
type comments struct{ bytes.Buffer }

func (c *comments) line(format string, args ...any) {
	c.WriteString(strings.TrimRight("# "+quote.Visible(fmt.Sprintf(format, args...)), " ") + "\n")
}

func (c *comments) list(title string, xs []string) {
	if len(xs) == 0 {
		return
	}
	c.line("")
	c.line("%s", title)
	for _, x := range xs {
		c.line("- %s", x)
	}
}

func (c *comments) commands(cs []diagnose.Command) {
	if len(cs) == 0 {
		return
	}
	c.line("")
	c.line("To be run:")
	for _, cmd := range cs {
		line, ok := quote.CommandLine(cmd)
		if !ok {
			c.line("  (left out: %s has an argument that cannot be shown)", strings.Join(cmd.Args, " "))
			continue
		}
		c.line("  %s", line)
		if cmd.Note != "" {
			c.line("      (%s)", cmd.Note)
		}
	}
}

func (c *comments) patches(ps []diagnose.Patch) {
	for _, p := range ps {
		c.line("")
		c.line("The same as a patch of %s in %s:", p.Subject, p.Namespace)
		c.block(p.YAML)
	}
}

func (c *comments) snippets(p Plan) {
	for _, s := range p.Snippets {
		c.line("")
		c.line("%s, %s code:", s.Language, s.Where)
		c.block(s.Code)
	}
}

// block writes lines of code; tabs become spaces, since they would be spelled out.
func (c *comments) block(text string) {
	for l := range strings.Lines(text) {
		c.line("    %s", strings.ReplaceAll(strings.TrimRight(l, "\r\n"), "\t", "    "))
	}
}
