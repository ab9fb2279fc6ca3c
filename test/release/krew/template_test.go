package krew_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grpclb/kubectl-grpclb/test/release/krew"
)

// TestRender holds the rendering against what the bot's own tests and README
// promise of its functions.
func TestRender(t *testing.T) {
	sum := func(uri string) (string, error) {
		if !strings.HasPrefix(uri, "https://example.com/") {
			return "", errors.New("404 Not Found")
		}
		return "abc123", nil
	}
	tests := map[string]struct{ template, want, wantErr string }{
		"the tag": {
			template: "version: {{ .TagName }}\n",
			want:     "version: v0.3.1\n",
		},
		"uri and hash under a key": {
			template: "  - selector: {}\n    {{addURIAndSha \"https://example.com/{{ .TagName }}/x.zip\" .TagName }}\n    bin: x\n",
			want:     "  - selector: {}\n    uri: https://example.com/v0.3.1/x.zip\n    sha256: abc123\n    bin: x\n",
		},
		"uri and hash at a dash": {
			template: "  - {{addURIAndSha \"https://example.com/x.zip\" .TagName }}\n",
			want:     "  - uri: https://example.com/x.zip\n    sha256: abc123\n",
		},
		"deeper": {
			template: "      {{addURIAndSha \"https://example.com/x.zip\" .TagName | indent 6 }}\n",
			want:     "      uri: https://example.com/x.zip\n      sha256: abc123\n",
		},
		"the number in a file name": {
			template: "{{ addURIAndSha \"https://example.com/x_{{ slice .TagName 1 }}.zip\" .TagName }}\n",
			want:     "uri: https://example.com/x_0.3.1.zip\n    sha256: abc123\n",
		},
		"a comment leaves nothing": {
			template: "{{- /*\nwhy\n*/ -}}\napiVersion: x\n",
			want:     "apiVersion: x\n",
		},
		"an archive that is not there": {
			template: "{{ addURIAndSha \"https://example.org/x.zip\" .TagName }}",
			wantErr:  "hash of https://example.org/x.zip: 404 Not Found",
		},
		"a value that the bot does not know": {
			template: "{{ .Version }}",
			wantErr:  "can't evaluate field Version",
		},
		"a function that the bot does not have": {
			template: `{{ trimPrefix "v" .TagName }}`,
			wantErr:  `function "trimPrefix" not defined`,
		},
		"the bot's functions are not for the uri": {
			template: "{{ addURIAndSha \"https://example.com/{{ indent 2 .TagName }}\" .TagName }}",
			wantErr:  `function "indent" not defined`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := krew.Render([]byte(tt.template), "v0.3.1", sum)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
