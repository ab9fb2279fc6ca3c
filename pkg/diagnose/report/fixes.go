package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// maxTitle is the longest title that a command still stands beside.
const maxTitle = 44

func (p *printer) fixes(s diagnose.ServiceReport, fixes []diagnose.Fix) {
	pad := 0
	for _, f := range fixes {
		if n := p.width(p.visible(f.Title)); n <= maxTitle {
			pad = max(pad, n)
		}
	}
	for i, f := range fixes {
		lead := span{faint, fmt.Sprintf("fix %-3d", i+1)}
		lines := p.commands(s, f)
		n := p.width(p.visible(f.Title))
		if len(lines) == 1 && n <= maxTitle && (p.o.Width == 0 || 4+7+pad+4+p.width(p.visible(lines[0])) <= p.o.Width) {
			p.line(4, lead, txt("%s:%*s", f.Title, pad-n+3, ""), txt("%s", lines[0]))
		} else {
			p.prose(4, []span{lead}, f.Title)
			for _, l := range lines {
				p.line(11, txt("%s", l))
			}
		}
		if f.Strategy == "" {
			p.documents(f)
		}
		if f.Strategy == "" || p.o.Wide { // `fix --strategy` prints its own, above what it would apply
			for _, c := range f.Caveats {
				p.prose(11, []span{{faint, "- "}}, c)
			}
		}
	}
}

// commands are the command lines of a fix, each with its note as a shell comment: its own, then those of its patches.
// What a strategy does in full is one command, however much of it the report holds.
func (p *printer) commands(s diagnose.ServiceReport, f diagnose.Fix) []string {
	cmds := f.Commands
	if f.Strategy != "" {
		if len(cmds) == 0 {
			cmds = []diagnose.Command{p.strategyCommand(s, f.Strategy)}
		}
		cmds = cmds[:1]
	}
	if f.Strategy == "" {
		cmds = append(slices.Clone(cmds), p.patchCommands(f)...)
	}
	var out []string
	for _, c := range cmds {
		line, ok := quote.CommandLine(c)
		if !ok {
			line = "# left out: a command with an argument that cannot be shown"
		}
		out = append(out, line)
		if c.Note != "" && ok {
			out = append(out, "# "+c.Note)
		}
	}
	return out
}

func (p *printer) strategyCommand(s diagnose.ServiceReport, strategy diagnose.Strategy) diagnose.Command {
	args := []string{"kubectl", "grpclb", "fix", "svc/" + s.Name}
	if s.Namespace != p.o.Namespace {
		args = append(args, "-n", s.Namespace)
	}
	return diagnose.Command{Args: append(args, "--strategy", string(strategy))}
}

// patchCommands make the patches of a fix that none of its own commands makes.
func (p *printer) patchCommands(f diagnose.Fix) []diagnose.Command {
	var out []diagnose.Command
	for _, d := range f.Patches {
		if c, ok := p.patchCommand(d); ok && !patchedBy(f.Commands, d) {
			out = append(out, c)
		}
	}
	return out
}

// patchCommand makes one patch; false when it is no YAML object, or cannot be shown in a command line.
func (p *printer) patchCommand(d diagnose.Patch) (diagnose.Command, bool) {
	j, err := yaml.YAMLToJSON([]byte(d.YAML))
	if err != nil || !bytes.HasPrefix(j, []byte("{")) {
		return diagnose.Command{}, false
	}
	args := []string{"kubectl", "patch", d.Subject}
	if d.Namespace != p.o.Namespace {
		args = append(args, "-n", d.Namespace)
	}
	c := diagnose.Command{Args: append(args, "--type", "strategic", "-p", string(j))}
	_, ok := quote.CommandLine(c)
	return c, ok
}

// patchedBy reports whether one of the commands patches that object.
func patchedBy(cs []diagnose.Command, d diagnose.Patch) bool {
	return slices.ContainsFunc(cs, func(c diagnose.Command) bool {
		return slices.Contains(c.Args, "patch") && slices.Contains(c.Args, d.Subject)
	})
}

// documents prints what of a fix no command line holds.
func (p *printer) documents(f diagnose.Fix) {
	for _, m := range f.Manifests {
		p.block("kubectl apply -f -, with:", m)
	}
	for _, d := range f.Patches {
		if _, ok := p.patchCommand(d); !ok && !patchedBy(f.Commands, d) {
			p.block(fmt.Sprintf("patch of %s in %s:", d.Subject, d.Namespace), d.YAML)
		}
	}
	for _, s := range f.Snippets {
		p.block(strings.TrimSpace(s.Language+" "+s.Where)+" code:", s.Code)
	}
}

func (p *printer) block(title, text string) {
	p.line(11, span{faint, title})
	for l := range strings.Lines(text) {
		p.line(13, txt("%s", strings.ReplaceAll(strings.TrimRight(l, "\r\n"), "\t", "    ")))
	}
}
