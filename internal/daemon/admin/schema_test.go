package admin

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/schematest"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/endpoint"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
	"github.com/grpclb/kubectl-grpclb/pkg/refresher/source/static"
)

//go:generate go test . -run ^TestSchema$ -update

const published = "../../../docs/schema/pools.v1alpha1.schema.json"

// TestSchema: the published schema of /debug/pools is what the types and their
// comments say, and fits what is really answered. Readers must not break when a
// field is added, so the published one allows fields that it does not know; the
// test does not.
func TestSchema(t *testing.T) {
	docs := comments(t, ".", "../../version", "../../../pkg/refresher/sidecar")
	open := schematest.Compile(t, golden.JSON(t, published, docs.schema(false)))
	strict := schematest.Compile(t, docs.schema(true))
	all := func(i *Info) {
		i.Late, i.Version.Image, i.Version.Date, i.Version.Modified = []string{"late"}, "example.com/refresher@sha256:0", "2026-11-22T00:00:00Z", true
	}
	for name, source := range map[string]Source{
		"healthy": daemon(same), "troubled": daemon(troubled, busy).with(all), "no targets": daemon(),
		"not served yet": daemon(func(s *sidecar.Stats) { *s = sidecar.Stats{Name: s.Name} }), "real": real(t),
	} {
		for which, schema := range map[string]*jsonschema.Schema{"published": open, "strict": strict} {
			if err := schema.Validate(answer(t, source)); err != nil {
				t.Errorf("%s does not fit the %s schema: %v", name, which, err)
			}
		}
	}
	v, ok := answer(t, daemon(same)).(map[string]any)
	if !ok {
		t.Fatal("it is no object")
	}
	v["aFieldOfTheFuture"] = true
	if err := open.Validate(v); err != nil {
		t.Errorf("an unknown field is refused: %v", err)
	}
	for field, bad := range map[string]any{"at": "yesterday", "targets": []any{map[string]any{}}, "info": nil} {
		was := v[field]
		v[field] = bad
		if open.Validate(v) == nil {
			t.Errorf("%s: %v is accepted", field, bad)
		}
		v[field] = was
	}
}

// real is a source with a target that is really served, and a pod that cannot be
// reached.
func real(t *testing.T) Source {
	t.Helper()
	p, err := sidecar.New(sidecar.Options{
		Listen: []string{"127.0.0.1:0"}, Target: "square.test:1", Opener: static.New(endpoint.At(netip.MustParseAddrPort("127.0.0.1:1"))),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ready := false; !ready; ready, _ = p.Ready() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it is not ready")
		}
	}
	f := daemon()
	f.pools = []sidecar.Stats{p.Stats()}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return f
}

// answer is what a reader in another language sees.
func answer(t *testing.T, source Source) any {
	t.Helper()
	return schematest.Decoded(t, json.RawMessage(get(t, Debug(source, nil), "/debug/pools").Body.Bytes()))
}

// words are what comments say, by "package.Type" and "package.Type.Field".
type words map[string]string

func comments(t *testing.T, dirs ...string) words {
	t.Helper()
	w := words{}
	text := func(g *ast.CommentGroup) string {
		var p doc.Package
		return strings.Join(strings.Fields(string(p.Text(g.Text()))), " ")
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source in %s: %v", dir, err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				g, ok := n.(*ast.GenDecl)
				if !ok || g.Tok != token.TYPE {
					return true
				}
				for _, spec := range g.Specs {
					ts, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					name := f.Name.Name + "." + ts.Name.Name
					if s, ok := ts.Type.(*ast.StructType); ok && g.Doc != nil {
						w[name] = text(g.Doc)
						for _, field := range s.Fields.List {
							for _, n := range field.Names {
								w[name+"."+n.Name] = text(field.Doc)
							}
						}
					}
				}
				return true
			})
		}
	}
	return w
}

func (w words) schema(strict bool) map[string]any {
	defs := map[string]any{}
	s := w.object(reflect.TypeFor[Document](), defs, strict)
	s["$schema"], s["$id"] = "https://json-schema.org/draft/2020-12/schema", "https://grpclb.dev/schema/pools.v1alpha1.schema.json"
	s["title"], s["$defs"] = "What grpclb-refresher answers at /debug/pools", defs
	return s
}

func (w words) object(t reflect.Type, defs map[string]any, strict bool) map[string]any {
	properties := map[string]any{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := w.of(f.Type, defs, strict)
		if f.Type == reflect.TypeFor[time.Duration]() {
			name = strings.ToLower(f.Name) // MarshalJSON writes it, in seconds
		}
		if d := w[t.String()+"."+f.Name]; d != "" {
			p["description"] = d
		}
		properties[name] = p
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	s := map[string]any{"type": "object", "properties": properties, "required": required}
	if d := w[t.String()]; d != "" {
		s["description"] = d
	}
	if strict {
		s["additionalProperties"] = false
	}
	return s
}

func (w words) of(t reflect.Type, defs map[string]any, strict bool) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "number"}
	}
	switch t.Kind() {
	case reflect.Struct:
		if defs[t.String()] == nil {
			defs[t.String()] = w.object(t, defs, strict)
		}
		return map[string]any{"$ref": "#/$defs/" + t.String()}
	case reflect.Slice:
		return map[string]any{"type": []string{"array", "null"}, "items": w.of(t.Elem(), defs, strict)}
	case reflect.Map:
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": w.of(t.Elem(), defs, strict)}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	}
	return map[string]any{"type": "integer"}
}
