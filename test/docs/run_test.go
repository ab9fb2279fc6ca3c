package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// runPage runs the blocks of a page and returns what was reported.
func runPage(t *testing.T, dir, namespace string, blocks ...Block) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the blocks are written for sh")
	}
	var reports []string
	s := Session{
		Command: func(ctx context.Context, argv ...string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Dir = dir
			return cmd
		},
		Namespace: namespace,
		Report:    func(_ Block, err error) { reports = append(reports, err.Error()) },
	}
	s.Run(t.Context(), &Page{Blocks: blocks}, Here)
	return strings.Join(reports, "\n")
}

func block(class Class, text string) Block { return Block{Class: class, Code: Code{Text: text}} }

func TestSession(t *testing.T) {
	exits3 := block(Here, "exit 3")
	exits3.Exit = 3
	tests := map[string]struct {
		blocks []Block
		ns     string
		want   string // in the reports; empty for none
	}{
		"in order, in one folder":        {blocks: []Block{block(Here, "echo a > f"), block(Here, "cat f"), block(Output, "a")}},
		"another code":                   {blocks: []Block{block(Here, "echo why >&2; false")}, want: "ended with code 1, the document says 0"},
		"stderr is shown":                {blocks: []Block{block(Here, "echo why >&2; false")}, want: "why"},
		"a code that is said":            {blocks: []Block{exits3}},
		"a code that did not come":       {blocks: []Block{{Class: Here, Exit: 3, Code: Code{Text: "true"}}}, want: "code 0, the document says 3"},
		"the first failing line ends it": {blocks: []Block{block(Here, "false\ntrue")}, want: "code 1"},
		"unset variables are mistakes":   {blocks: []Block{block(Here, "echo $NO_SUCH_VARIABLE")}, want: "code"},
		"another output":                 {blocks: []Block{block(Here, "echo a"), block(Output, "b")}, want: "write into it what was printed"},
		"an output of something else":    {blocks: []Block{block(Here, "echo a"), block(NotRun, "x"), block(Output, "b")}},
		"a measurement is repeated":      {blocks: []Block{{Class: Here, Again: true, Code: Code{Text: "echo a >> f; wc -l < f"}}, block(Output, "3")}},
		"but not for ever":               {blocks: []Block{{Class: Here, Again: true, Code: Code{Text: "echo a >> f; wc -l < f"}}, block(Output, "4")}, want: "out of date"},
		"other commands are not":         {blocks: []Block{block(Here, "echo a >> f; wc -l < f"), block(Output, "2")}, want: "out of date"},
		"a failure ends the page":        {blocks: []Block{block(Here, "exit 4"), block(Here, "exit 5")}, want: "code 4"},
		"other classes are left alone":   {blocks: []Block{block(Lab, "false"), block(Output, "b")}},
		"a namespace stands for another": {ns: "ns-7", blocks: []Block{block(Here, "echo -n default x.default.svc default; echo -n=default"), block(Output, "…")}},
		"background":                     {blocks: []Block{{Class: Here, Background: true, Code: Code{Text: "sh -c 'echo up; exec sleep 600'"}}, block(Here, "true")}},
		"background that ends":           {blocks: []Block{{Class: Here, Background: true, Code: Code{Text: "false"}}}, want: "and ended"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := runPage(t, t.TempDir(), tt.ns, tt.blocks...)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if name == "a failure ends the page" && strings.Contains(got, "code 5") {
				t.Error("it went on")
			}
		})
	}
}

func TestNamespace(t *testing.T) {
	s := Session{Namespace: "ns-7"}
	got := s.script(block(Here, "a -n default --namespace=default x.default.svc --default serviceaccount:default:y"))
	if want := "a -n ns-7 --namespace=ns-7 x.ns-7.svc --default serviceaccount:ns-7:y"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDesk(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	write(t, root, "examples/a.yaml", "x")
	if err := Desk(root, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "examples", "a.yaml")); err != nil {
		t.Error(err)
	}
	write(t, dir, "new", "")
	if _, err := os.Stat(filepath.Join(root, "new")); err == nil {
		t.Error("what is written at the desk lands in the repository")
	}
}
