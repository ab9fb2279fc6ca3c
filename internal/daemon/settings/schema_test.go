package settings

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

//go:generate go test . -run ^TestSchema$ -update

const published = "../../../docs/schema/sidecar.v1alpha1.schema.json"

// TestSchema: the published schema is fresh, and is of one mind with the parser
// about every file of the corpus, but for those that are listed as beyond it.
func TestSchema(t *testing.T) {
	fresh, err := json.MarshalIndent(Schema(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	fresh = append(fresh, '\n')
	if *update {
		if err := os.WriteFile(published, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, fresh) {
		t.Errorf("%s is not what the table says: run `make generate`", filepath.Clean(published))
	}
	schema := compile(t, kept)
	for archive, want := range map[string]bool{"accepted.txtar": true, "refused.txtar": false, "refused-by-parser.txtar": true} {
		for _, f := range open(t, archive).archive.Files {
			if !strings.HasSuffix(f.Name, ".yaml") {
				continue
			}
			var v any
			if err := yaml.Unmarshal(f.Data, &v); err != nil {
				if want && archive == "accepted.txtar" {
					t.Errorf("%s: %v", f.Name, err)
				}
				continue // what is no YAML, or holds itself, never comes to a schema
			}
			if err := schema.Validate(asJSON(t, v)); (err == nil) != want {
				t.Errorf("%s of %s: the schema says %v", f.Name, archive, err)
			}
		}
	}
}

func compile(t *testing.T, data []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON turns what a YAML library made into what a JSON library would have made.
func asJSON(t *testing.T, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		return map[any]any{} // a key that is no text
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
