package docs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatch(t *testing.T) {
	tests := map[string]struct{ shown, printed, want string }{
		"the same":                   {"a b\n  c", "a  b c\n", ""},
		"nothing":                    {"", "", ""},
		"numbers are weather":        {"49m of 20 kB in 1.5 s at 10.96.0.1", "3m of 1234 kB in 20.25 s at 10.200.7.19", ""},
		"a lone digit is a claim":    {"1 of 3 pods", "3 of 3 pods", `"1" of the document`},
		"names of pods":              {"square-app-8d6987c88-r5gpj", "square-app-5d4f8c9b7f-x2x2x", ""},
		"names of the probe":         {"from grpclb-probe-6os4s4zq", "from grpclb-probe-aaaaaaaa", ""},
		"another Deployment":         {"square-app-8d6987c88-r5gpj", "other-app-8d6987c88-r5gpj", "square-app"},
		"bars":                       {"50m ████", "50m ██", ""},
		"anything":                   {"a … z", "a b c d z", ""},
		"anything may be nothing":    {"a … z", "a z", ""},
		"the last of several":        {"… z", "a z b z", ""},
		"not what follows":           {"a … z", "a b c", `"z" of the document`},
		"more than shown":            {"a b", "a b c", "more was printed"},
		"less than shown":            {"a b c", "a b", `"c" of the document`},
		"JSON on one line":           {"[{\"a\": 1,\n  \"b\": \"x\"}]", `[{"b":"x","a":1}]`, ""},
		"JSON of another kind":       {`{"a": true}`, `{"a":false}`, "of the document"},
		"what is not JSON is words":  {"{a", "{b", "of the document"},
		"the place is told in words": {"one two three four", "one two three 4our", "before it: one two three"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Match(tt.shown, tt.printed)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestCalls(t *testing.T) {
	got, err := Calls(`# kubectl grpclb in-a-comment
kubectl grpclb fix svc/x --strategy headless | kubectl apply -f -
go run ./cmd/kubectl-grpclb diagnose \
  --from "a $B.yaml"   # and so on
if true; then x=$(kubectl-grpclb version -o 'json'); fi
kubectl get svc; echo kubectl grpclb no
kubectl grpclb
`)
	want := [][]string{
		{"fix", "svc/x", "--strategy", "headless"},
		{"diagnose", "--from", "a x.yaml"},
		{"version", "-o", "json"},
		nil,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := Calls("true\nif true\n"); err == nil || !strings.Contains(err.Error(), "line ") {
		t.Errorf("broken commands: %v", err)
	}
}

func TestDocuments(t *testing.T) {
	for name, tt := range map[string]struct {
		lang, text string
		docs       int
		fails      bool
	}{
		"two":         {"yaml", "a: 1\n---\nb: 2\n", 2, false},
		"empty parts": {"yaml", "---\n# nothing\n---\nb: 2\n", 1, false},
		"json":        {"json", `{"a": 1}`, 1, false},
		"a list":      {"json", `[1]`, 0, false},
		"bad yaml":    {"yaml", "a: [1\n", 0, true},
		"bad json":    {"json", "{a}", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Documents(Block{Lang: tt.lang, Code: Code{Text: tt.text}})
			if len(got) != tt.docs || (err != nil) != tt.fails {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestScripts(t *testing.T) {
	for name, tt := range map[string]struct {
		text  string
		want  string
		fails bool
	}{
		"GitHub":            {"on: push\njobs: {a: {runs-on: x, steps: [{uses: y}, {run: echo 1}]}}", "|echo 1", false},
		"without a trigger": {"jobs: {a: {runs-on: x, steps: [{run: echo 1}]}}", "", true},
		"without a machine": {"on: push\njobs: {a: {steps: [{run: echo 1}]}}", "", true},
		"without steps":     {"on: push\njobs: {a: {runs-on: x}}", "", true},
		"a step of neither": {"on: push\njobs: {a: {runs-on: x, steps: [{name: y}]}}", "", true},
		"GitLab":            {"job: {before_script: [a], script: [b, c]}", "a|b|c", false},
		"a colon too many":  {"job: {script: [{echo a: b}]}", "", true},
		"nothing of either": {"a: 1", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			docs, err := Documents(Block{Lang: "yaml", Code: Code{Text: tt.text}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := Scripts(docs[0])
			if strings.Join(got, "|") != tt.want || (err != nil) != tt.fails {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
