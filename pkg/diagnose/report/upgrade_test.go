package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/schematest"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/checks"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/snapfile"
)

// promise is what to do about a document that changed.
const promise = "Scripts and saved files rely on every field of a version. Keep the field as it was and add another one beside it; " +
	"or begin a new version: a new diagnose.APIVersion, schema files and goldens of its own, and these files and their reader stay as they are"

// goldens are kept for ever in docs/schema/golden, two for each document and version: "full" holds every field, "minimal" those that are
// always there. -update adds new fields to those of the version that is written today and takes nothing away.
func goldens(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(schemaDir, "golden", "*.json"))
	if err != nil || len(paths) < 4 && !*golden.Update {
		t.Fatalf("%d goldens, %v: there are two of each document at least", len(paths), err)
	}
	return paths
}

// TestGoldensFitTheirSchema holds the documents of all versions, with the validator that readers use as well, against the schema that was
// published with each.
func TestGoldensFitTheirSchema(t *testing.T) {
	for _, path := range goldens(t) {
		document, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".json"), ".full")
		document = strings.TrimSuffix(document, ".minimal") // report.v1alpha1
		schema := object(t, filepath.Join(schemaDir, document+".schema.json"))
		if err := schematest.Compile(t, schema).Validate(object(t, path)); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
		kind, version, _ := strings.Cut(document, ".")
		if want := "https://grpclb.dev/" + version + "/" + kind + ".schema.json"; schema["$id"] != want {
			t.Errorf("%s: $id %v, want %s", document, schema["$id"], want)
		}
		if schema["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: $schema %v", document, schema["$schema"])
		}
		for name, def := range schema["$defs"].(map[string]any) {
			if d, _ := def.(map[string]any)["description"].(string); d == "" {
				t.Errorf("%s: %s has no description", document, name)
			}
		}
	}
}

// TestVersionIsKept holds today's types against the goldens of today's version.
func TestVersionIsKept(t *testing.T) {
	_, version, _ := strings.Cut(diagnose.APIVersion, "/")
	source := readSource(t)
	for kind, of := range map[string]reflect.Type{"report": reflect.TypeFor[diagnose.Report](), "snapshot": reflect.TypeFor[diagnose.Snapshot]()} {
		schema := source.schema(of, kind, true)
		for name, full := range map[string]bool{"full": true, "minimal": false} {
			t.Run(kind+" "+name, func(t *testing.T) {
				path := filepath.Join(schemaDir, "golden", kind+"."+version+"."+name+".json")
				today := sample(schema, schema, full).(map[string]any)
				if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && *golden.Update {
					golden.JSON(t, path, today)
				}
				kept := object(t, path)
				broken := lost("", kept, today)
				for _, b := range broken {
					t.Errorf("%s: %s", filepath.Base(path), b)
				}
				if len(broken) > 0 {
					t.Log(promise)
					return
				}
				if full {
					comesBack(t, path, of)
				}
				if added := lost("", today, kept); len(added) > 0 && *golden.Update {
					golden.JSON(t, path, today)
				} else if len(added) > 0 {
					t.Errorf("%s lacks fields that are written today (-update adds them, and from then on they are kept):\n%s", filepath.Base(path), strings.Join(added, "\n"))
				}
			})
		}
	}
}

// comesBack reads a golden as the program does and writes it again: nothing may be unknown, nothing may be lost.
func comesBack(t *testing.T, path string, of reflect.Type) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.New(of).Interface()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Errorf("%s can no longer be read: %v\n%s", filepath.Base(path), err, promise)
		return
	}
	if diff := cmp.Diff(object(t, path), schematest.Decoded(t, v)); diff != "" {
		t.Errorf("%s comes back changed (-kept +today):\n%s\n%s", filepath.Base(path), diff, promise)
	}
}

// TestOldSnapshotsLoad loads the saved files of every version and diagnoses them.
func TestOldSnapshotsLoad(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(schemaDir, "golden", "snapshot.*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no snapshots: %v", err)
	}
	for _, path := range append(paths, "../snapfile/testdata/square.snapshot.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			snap, err := snapfile.LoadFile(path)
			if err != nil {
				t.Fatalf("%v\n%s", err, promise)
			}
			r := diagnose.Run(snap, diagnose.Options{Checks: checks.All()})
			if len(r.Services) != len(snap.Targets) {
				t.Errorf("%d Services reported of %d", len(r.Services), len(snap.Targets))
			}
			for _, s := range r.Services {
				for _, f := range s.Findings {
					if strings.HasPrefix(f.Subject, "check/") {
						t.Errorf("%s broke down: %v", f.Check, f.Evidence)
					}
				}
			}
		})
	}
}

