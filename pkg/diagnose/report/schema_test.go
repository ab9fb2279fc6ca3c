package report_test

import (
	"encoding"
	"encoding/json"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/schematest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

const schemaDir = "../../../docs/schema"

//go:generate go test . -run ^TestSchemas$ -update

// TestSchemas keeps docs/schema equal to the Go types, and holds real documents against it. A reader of ours must not
// break when a field is added, so the published schemas allow unknown fields; the test does not.
func TestSchemas(t *testing.T) {
	s, r := pinned(t)
	red, err := snapfile.Redact(s, []byte("salt"))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		file, title string
		of          reflect.Type
		documents   []any
	}{
		{"report.v1alpha1.schema.json", "Report of kubectl grpclb diagnose", reflect.TypeFor[diagnose.Report](),
			[]any{r, diagnose.Run(blind(t), diagnose.Options{Checks: checks.All()}), diagnose.Run(red, diagnose.Options{Checks: checks.All()})}},
		{"snapshot.v1alpha1.schema.json", "Snapshot of kubectl grpclb diagnose --save", reflect.TypeFor[diagnose.Snapshot](), []any{s, red, blind(t)}},
	}
	source := readSource(t)
	for _, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			kept := golden.JSON(t, filepath.Join(schemaDir, c.file), source.schema(c.of, c.title, false))
			strict := schematest.Compile(t, source.schema(c.of, c.title, true))
			for _, d := range c.documents {
				if err := strict.Validate(schematest.Decoded(t, d)); err != nil {
					t.Errorf("a real document does not fit the schema: %v", err)
				}
			}
			rejects(t, schematest.Compile(t, kept), schematest.Decoded(t, c.documents[0]))
		})
	}
}

// blind is a snapshot of which every group of facts was denied, with a target that is not there.
func blind(t *testing.T) *diagnose.Snapshot {
	s, _ := pinned(t)
	no := diagnose.Status{State: diagnose.Denied, Reason: "may not look", Hint: "ask"}
	s.Slices, s.Pods, s.Nodes = diagnose.Fact[[]diagnose.Slice]{Status: no}, diagnose.Fact[[]diagnose.Pod]{Status: no}, diagnose.Fact[[]diagnose.Node]{Status: no}
	s.Workloads, s.Metrics = diagnose.Fact[[]diagnose.Workload]{Status: no}, diagnose.Fact[[]diagnose.PodMetrics]{Status: no}
	s.DNS, s.Ports = diagnose.Fact[[]diagnose.DNSAnswer]{Status: no}, diagnose.Fact[[]diagnose.PortProbe]{}
	s.Sockets, s.Probes = diagnose.Fact[[]diagnose.SocketTable]{}, diagnose.Fact[[]diagnose.ProbeRun]{}
	s.Targets = append(s.Targets, diagnose.Key{Namespace: "default", Name: "gone"})
	return s
}

// rejects holds that the schema says anything at all.
func rejects(t *testing.T, schema *jsonschema.Schema, doc any) {
	t.Helper()
	m := doc.(map[string]any)
	if err := schema.Validate(m); err != nil {
		t.Errorf("the published schema rejects a real document: %v", err)
	}
	for field, bad := range map[string]any{"kind": "Pod", "apiVersion": json.Number("1"), "takenAt": "yesterday", "cluster": []any{}} {
		was := m[field]
		m[field] = bad
		if schema.Validate(m) == nil {
			t.Errorf("%s: %v is accepted", field, bad)
		}
		m[field] = was
	}
	m["aFieldOfTheFuture"] = true
	if err := schema.Validate(m); err != nil {
		t.Errorf("an unknown field is rejected: %v", err)
	}
}

// TestSnapshotExample holds the schema against a file as it is saved.
func TestSnapshotExample(t *testing.T) {
	raw, err := os.ReadFile("../snapfile/testdata/square.snapshot.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if err := schematest.Compile(t, readSource(t).schema(reflect.TypeFor[diagnose.Snapshot](), "x", true)).Validate(v); err != nil {
		t.Error(err)
	}
}

// source is what the types' own comments say.
type source struct {
	docs  map[string]string   // "Type" and "Type.Field"
	enums map[string][]string // "Type" -> its constants
}

func readSource(t *testing.T) *source {
	t.Helper()
	s := &source{docs: map[string]string{}, enums: map[string][]string{}}
	paths, err := filepath.Glob("../*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source: %v", err)
	}
	fset := token.NewFileSet()
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				s.read(g)
			}
		}
	}
	return s
}

