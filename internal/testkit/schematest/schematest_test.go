package schematest_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/schematest"
)

// TestBothForms: a schema and a document are the same as Go values and as JSON.
func TestBothForms(t *testing.T) {
	type document struct {
		At    any    `json:"at,omitempty"`
		Count uint64 `json:"count"`
	}
	value := map[string]any{
		"type": "object", "required": []string{"at"},
		"properties": map[string]any{
			"at":    map[string]any{"type": "string", "format": "date-time"},
			"count": map[string]any{"const": uint64(1<<64 - 1)},
		},
	}
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	for form, schema := range map[string]any{"value": value, "JSON": json.RawMessage(raw)} {
		compiled := schematest.Compile(t, schema)
		for name, c := range map[string]struct {
			document any
			fits     bool
		}{
			"a value":            {document{time.Unix(0, 0), 1<<64 - 1}, true},
			"JSON":               {json.RawMessage(`{"at": "2026-11-22T00:00:00Z", "count": 18446744073709551615}`), true},
			"no field":           {document{Count: 1<<64 - 1}, false},
			"another type":       {json.RawMessage(`[]`), false},
			"another format":     {document{"yesterday", 1<<64 - 1}, false},
			"the last digit off": {document{time.Unix(0, 0), 1<<64 - 2}, false},
		} {
			if err := compiled.Validate(schematest.Decoded(t, c.document)); (err == nil) != c.fits {
				t.Errorf("%s by the schema as %s: %v", name, form, err)
			}
		}
	}
}
