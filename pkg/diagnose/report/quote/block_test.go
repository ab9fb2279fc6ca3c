package quote_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/report/quote"
)

// TestYAMLIsThatOfKubernetes: harmless documents have the bytes that sigs.k8s.io/yaml gives them, which files of earlier releases have.
func TestYAMLIsThatOfKubernetes(t *testing.T) {
	tricky := []string{
		"", " ", "a: b", "- a", "#", "yes", "no", "on", "y", "n", "null", "~", "true", "1", "1.5", "0x1F", "0o17", "017", "1_000", "1e3", "12e03", ".inf", ".nan", "-", "--- a",
		"2026-11-22", "2026-11-22T02:00:00Z", "12:30:45", "=", "<<", "!x", "&a", "*a", "%a", "@a", "`a", "|", ">", "'", `"`, `\`, "{a}", "[a]", "a,b", "a\nb", "a\n", "\na", "a\n\n", "  a",
		"\ttab", "ä", "漢字", "😀", "a b", strings.Repeat("word ", 60), strings.Repeat("x", 300), "key: |\n  a\n", "10.0.0.1", "fd00::1", "[fd00::1]:80",
	}
	all := map[string]any{
		"strings": tricky, "int": math.MaxInt64, "min": math.MinInt64, "big": uint64(math.MaxUint64), "float": 0.1, "large": 1e21, "small": 1e-9, "negative": -1.5,
		"zero": 0, "yes": true, "no": false, "null": nil, "empty map": map[string]int{}, "empty list": []int{}, "nested": []any{[]any{1, []any{2}}, map[string]any{"a": []any{map[string]any{"b": 1}}}},
	}
	keys := map[string]int{}
	for i, s := range tricky {
		if s == "0o17" || s == "0x1F" {
			continue // beside numbers the library's order of these depends on the order in which a map was walked
		}
		keys[s] = i
	}
	all["keys"] = keys
	for i := range 30 {
		all[fmt.Sprintf("item%d", i)] = i // sorted by people's order, not by bytes
	}
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	want, err := yaml.JSONToYAML(raw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := quote.YAML(all)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestYAMLWithALongKey(t *testing.T) {
	doc := map[string]string{strings.Repeat("k", 1100): "v"}
	out, err := quote.YAML(doc)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]string
	if err := yaml.Unmarshal(out, &back); err != nil || cmp.Diff(doc, back) != "" {
		t.Errorf("%v: %s", err, out)
	}
}
