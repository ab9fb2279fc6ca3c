package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSelection(t *testing.T) {
	for _, tc := range []struct {
		args     string
		selector string
		names    []string
		err      string
	}{
		{args: "svc/a", names: []string{"a"}},
		{args: "svc/a service/b SERVICES/c svc/a", names: []string{"a", "b", "c"}},
		{args: "svc a b", names: []string{"a", "b"}},
		{args: "services.v1 a", names: []string{"a"}},
		{args: "a", names: []string{"a"}},
		{args: "svc"},
		{args: "svc", selector: "app=x"},
		{selector: "app=x"},
		{err: "which Service?"},
		{args: "svc svc/a", err: "names a type twice"},
		{args: "pod/a", err: "pod/a is not a Service"},
		{args: "svc/", err: "the name of the Service is empty"},
		{args: "svc/a/b", err: `"svc/a/b" is not a Service`},
		{args: "svc/A", err: `"A" cannot be the name of a Service`},
		{args: "svc/a\x1b[31m", err: `"a\x1b[31m" cannot be the name of a Service`},
		{args: "svc/" + strings.Repeat("a", 300), err: `"` + strings.Repeat("a", 63) + `…" cannot be the name of a Service`},
		{args: "pod/" + strings.Repeat("a", 300), err: `"pod/` + strings.Repeat("a", 59) + `…" is not a Service`},
		{args: "svc/a", selector: "app=x", err: "cannot be combined"},
	} {
		got, err := parseSelection("diagnose", strings.Fields(tc.args), tc.selector)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: got error %v, want %q", tc.args, err, tc.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got.names, tc.names) || got.selector != tc.selector {
			t.Errorf("%q: got %+v, %v", tc.args, got, err)
		}
	}
}
