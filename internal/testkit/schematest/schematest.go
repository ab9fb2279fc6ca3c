// Package schematest holds documents against JSON schemas as a reader in another language would, who has the JSON alone.
//
//	schema := schematest.Compile(t, published)
//	if err := schema.Validate(schematest.Decoded(t, report)); err != nil {
//
// Both take Go values, and JSON as a json.RawMessage.
package schematest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Compile makes a validator. Formats, such as date-time, are demanded and no mere remarks. What is no schema ends the test.
func Compile(t testing.TB, schema any) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", Decoded(t, schema)); err != nil {
		t.Fatal(err)
	}
	out, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Decoded is a document in the form that a validator takes: maps, slices, and numbers with all their digits. What cannot be
// JSON ends the test.
func Decoded(t testing.TB, document any) any {
	t.Helper()
	raw, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
