package settings

import (
	"encoding/json"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/golden"
	"github.com/grpclb/kubectl-grpclb/internal/testkit/schematest"
)

//go:generate go test . -run ^TestSchema$ -update

const published = "../../../docs/schema/sidecar.v1alpha1.schema.json"

// TestSchema: the published schema is fresh, and is of one mind with the parser
// about every file of the corpus, but for those that are listed as beyond it.
func TestSchema(t *testing.T) {
	schema := schematest.Compile(t, golden.JSON(t, published, Schema()))
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

// asJSON turns what a YAML library made into what a JSON library would have made.
func asJSON(t *testing.T, v any) any {
	t.Helper()
	if _, err := json.Marshal(v); err != nil {
		return map[any]any{} // a key that is no text
	}
	return schematest.Decoded(t, v)
}
