package quote

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"

	goyaml "go.yaml.in/yaml/v2"
)

// longestKey bounds the keys of documents in the block style: one beyond 1024 characters would need another notation.
const longestKey = 1000

var errNotPlain = errors.New("text that cannot stand in YAML as it is")

// blockYAML turns indented JSON into YAML's block style with the keys sorted: the bytes of sigs.k8s.io/yaml, whose own function of this
// kind reads the JSON with a YAML parser, at several times the cost.
func blockYAML(raw []byte) ([]byte, error) {
	if !plain(raw) {
		return nil, errNotPlain
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	return goyaml.Marshal(numbers(doc))
}

// plain reports whether all of a JSON document may stand in YAML as it is: DEL and C1 may not, and no key may be long.
func plain(raw []byte) bool {
	for line := range bytes.Lines(raw) { // a key stands on one line with the beginning of its value, and no text has a line break
		if key, _, ok := bytes.Cut(line, []byte(`": `)); ok && len(key) > longestKey {
			return false
		}
	}
	return !bytes.ContainsFunc(raw, func(r rune) bool { return r >= 0x7f && r < 0xa0 })
}

// numbers gives JSON's numbers the types by which YAML tells integers from others.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = numbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
	case json.Number:
		return number(v)
	}
	return v
}

func number(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u
	}
	if f, err := n.Float64(); err == nil {
		return f
	}
	return n.String()
}