// TestLost proves that what breaks readers is noticed.
func TestLost(t *testing.T) {
	const golden = `{"a": "x", "list": [{"b": 1, "c": true}], "map": {"key": "x"}, "may": null}`
	for name, tt := range map[string]struct{ today, want string }{
		"the same":          {`{"a": "y", "list": [{"b": 7, "c": false}], "map": {"key": "z"}, "may": []}`, ""},
		"a field more":      {`{"a": "y", "more": 1, "list": [{"b": 7, "c": false, "d": 1}], "map": {"key": "z"}, "may": null}`, ""},
		"removed":           {`{"list": [{"b": 7, "c": false}], "map": {"key": "z"}, "may": null}`, ".a: is gone"},
		"renamed, inside":   {`{"a": "y", "list": [{"b": 7, "cc": false}], "map": {"key": "z"}, "may": null}`, ".list[].c: is gone"},
		"of another type":   {`{"a": 5, "list": [{"b": 7, "c": false}], "map": {"key": "z"}, "may": null}`, ".a: was a string, is a number"},
		"no list any more":  {`{"a": "y", "list": {"b": 7, "c": false}, "map": {"key": "z"}, "may": null}`, ".list: was a list, is an object"},
		"another inner one": {`{"a": "y", "list": [{"b": "7", "c": false}], "map": {"key": "z"}, "may": null}`, ".list[].b: was a number, is a string"},
	} {
		var was, is any
		if err := errors.Join(json.Unmarshal([]byte(golden), &was), json.Unmarshal([]byte(tt.today), &is)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(lost("", was, is), "\n"); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// lost lists what of a document is gone from another one or has another type there. Values do not matter, and null fits a list.
func lost(at string, was, is any) []string {
	if was == nil || is == nil && typeName(was) == "a list" {
		return nil
	}
	if typeName(was) != typeName(is) {
		return []string{fmt.Sprintf("%s: was %s, is %s", at, typeName(was), typeName(is))}
	}
	var out []string
	switch was := was.(type) {
	case map[string]any:
		now, _ := is.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(was)) {
			v, ok := now[k]
			if !ok {
				out = append(out, at+"."+k+": is gone")
				continue
			}
			out = append(out, lost(at+"."+k, was[k], v)...)
		}
	case []any:
		now, _ := is.([]any)
		if len(was) > 0 && len(now) > 0 {
			out = lost(at+"[]", was[0], now[0])
		}
	}
	return out
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// sample makes a document that fits the schema: with every field, or with those alone that are always there.
func sample(root, node map[string]any, full bool) any {
	if ref, ok := node["$ref"].(string); ok {
		return sample(root, root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), full)
	}
	if c, ok := node["const"]; ok {
		return c
	}
	if words, ok := node["enum"].([]any); ok {
		return words[0]
	}
	kind, _ := node["type"].(string)
	if either, ok := node["type"].([]any); ok {
		kind, _ = either[0].(string)
	}
	switch kind {
	case "object":
		if each, ok := node["additionalProperties"].(map[string]any); ok {
			return map[string]any{"key": sample(root, each, full)}
		}
		required, _ := node["required"].([]string)
		out := map[string]any{}
		for name, p := range node["properties"].(map[string]any) {
			if full || slices.Contains(required, name) {
				out[name] = sample(root, p.(map[string]any), full)
			}
		}
		return out
	case "array":
		return []any{sample(root, node["items"].(map[string]any), full)}
	case "boolean":
		return true
	case "integer", "number":
		return json.Number("1")
	}
	switch d, _ := node["description"].(string); {
	case node["format"] == "date-time":
		return "2026-11-21T12:00:00Z"
	case strings.HasPrefix(d, "ADDRESS:PORT"):
		return "192.0.2.1:50051"
	}
	return "text"
}

func object(t *testing.T, path string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return schematest.Decoded(t, json.RawMessage(raw)).(map[string]any)
}
