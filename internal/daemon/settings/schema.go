package settings

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Schema is the JSON Schema (draft 2020-12) of the file, made from the same table
// as the parser. It says less than the parser knows: ranges of durations, pairs of
// values that contradict each other and addresses that collide are beyond it. It
// refuses nothing that the parser takes.
func Schema() map[string]any {
	s := root().schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = "https://grpclb.dev/schema/sidecar.v1alpha1.schema.json"
	s["title"] = "Configuration of grpclb-refresher sidecar"
	return s
}

// goDuration is what time.ParseDuration takes, without a sign: none of the fields
// takes a negative time.
const goDuration = `^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$|^0$`

const bounds = `from (\d+) to (\d+)(, or 0: )?`

func (n *node) schema() map[string]any {
	s := map[string]any{}
	if n.What != "" {
		s["description"] = strings.ReplaceAll(n.What, "`", "") + "; takes " + strings.ReplaceAll(n.takes(), "`", "")
	}
	if n.Default != "" && !n.required && !strings.ContainsAny(n.Default, " ") {
		s["default"] = plain(n)
	}
	switch n.kind {
	case object:
		properties := map[string]any{}
		var required []string
		for _, f := range n.fields {
			properties[f.name] = f.schema()
			if f.required {
				required = append(required, f.name)
			}
		}
		s["type"], s["properties"], s["additionalProperties"] = "object", properties, false
		if required != nil {
			s["required"] = required
		}
	case list:
		s["type"], s["items"], s["maxItems"] = "array", n.item.schema(), n.most
		if n.least > 0 {
			s["minItems"] = n.least
		}
	case text:
		s["type"], s["minLength"], s["pattern"] = "string", 1, n.pattern
	case word:
		s["type"], s["enum"] = "string", n.words
	case boolean:
		s["type"] = "boolean"
	case duration:
		s["type"], s["pattern"] = "string", goDuration
	case number:
		s["type"] = "integer"
		if m := regexp.MustCompile(bounds).FindStringSubmatch(n.takes()); m != nil {
			inside := map[string]any{"minimum": integer(m[1]), "maximum": integer(m[2])}
			if m[3] == "" {
				s["minimum"], s["maximum"] = inside["minimum"], inside["maximum"]
			} else {
				s["anyOf"] = []any{map[string]any{"const": 0}, inside}
			}
		}
	}
	return s
}

// plain is a default as a JSON value.
func plain(n *node) any {
	switch n.kind {
	case boolean:
		return n.Default == "true"
	case number:
		return integer(n.Default)
	}
	if s, err := strconv.Unquote(n.Default); err == nil {
		return s
	}
	return fmt.Sprint(n.Default)
}

func integer(s string) int64 {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return v
}