func (s *source) read(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.docs[spec.Name.Name] = words(g.Doc)
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range st.Fields.List {
				for _, n := range f.Names {
					s.docs[spec.Name.Name+"."+n.Name] = strings.TrimSpace(words(f.Doc) + " " + words(f.Comment))
				}
			}
		case *ast.ValueSpec:
			ty, ok := spec.Type.(*ast.Ident)
			if !ok || g.Tok != token.CONST || len(spec.Values) != 1 {
				continue
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if v, err := strconv.Unquote(lit.Value); err == nil && v != "" {
					s.enums[ty.Name] = append(s.enums[ty.Name], v)
				}
			}
		}
	}
}

func words(g *ast.CommentGroup) string {
	if g == nil {
		return ""
	}
	var p doc.Package
	return strings.Join(strings.Fields(string(p.Text(g.Text()))), " ")
}

func (s *source) schema(t reflect.Type, title string, strict bool) map[string]any {
	defs := map[string]any{}
	out := s.object(t, defs, strict)
	out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	out["$id"] = "https://" + diagnose.APIVersion + "/" + strings.ToLower(t.Name()) + ".schema.json"
	out["title"] = title
	out["$defs"] = defs
	props := out["properties"].(map[string]any)
	if _, ok := props["apiVersion"]; ok {
		props["apiVersion"] = map[string]any{"const": diagnose.APIVersion}
		props["kind"] = map[string]any{"const": t.Name()}
	}
	return out
}

var (
	severity  = reflect.TypeFor[diagnose.Severity]()
	texter    = reflect.TypeFor[encoding.TextMarshaler]()
	moment    = reflect.TypeFor[time.Time]()
	endpoint  = reflect.TypeFor[netip.AddrPort]()
	severable = []any{"info", "low", "medium", "high", "critical"}
)

func (s *source) typeOf(t reflect.Type, defs map[string]any, strict bool) map[string]any {
	switch {
	case t == severity:
		return map[string]any{"enum": severable}
	case t == moment:
		return map[string]any{"type": "string", "format": "date-time"}
	case t == endpoint:
		return map[string]any{"type": "string", "description": "ADDRESS:PORT, an IPv6 address in brackets"}
	case t.Kind() != reflect.Struct && t.Implements(texter):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.typeOf(t.Elem(), defs, strict)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.typeOf(t.Elem(), defs, strict)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.typeOf(t.Elem(), defs, strict)}
	case reflect.String:
		if enum := s.enums[t.Name()]; len(enum) > 0 && t.Name() != "string" {
			all := make([]any, len(enum))
			for i, e := range enum {
				all[i] = e
			}
			return map[string]any{"enum": all}
		}
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Struct:
		if strings.Contains(t.Name(), "[") { // a Fact: its type has no name of its own
			return s.object(t, defs, strict)
		}
		if _, ok := defs[t.Name()]; !ok {
			defs[t.Name()] = nil // stands for itself while its fields are looked at
			defs[t.Name()] = s.object(t, defs, strict)
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	}
	return map[string]any{"type": "integer"}
}

func (s *source) object(t reflect.Type, defs map[string]any, strict bool) map[string]any {
	props := map[string]any{}
	var required []string
	s.fields(t, defs, strict, props, &required)
	slices.Sort(required)
	out := map[string]any{"type": "object", "properties": props}
	if d := s.docs[t.Name()]; d != "" {
		out["description"] = d
	}
	if len(required) > 0 {
		out["required"] = required
	}
	if strict {
		out["additionalProperties"] = false
	}
	return out
}

func (s *source) fields(t reflect.Type, defs map[string]any, strict bool, props map[string]any, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			s.fields(f.Type, defs, strict, props, required)
			continue
		}
		p := s.typeOf(f.Type, defs, strict)
		owner, _, _ := strings.Cut(t.Name(), "[")
		if d := s.docs[owner+"."+f.Name]; d != "" {
			p["description"] = d
		}
		if !strings.Contains(opts, "omit") {
			*required = append(*required, name)
			if p["type"] == "array" {
				p["type"] = []any{"array", "null"} // nil
			}
		}
		props[name] = p
	}
}

// TestJSONFitsSchema holds the reporter's own output against the published schema.
func TestJSONFitsSchema(t *testing.T) {
	schema := schematest.Compile(t, object(t, filepath.Join(schemaDir, "report.v1alpha1.schema.json")))
	_, r := pinned(t)
	text := render(t, func(w io.Writer) error { return report.JSON(w, r) })
	if err := schema.Validate(schematest.Decoded(t, json.RawMessage(text))); err != nil {
		t.Error(err)
	}
}
